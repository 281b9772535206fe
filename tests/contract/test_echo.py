"""
Every implementation of the echo keeps the contract (L{contract.EchoContract}).
"""

from typing import Any

import pytest
from contract import EchoContract

from echofactory import EchoFactory, Faults, FaultyEchoFactory, Limits, Trace

pytestmark = [pytest.mark.reactors, pytest.mark.oldest]


class TestEcho(EchoContract):
    """The echo itself."""

    def makeFactory(self, reactor: Any, limits: Limits | None = None) -> EchoFactory:
        """See L{EchoContract}."""
        return EchoFactory(limits)


class TestFaultyEcho(EchoContract):
    """A faulty echo that is only late."""

    def makeFactory(self, reactor: Any, limits: Limits | None = None) -> EchoFactory:
        """See L{EchoContract}."""
        return FaultyEchoFactory(
            reactor, Faults(delay=0.004, jitter=0.004), limits=limits, trace=Trace.NONE
        )
