"""
Parsers: what an option's text means. A parser knows the form of a value, and its unit.

The settings (dataclasses) check the range of a value, and
L{CommandOptions.built<echofactory.cli.options.CommandOptions.built>} translates what they
refuse. A parser checks a range only if no settings have the value.

Each parser raises C{ValueError}, whose text follows "is": "not a size such as 64".
"""

import re
from collections.abc import Callable
from errno import EADDRINUSE
from ipaddress import IPv6Address, ip_address
from socket import SOCK_STREAM, getaddrinfo, socket
from typing import NamedTuple

from echofactory.client.findrate import NAMES, checkGoal
from echofactory.net.cores import usableCores
from echofactory.net.tracing import Trace
from echofactory.report.live import CHOICES
from echofactory.results.expectations import Expectation
from echofactory.server.faults.settings import Stall
from echofactory.values.checks import checkRate, checkSeconds, checkWhole
from echofactory.values.quantities import DURATION_UNITS_NS, MULTIPLES
from echofactory.workload.arrivals import Poisson
from echofactory.workload.schedule import Rate
from echofactory.workload.stages import MAX_STAGES, Stage, Stages

_SIZES = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_DURATIONS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_PORT = re.compile(r"\d{1,5}", re.ASCII)

MAX_MONITOR_RATE = 1000.0
"""Messages per second of a monitor, which is not a load."""
MAX_WORKERS = 256
"""Processes."""


def parseSize(text: str) -> int:
    """
    Read a size such as C{64}, C{64k}, C{1M} or C{1G} (powers of 1024).

    @return: bytes.
    """
    match = re.fullmatch(r"(\d{1,18})([kMG]?)", text, re.ASCII)
    if match is None:
        raise ValueError("not a size such as 64, 64k, 1M or 1G")
    return int(match[1]) * _SIZES[match[2]]


def parseDuration(text: str) -> float:
    """
    Read a duration such as C{250ms}, C{10s}, C{2m} or C{1h}; a bare number is seconds.

    @return: seconds, 0 or more.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text, re.ASCII)
    if match is None:
        raise ValueError("not a duration such as 250ms, 10s, 2m or 1h")
    return float(match[1]) * _DURATIONS[match[2]]


def parseInterval(text: str) -> float:
    """
    Read a duration of more than 0.

    @return: seconds.
    """
    seconds = parseDuration(text)
    try:
        checkSeconds("interval", seconds)
    except ValueError:
        raise ValueError(
            "not a duration of more than 0, such as 250ms, 10s, 2m or 1h"
        ) from None
    return seconds


def parseWhole(text: str) -> int:
    """Read a whole number, 0 or more."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) is None:
        raise ValueError("not a whole number of up to 9 digits")
    return int(text)


def parseCount(text: str) -> int:
    """Read a number of connections, 1 or more."""
    try:
        checkWhole("count", count := parseWhole(text))
    except ValueError:
        raise ValueError("not a whole number of 1 or more") from None
    return count


def parseWorkers(text: str) -> int:
    """
    Read a number of processes. C{auto} is the number of cores that this process can keep
    busy (L{usableCores}).
    """
    if text == "auto":
        return usableCores()
    try:
        checkWhole("workers", count := parseWhole(text), 1, MAX_WORKERS)
    except ValueError:
        raise ValueError(f"not a whole number from 1 to {MAX_WORKERS}, nor auto") from None
    return count


