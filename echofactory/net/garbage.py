"""
When Python searches for garbage: for objects that hold each other, and that nothing else holds.

The whole search looks at each object that can hold others. Until it ends, the process does
nothing else. With 19,000 connections, a client has 340,000 such objects, and its search takes
160 ms. All replies that come meanwhile would seem to be late.
"""

import gc

_SEARCHES = 100
"""Searches among younger objects before a whole search (Python: 10)."""


def searchRarely() -> None:
    """
    Exempt the present objects, which are mostly modules, and search all others ten times less
    often than Python does. This is for programs. A library leaves it to the program.
    """
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _SEARCHES)
