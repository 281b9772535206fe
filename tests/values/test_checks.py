"""
Settings and public constructors: what makes no sense is refused when it is given.
"""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from echofactory import (
    EchoClientFactory,
    EchoFactory,
    EchoService,
    Expectation,
    Faults,
    FaultyEchoFactory,
    Limits,
    Patience,
    ProbeService,
    Rate,
    Workload,
    probe,
)
from echofactory.client.settings import Opening
from echofactory.server.faults.settings import Stall
from echofactory.server.guard import DatagramGuard
from echofactory.status import ServerStatus, StatusService

NAN, INF = float("nan"), float("inf")
HUGE = 10**5000
"""More digits than Python writes."""


def rate(first: Any = 500, last: Any = 500) -> Rate:
    return Rate(first, last)


def stall(lasts: Any = 1.0, every: Any = 2.0) -> Stall:
    return Stall(lasts, every)


def service(endpoints: Any = (), factory: Any = None, **settings: Any) -> EchoService:
    clock: Any = Clock()
    return EchoService(
        clock, endpoints, EchoFactory() if factory is None else factory, **settings
    )


def clientFactory(workload: Any = None, **settings: Any) -> EchoClientFactory:
    clock: Any = Clock()
    return EchoClientFactory(clock, Workload() if workload is None else workload, **settings)


def probing(endpoint: Any = "tcp:127.0.0.1:7", **settings: Any) -> ProbeService:
    clock: Any = Clock()
    return ProbeService(clock, endpoint, **settings)


def status(endpoint: Any = "tcp:0", **settings: Any) -> StatusService:
    clock: Any = Clock()
    return StatusService(clock, endpoint, ServerStatus(service()), **settings)


def faultyFactory(faults: Any = None, **settings: Any) -> FaultyEchoFactory:
    return FaultyEchoFactory(Clock(), Faults() if faults is None else faults, **settings)


NUMBERS = (
    *((value, TypeError, "is not ") for value in ("5", True, [5], b"5", 1j)),
    *((value, ValueError, "is not ") for value in (NAN, INF, -INF, -1, -0.5, 1e10, HUGE)),
)
"""What is no duration, rate or chance, whether or not 0 is one."""

WHOLE = (
    *((value, TypeError, "is not a whole number of ") for value in ("5", True, 2.0, NAN, [5])),
    *((value, ValueError, "is not ") for value in (-1, 10**19, HUGE)),
)

OF_NO_SETTING: tuple[object, ...] = ("x", 5, [], b"x")
TYPES = tuple((value, TypeError, "is not ") for value in OF_NO_SETTING)

Wrong = tuple[tuple[Any, type[Exception], str], ...]


def fields() -> list[Any]:
    """Return each setting with what it refuses."""
    numbers: dict[Any, tuple[str, ...]] = {
        Workload: ("duration", "hold", "warmUp"),
        Patience: ("connect", "reply", "keepAlive"),
        Opening: ("rate",),
        Limits: ("idle", "keepAlive"),
        Faults: ("delay", "jitter", "corrupt", "drop", "repeat", "reset", "refuse"),
        rate: ("first", "last"),
        stall: ("lasts", "every"),
        service: ("drain", "datagramRate"),
        clientFactory: ("interval",),
        probing: ("rate",),
        status: ("deadlineS",),
        DatagramGuard: ("rate",),
    }
    counts: dict[Any, tuple[str, ...]] = {
        Workload: ("size", "count", "window"),
        Limits: ("connections", "perHost"),
        Faults: ("throttle", "dribble", "truncate"),
        clientFactory: ("connections",),
        probing: ("connections", "size"),
        status: ("connections",),
        faultyFactory: ("seed",),
        DatagramGuard: ("sources",),
    }
    types: dict[Any, tuple[str, ...]] = {
        Workload: ("rate", "arrivals", "churn", "reconnect", "halfClose"),
        Faults: ("stall",),
        clientFactory: ("workload", "patience", "trace", "opening"),
        service: ("factory",),
        probing: ("patience", "trace"),
        EchoFactory: ("limits", "trace"),
        faultyFactory: ("faults", "limits", "trace"),
    }
    return [
        pytest.param(make, name, wrong, id=f"{make.__name__}-{name}")
        for wrong, settings in ((NUMBERS, numbers), (WHOLE, counts), (TYPES, types))
        for make, names in settings.items()
        for name in names
    ]


