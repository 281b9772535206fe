"""
Checks of settings, and the text of values. This room imports no other room.
"""
