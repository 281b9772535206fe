"""
Faults on purpose: what they are, and the echo that has them.
"""
