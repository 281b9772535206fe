"""
The versions that each program shows. To know them, nothing else of Twisted is loaded.
"""

from twisted import __version__ as twistedVersion

from echofactory._version import __version__


def versionText() -> str:
    """Return the versions, in one line."""
    return f"echofactory {__version__} (Twisted {twistedVersion})"
