"""
The faults of a server that misbehaves on purpose.
"""
