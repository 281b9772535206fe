"""
What all reactor wrappers have in common.
"""

from typing import Any

from zope.interface import alsoProvides, providedBy


class ReactorWrapper:
    """
    Stands in front of a reactor, and provides what that provides. A subclass answers some
    calls itself. All other calls go to the reactor behind it.
    """

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: the reactor behind it.
        """
        self._reactor = reactor
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
