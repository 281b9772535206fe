"""
What command lines accept: sizes, durations, rates and the like, from text.

Each parser raises L{ValueError}, which says what is accepted.
"""

import re
from collections.abc import Callable
from errno import EADDRINUSE
from ipaddress import IPv6Address, ip_address
from socket import SOCK_STREAM, getaddrinfo, socket

from echofactory.client.findrate import NAMES, Goal
from echofactory.net.keepalive import checkKeepAlive
from echofactory.net.tracing import Trace
from echofactory.report.live import CHOICES
from echofactory.server.faults.settings import Stall
from echofactory.server.workers.cores import usableCores
from echofactory.values.checks import MAX_RATE, MIN_RATE
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import MAX_MESSAGE_SIZE

_SIZES = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_GOAL = re.compile(r"([a-z0-9.]+)\s*<\s*(\d+(?:\.\d+)?)(us|µs|ms|s)", re.ASCII)
_RATES = {"": 1.0, "k": 1e3, "M": 1e6}
MOST_LOW_RATE = 1000.0
"""Messages a second."""
MOST_WORKERS = 256
"""Processes."""
LONGEST_DURATION = 366 * 86400.0
"""Seconds: a year and a day."""

_PORT = re.compile(r"\d{1,5}", re.ASCII)
_DURATIONS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parseSize(text: str) -> int:
    """
    Read a size such as C{64}, C{64k}, C{1M} or C{1G} (powers of 1024).

    @return: bytes.
    @raise ValueError: saying what is accepted.
    """
    match = re.fullmatch(r"(\d+)([kMG]?)", text, re.ASCII)
    if match is None or not 0 < (size := int(match[1]) * _SIZES[match[2]]) <= MAX_MESSAGE_SIZE:
        raise ValueError("not a size from 1 byte to 1024G, such as 64, 64k, 1M or 1G")
    return size


def parseDuration(text: str) -> float:
    """
    Read a duration such as C{250ms}, C{10s}, C{2m} or C{1h}; a bare number is
    seconds.

    @return: seconds, 0 or more.
    @raise ValueError: saying what is accepted.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text, re.ASCII)
    if match is None or (seconds := float(match[1]) * _DURATIONS[match[2]]) > LONGEST_DURATION:
        raise ValueError("not a duration such as 250ms, 10s, 2m or 1h")
    return seconds


def parsePatience(text: str) -> float:
    """
    Read a duration that is more than 0.

    @return: seconds.
    @raise ValueError: saying what is accepted.
    """
    seconds = parseDuration(text)
    if not seconds:
        raise ValueError("not a duration of more than 0, such as 250ms, 10s, 2m or 1h")
    return seconds


def parseKeepAlive(text: str) -> float:
    """
    Read when the kernel asks whether a TCP peer is still there; 0 is never.

    @return: seconds.
    @raise ValueError: saying what is accepted.
    """
    try:
        checkKeepAlive(seconds := parseDuration(text))
    except ValueError:
        raise ValueError("not 0, nor a duration from 1s to 9h, such as 30s or 2m") from None
    return seconds


def parseCount(text: str) -> int:
    """
    Read a number of things.

    @raise ValueError: saying what is accepted.
    """
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) is None or not int(text):
        raise ValueError("not a whole number of 1 or more")
    return int(text)


def parseWorkers(text: str) -> int:
    """
    Read a number of processes; C{auto} is that of the cores this one may keep busy.

    @raise ValueError: saying what is accepted.
    """
    if text == "auto":
        return usableCores()
    try:
        count = parseCount(text)
    except ValueError:
        count = 0
    if not 0 < count <= MOST_WORKERS:
        raise ValueError(f"not a whole number from 1 to {MOST_WORKERS}, nor auto")
    return count


def parseRate(text: str) -> float:
    """
    Read a number a second, such as C{500} or C{20k} (1k is 1,000).

    @raise ValueError: saying what is accepted.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text, re.ASCII)
    if (
        match is None
        or not MIN_RATE <= (rate := float(match[1]) * _RATES[match[2]]) <= MAX_RATE
    ):
        raise ValueError("not a rate above 0 of up to 10M a second, such as 500 or 20k")
    return rate


