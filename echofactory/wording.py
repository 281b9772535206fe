"""
How a number of things is written: singular and plural.
"""


def counted(count: int, thing: str) -> str:
    """Return C{1 connection}, or C{1,063 connections}."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
