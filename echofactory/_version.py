"""
The version of this package. It stands apart, so that every room can name it.
"""

__version__ = "1.0.0rc1"