def parseRate(text: str) -> float:
    """
    Read a number per second, such as C{500} or C{20k} (1k is 1,000).

    @return: 0 or more per second.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text, re.ASCII)
    if match is None:
        raise ValueError("not a rate such as 500 or 20k")
    return float(match[1]) * MULTIPLES[match[2]]


def parseMonitorRate(text: str) -> float:
    """Read the rate of a monitor: more than 0, up to L{MAX_MONITOR_RATE} per second."""
    try:
        checkRate("rate", rate := parseRate(text))
        if rate <= MAX_MONITOR_RATE:
            return rate
    except ValueError:
        pass
    raise ValueError(
        f"not a rate of more than 0 and up to {MAX_MONITOR_RATE:,.0f} per second, such as 0.2"
        " or 5"
    )


def _parseRange(text: str) -> Rate:
    first, dots, last = text.partition("..")
    return Rate(parseRate(first), parseRate(last if dots else first))


def parseRates(text: str) -> Rate | Stages:
    """
    Read a rate, or two: C{1k..20k} rises from one to the other. Or read stages, each with its
    duration: C{500:10s,500..5k:1m}.
    """
    try:
        if ":" not in text:
            return _parseRange(text)
        stages = [part.partition(":") for part in text.split(",")]
        return Stages(
            tuple(Stage(_parseRange(rate), parseDuration(lasts)) for rate, _, lasts in stages)
        )
    except ValueError:
        raise ValueError(
            "not a rate of more than 0 and up to 10M per second, such as 500 or 20k, nor two"
            " rates, such as 1k..20k, nor stages with their durations, such as"
            f" 500:10s,500..5k:1m. At most {MAX_STAGES:,} stages are accepted"
        ) from None


def parseArrivals(text: str) -> Poisson | None:
    """
    Read how messages arrive: C{even}, C{poisson} or C{poisson:SEED}.

    @return: C{None} for even gaps.
    """
    kind, colon, seed = text.partition(":")
    try:
        if text == "even":
            return None
        if kind == "poisson":
            return Poisson(parseSeed(seed)) if colon else Poisson()
    except ValueError:
        pass
    raise ValueError(
        "not one of even, poisson, poisson:SEED. The seed is a whole number of up to 18 digits"
    )


def parseGoals(text: str) -> tuple[Expectation, ...]:
    """Read the limits of response times, such as C{p99<5ms,max<1s}."""
    try:
        goals = tuple(Expectation(part.strip()) for part in text.split(","))
        for goal in goals:
            checkGoal(goal)
    except ValueError:
        raise ValueError(
            "not a goal such as p99<5ms, nor several, such as p50<300us,max<1s. The names are"
            f" {', '.join(NAMES)}. The units are {', '.join(DURATION_UNITS_NS)}"
        ) from None
    return goals


def parseMessage(text: str) -> bytes:
    """Read a message: its bytes as they were typed."""
    return text.encode("utf-8", "surrogateescape")


def parseAddress(text: str) -> str:
    """Read an address of this machine; a link-local one with its zone, C{fe80::1%eth0}."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("not an IPv4 or IPv6 address") from None
    if isinstance(address, IPv6Address) and address.is_link_local and not address.scope_id:
        raise ValueError("a link-local address without its interface, such as fe80::1%eth0")
    try:
        family, kind, _, _, place = getaddrinfo(text, 0, type=SOCK_STREAM)[0]
        with socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        # EADDRINUSE: the machine has the address, but all its ports are in use.
        if error.errno != EADDRINUSE:
            raise ValueError("not an address of this machine") from None
    return str(address)


def parsePort(text: str) -> int:
    """Read a port to connect to, from 1 to 65535."""
    if _PORT.fullmatch(text) is None or not 0 < int(text) < 65536:
        raise ValueError("not a port number from 1 to 65535")
    return int(text)


def parseListeningPort(text: str) -> int:
    """Read a port to listen on, from 0 to 65535. 0: the system chooses."""
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise ValueError("not a port number from 0 to 65535")
    return int(text)


def parseDatagramAddress(text: str) -> tuple[str, int]:
    """Read a host and a port to listen on, such as C{127.0.0.1:7007} or C{[::1]:7007}."""
    host, _, port = text.rpartition(":")
    try:
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address without brackets")
        return parseHost(host), parseListeningPort(port)
    except ValueError:
        raise ValueError(
            "not HOST:PORT, such as 127.0.0.1:7007 or [::1]:7007, with a port from 0 to 65535"
        ) from None


def parseDatagramRate(text: str) -> float:
    """Read the limit of datagrams per second and source, 1 or more."""
    try:
        checkRate("rate", rate := parseRate(text), 1)
    except ValueError:
        raise ValueError("not a rate from 1 to 10M per second, such as 500 or 20k") from None
    return rate


