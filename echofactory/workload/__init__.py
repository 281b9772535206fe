"""
What to send and when, and the check of what comes back. No transport, no clock.
"""
