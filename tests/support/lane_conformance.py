"""
Twisted's own tests of TCP, TLS and UNIX connections, on the lane over each of its
reactors. Run by test_express.py, in a process of its own, for these tests run
reactors of their own:

    python -m twisted.trial lane_conformance

Every one passes but those of L{EXCEPTIONS}.
"""

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.test import test_tcp, test_tls, test_unix
from twisted.internet.test.reactormixins import AsyncioSelectorReactor, ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase

from echofactory.express.reactor import ExpressReactor

REACTORS = (EPollReactor, AsyncioSelectorReactor, PollReactor, SelectReactor)

EXCEPTIONS = {
    "test_logPrefix": "the lane does not set the log context (echofactory.express.reactor)",
    "test_avoidLeakingFileDescriptors": "the kernel closes them, and nothing is logged"
    " (echofactory.express.unixtransports)",
}


class Lane(ReactorBuilder):
    """Makes another L{ReactorBuilder} answer with the lane."""

    def buildReactor(self) -> Any:
        return ExpressReactor(super().buildReactor())


def _builders(module: Any) -> list[type[ReactorBuilder]]:
    """Return the builders of which Twisted itself makes test cases for epoll."""
    return [
        value
        for name, value in vars(module).items()
        if f"{name}_EPollReactorTests" in vars(module)
    ]


def _make(builder: type[ReactorBuilder], reactor: Any) -> type[SynchronousTestCase]:
    name = f"Lane_{builder.__name__}_{reactor.__name__}Tests"
    attributes: dict[str, Any] = {"reactorFactory": reactor, "__module__": __name__}
    for method, reason in EXCEPTIONS.items():
        if hasattr(builder, method):
            attributes[method] = _skipping(reason)
    return type(name, (Lane, builder, SynchronousTestCase), attributes)


def _skipping(reason: str) -> Any:
    def test(self: SynchronousTestCase) -> None:
        """Not kept, and said to be so."""

    test.skip = reason  # type: ignore[attr-defined]
    return test


for _module in (test_tcp, test_tls, test_unix):
    for _builder in _builders(_module):
        for _reactor in REACTORS:
            _case = _make(_builder, _reactor)
            globals()[_case.__name__] = _case
del _case