def parseHost(text: str) -> str:
    """Read a host's name or address; an IPv6 address can have brackets."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _URL.match(host):
        raise ValueError("a URL: give two words, such as echo.example 7007")
    try:
        known = host.encode("idna")
    except UnicodeError:
        known = b""
    if not known or re.search(rb"[\s/]", known):
        raise ValueError("not a host's name or address")
    return host


_URL = re.compile(r"[a-z]+://", re.ASCII | re.IGNORECASE)
_WITH_PORT = re.compile(r"([^:\s]+|\[[^]]*\]):(\d{1,5})", re.ASCII)


def parseHostAlone(text: str) -> str:
    """Read C{HOST} of C{HOST PORT}. Many other programs accept C{HOST:PORT}."""
    if match := _WITH_PORT.fullmatch(text):
        raise ValueError(f"a host with a port: give two words, {match[1]} {match[2]}")
    return parseHost(text)


def parseProgress(text: str) -> str:
    """Read when to show a run's progress, one of L{CHOICES}."""
    if text not in CHOICES:
        raise ValueError(f"not one of {', '.join(CHOICES)}")
    return text


def parseStatus(text: str) -> str:
    """
    Read a server endpoint string. A bare port is short for that port of the loopback
    interface.
    """
    if not text.isdecimal():
        return text
    return f"tcp:{parseListeningPort(text)}:interface=127.0.0.1"


def parseTrace(text: str) -> Trace:
    """Read a level of tracing."""
    try:
        return Trace[text.upper()]
    except KeyError:
        raise ValueError("not one of none, connections, data") from None


def parseChance(text: str) -> float:
    """
    Read a probability, such as C{0.01} or C{1e-6}.

    @return: 0 or more.
    """
    number = r"(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?"
    if not re.fullmatch(number, text, re.ASCII | re.IGNORECASE):
        raise ValueError("not a probability such as 0.01 or 1e-6")
    return float(text)


def parseStall(text: str) -> Stall:
    """Read the length of a stall and the time from one to the next, such as C{1s/10s}."""
    lasts, _, every = text.partition("/")
    try:
        return Stall(parseDuration(lasts), parseDuration(every))
    except ValueError:
        raise ValueError(
            "not two durations, the first less than the second, such as 1s/10s"
        ) from None


class _Fault(NamedTuple):
    parse: Callable[[str], object]
    example: str


_FAULTS = {
    "delay": _Fault(parseDuration, "20ms"),
    "jitter": _Fault(parseDuration, "5ms"),
    "throttle": _Fault(parseSize, "1M"),
    "dribble": _Fault(parseSize, "3"),
    "corrupt": _Fault(parseChance, "1e-6"),
    "drop": _Fault(parseChance, "1e-6"),
    "repeat": _Fault(parseChance, "1e-6"),
    "truncate": _Fault(parseSize, "64k"),
    "reset": _Fault(parseChance, "0.01"),
    "stall": _Fault(parseStall, "1s/10s"),
    "refuse": _Fault(parseChance, "0.1"),
}
"""How the value of each fault is read, and an example of it."""


def parseFault(text: str) -> tuple[str, object]:
    """
    Read one fault, such as C{delay=20ms}.

    @return: the name of a field of L{Faults<echofactory.server.faults.settings.Faults>},
        and its value.
    """
    name, equals, given = text.partition("=")
    if name not in _FAULTS:
        raise ValueError(f"not a fault such as delay=20ms. The faults are {', '.join(_FAULTS)}")
    fault = _FAULTS[name]
    if not equals:
        raise ValueError(f"a fault without its value: {name}={fault.example}")
    value = fault.parse(given)
    if not value:
        raise ValueError("a fault without effect: the value must be more than 0")
    return name, value


def parseSeed(text: str) -> int:
    """Read a seed of random numbers."""
    if re.fullmatch(r"\d{1,18}", text, re.ASCII) is None:
        raise ValueError("not a whole number of up to 18 digits")
    return int(text)