def parseLowRate(text: str) -> float:
    """
    Read a number a second, of what is to be no load.

    @raise ValueError: saying what is accepted.
    """
    try:
        rate = parseRate(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MOST_LOW_RATE:
        raise ValueError(
            f"not a rate above 0 of up to {MOST_LOW_RATE:,.0f} a second, such as 0.2 or 5"
        )
    return rate


def parseRates(text: str) -> Rate:
    """
    Read a rate, or two: C{1k..20k} rises from one to the other.

    @raise ValueError: saying what is accepted.
    """
    first, dots, last = text.partition("..")
    try:
        return Rate(parseRate(first), parseRate(last if dots else first))
    except ValueError:
        raise ValueError(
            "not a rate above 0 of up to 10M a second, such as 500 or 20k, nor two, such as"
            " 1k..20k"
        ) from None


def parseGoals(text: str) -> tuple[Goal, ...]:
    """
    Read what a rate is to keep, such as C{p99<5ms,max<1s}.

    @raise ValueError: saying what is accepted.
    """
    goals = []
    for part in text.split(","):
        match = _GOAL.fullmatch(part.strip())
        if match is None or match[1] not in NAMES or not float(match[2]):
            raise ValueError(
                f"not such as p99<5ms or p50<300us,max<1s: {', '.join(NAMES)}, less than a time"
            )
        limitNs = int(float(match[2]) * 1e9 * (_DURATIONS | {"us": 1e-6, "µs": 1e-6})[match[3]])
        goals.append(Goal(match[1], limitNs, part.strip()))
    return tuple(goals)


def parseAddress(text: str) -> str:
    """
    Read an address of this machine's; a link-local one with its zone, C{fe80::1%eth0}.

    @raise ValueError: saying what is accepted.
    """
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
        # The address is there, though each of its ports is taken.
        if error.errno != EADDRINUSE:
            raise ValueError("not an address of this machine") from None
    return str(address)


def parsePort(text: str) -> int:
    """
    Read a port to connect to.

    @raise ValueError: saying what is accepted.
    """
    if _PORT.fullmatch(text) is None or not 0 < int(text) < 65536:
        raise ValueError("not a port number from 1 to 65535")
    return int(text)


def parseListeningPort(text: str) -> int:
    """
    Read a port to listen on; 0 has the system choose one.

    @raise ValueError: saying what is accepted.
    """
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise ValueError("not a port number from 0 to 65535")
    return int(text)


def parseDatagramAddress(text: str) -> tuple[str, int]:
    """
    Read a host and a port to echo on over UDP, such as C{127.0.0.1:7} or C{[::1]:7}.

    @raise ValueError: saying what is accepted.
    """
    host, _, port = text.rpartition(":")
    try:
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError("which of the colons is before the port?")
        return parseHost(host), parseListeningPort(port)
    except ValueError:
        raise ValueError(
            "not HOST:PORT, such as 127.0.0.1:7 or [::1]:7, with a port from 0 to 65535"
        ) from None


def parseDatagramRate(text: str) -> float:
    """
    Read how many datagrams a second are answered to one source.

    @return: 1 or more.
    @raise ValueError: saying what is accepted.
    """
    try:
        if (rate := parseRate(text)) >= 1:
            return rate
    except ValueError:
        pass
    raise ValueError("not a rate from 1 to 10M a second, such as 500 or 20k")


def parseHost(text: str) -> str:
    """
    Read a host's name or address; IPv6 may have its brackets.

    @raise ValueError: saying what is accepted.
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not host:
        raise ValueError("not a host's name or address")
    return host


def parseProgress(text: str) -> str:
    """
    Read what is shown of a run.

    @raise ValueError: saying what is accepted.
    """
    if text not in CHOICES:
        raise ValueError(f"not one of {', '.join(CHOICES)}")
    return text


def parseStatus(text: str) -> str:
    """
    Read where to serve the status: a server endpoint string, or for short the port
    on the loopback interface.

    @raise ValueError: saying what is accepted.
    """
    if not text.isdecimal():
        return text
    return f"tcp:{parseListeningPort(text)}:interface=127.0.0.1"


def parseTrace(text: str) -> Trace:
    """
    Read a level of tracing.

    @raise ValueError: saying what is accepted.
    """
    try:
        return Trace[text.upper()]
    except KeyError:
        raise ValueError("not one of none, connections, data") from None


def parseChance(text: str) -> float:
    """
    Read a chance, such as C{0.01} or C{1e-6}.

    @return: more than 0, up to 1.
    @raise ValueError: saying what is accepted.
    """
    number = r"(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?"
    if not re.fullmatch(number, text, re.ASCII | re.IGNORECASE) or not 0 < float(text) <= 1:
        raise ValueError("not a chance of more than 0, up to 1, such as 0.01 or 1e-6")
    return float(text)


def parseStall(text: str) -> Stall:
    """
    Read how long a stall lasts and how often there is one, such as C{1s/10s}.

    @raise ValueError: saying what is accepted.
    """
    lasts, _, every = text.partition("/")
    try:
        return Stall(parsePatience(lasts), parsePatience(every))
    except ValueError:
        raise ValueError(
            "not two durations, the first less than the second, such as 1s/10s"
        ) from None


_FAULTS: dict[str, Callable[[str], object]] = {
    "delay": parsePatience,
    "jitter": parsePatience,
    "throttle": parseSize,
    "dribble": parseSize,
    "corrupt": parseChance,
    "drop": parseChance,
    "repeat": parseChance,
    "truncate": parseSize,
    "reset": parseChance,
    "stall": parseStall,
    "refuse": parseChance,
}


_VALUES = {
    "delay": "20ms",
    "jitter": "5ms",
    "throttle": "1M",
    "dribble": "3",
    "corrupt": "1e-6",
    "drop": "1e-6",
    "repeat": "1e-6",
    "truncate": "64k",
    "reset": "0.01",
    "stall": "1s/10s",
    "refuse": "0.1",
}
"""An example of each fault's value."""


def parseFault(text: str) -> tuple[str, object]:
    """
    Read one fault, such as C{delay=20ms}.

    @return: the name of a field of L{Faults<echofactory.server.faults.settings.Faults>},
        and its value.
    @raise ValueError: saying what is accepted.
    """
    name, equals, value = text.partition("=")
    if name in _FAULTS and not equals:
        raise ValueError(f"a fault without its value: {name}={_VALUES[name]}")
    if name not in _FAULTS:
        raise ValueError(f"not a fault such as delay=20ms; they are {', '.join(_FAULTS)}")
    return name, _FAULTS[name](value)


def parseSeed(text: str) -> int:
    """
    Read what chances come from.

    @raise ValueError: saying what is accepted.
    """
    if re.fullmatch(r"\d{1,18}", text, re.ASCII) is None:
        raise ValueError("not a whole number of up to 18 digits")
    return int(text)
