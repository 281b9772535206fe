"""
What to send and when, and whether what came back is that. Pure.
"""