@pytest.mark.parametrize(("make", "name", "wrong"), fields())
def test_nonsense_is_refused(make: Callable[..., object], name: str, wrong: Wrong) -> None:
    """By one line, which names the field, the value and what is accepted."""
    for value, error, said in wrong:
        with pytest.raises(error) as refused:
            make(**{name: value})
        text = str(refused.value)
        assert f"{name}: " in text
        assert said in text
        assert len(text) < 300


@pytest.mark.parametrize(
    ("make", "settings", "error", "said"),
    [
        (Workload, {"messages": b"ab"}, TypeError, "messages: b'ab' is not a tuple of bytes"),
        (Workload, {"messages": [b"a"]}, TypeError, "messages: [b'a'] is not a tuple of bytes"),
        (Workload, {"messages": ("a",)}, TypeError,
         "messages: number 1: 'a' is not of type bytes"),
        (Workload, {"messages": (b"a", bytearray(b"b"))}, TypeError,
         "messages: number 2: bytearray(b'b') is not of type bytes"),
        (Workload, {"size": 64, "rate": 1000, "duration": 1.0}, TypeError,
         "rate: 1000 is not a Rate, such as Rate(500, 500)"),
        (Workload, {"size": (1 << 40) + 1}, ValueError,
         "size: 1099511627777 is not 1,099,511,627,776 bytes or less"),
        (Opening, {"addresses": "::1"}, TypeError, "addresses: '::1' is not a tuple of IP"),
        (Opening, {"addresses": ("nowhere",)}, ValueError,
         "addresses: number 1: 'nowhere' is not an IPv4 or IPv6 address"),
        (Opening, {"addresses": (5,)}, TypeError, "addresses: number 1: 5 is not an IPv4 or"),
        (Expectation, {"text": "p98"}, ValueError, "text: 'p98' is not an expectation such as"),
        (Expectation, {"text": 5}, TypeError, "text: 5 is not of type str"),
        (service, {"endpoints": "tcp:7007"}, TypeError,
         "endpoints: 'tcp:7007' is not a sequence of endpoint strings or endpoints, such as"),
        (service, {"endpoints": [7007]}, TypeError,
         "endpoints: number 1: 7007 is not an endpoint string, such as 'tcp:7007'"),
        (service, {"endpoints": 7007}, TypeError, "endpoints: 7007 is not a sequence of"),
        (service, {"datagrams": ("127.0.0.1", 7007)}, TypeError,
         "datagrams: number 1: '127.0.0.1' is not a host and a port, such as"),
        (service, {"datagrams": [("127.0.0.1",)]}, ValueError, "datagrams: number 1: ('127"),
        (service, {"datagrams": [("127.0.0.1", "7")]}, TypeError, "datagrams: number 1: port:"),
        (service, {"datagrams": [("127.0.0.1", 65536)]}, ValueError,
         "datagrams: number 1: port: 65536 is not 65,535 or less"),
        (status, {"endpoint": 9465}, TypeError, "endpoint: 9465 is not an endpoint string"),
        (probing, {"endpoint": 7007}, TypeError, "endpoint: 7007 is not an endpoint string"),
    ],
)  # fmt: skip
def test_nonsense_of_other_kinds(
    make: Callable[..., object], settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    """The message begins with the field, and says what is accepted."""
    with pytest.raises(error) as refused:
        make(**settings)
    assert str(refused.value).startswith(said)


@ensureDeferred
async def test_a_run_without_an_endpoint() -> None:
    """It is refused before anything is opened."""
    clock: Any = Clock()
    endpoint: Any = 7007
    with pytest.raises(TypeError, match=r"^endpoint: 7007 is not an endpoint string"):
        await probe(clock, endpoint, Workload())


def test_what_is_accepted() -> None:
    """Whole numbers where any number is, and what is least and greatest."""
    Workload(messages=(), size=1 << 40, duration=1, rate=Rate(1, 10**7), hold=0)
    Patience(connect=1, reply=1e9, keepAlive=0)
    Opening(rate=1e7, addresses=("::1", "fe80::1%lo"))
    Limits(connections=1, perHost=10**18, idle=1)
    Faults(delay=1, jitter=1, throttle=1, drop=1, stall=Stall(1, 2))
    service(("tcp:0",), drain=0, datagrams=(("::1", 0),), datagramRate=1)
    faultyFactory(seed=0)
