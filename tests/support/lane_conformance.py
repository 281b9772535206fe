"""
Twisted's own tests of TCP, TLS and UNIX connections, on the lane over each of its
reactors. Run by test_express.py, in a process of its own, for these tests run
reactors of their own:

    python -m twisted.trial lane_conformance

Every one passes but those of L{EXCEPTIONS}.
"""

from typing import Any

from conformance import builders, case
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.test import test_tcp, test_tls, test_unix
from twisted.internet.test.reactormixins import AsyncioSelectorReactor, ReactorBuilder

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


for _builder in builders([test_tcp, test_tls, test_unix]):
    for _reactor in REACTORS:
        _name = f"Lane_{_builder.__name__}_{_reactor.__name__}Tests"
        globals()[_name] = case(f"{__name__}.{_name}", (Lane, _builder), _reactor, EXCEPTIONS)
