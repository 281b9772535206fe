"""
Twisted's own tests of what every reactor does, with the reactor of C{--reactor=express}.
Twisted makes these test cases for a fixed list of its reactors, whatever C{--reactor} names.
Run by test_reactor_option.py, in a process of its own, because they run reactors of their own:

    python -m twisted.trial --reactor=express reactor_conformance

Every one passes except those of L{EXCEPTIONS}.
"""

from importlib import import_module

from conformance import builders, case
from lane_conformance import EXCEPTIONS as LANE

from echofactory.express.epoll import ExpressEPollReactor

SUBJECTS = (
    "core", "fdset", "newtls", "process", "socket", "stdio", "tcp", "threads", "time", "tls",
    "udp", "unix",
)  # fmt: skip
"""Each is one of Twisted's modules of tests."""

_INTERNAL = "it reads private attributes of Twisted's TLS, which the lane does not use"

# The first two fail on Twisted's epoll reactor as well.
EXCEPTIONS = {
    "test_lostFileDescriptor": "Twisted skips it for EPollReactor, by the name of the class",
    "test_changeUID": "it starts this interpreter as another user, who may not reach its file",
    "test_producerAfterStartTLS": _INTERNAL,
    "test_producerSSLFromStart": _INTERNAL,
    "test_startTLSAfterRegisterProducerNonStreaming": _INTERNAL,
    "test_startTLSAfterRegisterProducerStreaming": _INTERNAL,
}

for _subject in SUBJECTS:
    for _builder in builders([import_module(f"twisted.internet.test.test_{_subject}")]):
        _name = f"Express_{_builder.__name__}Tests"
        assert _name not in globals(), _name
        # UDP does not take the lane.
        _exceptions = EXCEPTIONS if _subject == "udp" else {**LANE, **EXCEPTIONS}
        globals()[_name] = case(
            f"{__name__}.{_name}", (_builder,), ExpressEPollReactor, _exceptions
        )
