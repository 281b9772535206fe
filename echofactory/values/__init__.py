"""
What a setting or a figure is: checks of a value, and how it reads as text. It stands alone.
"""
