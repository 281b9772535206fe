"""
The programs: their options, outputs and exit statuses.
"""
