"""
The former place of C{InTurn}, which is now L{echofactory.OrderedServices}.
"""

from typing import Any
from warnings import warn


def __getattr__(name: str) -> Any:
    if name != "InTurn":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(
        "echofactory.service.InTurn is deprecated: use echofactory.OrderedServices",
        DeprecationWarning,
        stacklevel=2,
    )
    from echofactory.server.service import OrderedServices

    return OrderedServices
