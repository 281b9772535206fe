"""
Options of the sockets, of the client and of the server.
"""

from typing import Literal

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.python import usage

from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.net.socketoptions import DSCP_NAMES, SocketOptions, checkCongestion


def parseDSCP(text: str) -> int:
    """Read a code point of Differentiated Services: C{46}, C{EF}."""
    if text.upper() in DSCP_NAMES:
        return DSCP_NAMES[text.upper()]
    if text.isascii() and text.isdecimal() and len(text) < 3 and int(text) < 64:
        return int(text)
    raise ValueError("neither a number from 0 to 63 nor a name such as EF, AF41 or CS1")


def parseCongestion(text: str) -> str:
    """Read a congestion control of TCP that this kernel has."""
    checkCongestion(text)
    return text


FAMILY_FLAGS = (
    Flag("ipv4", "Use only IPv4 addresses of HOST.", short="4"),
    Flag("ipv6", "Use only IPv6 addresses of HOST.", short="6"),
)

DSCP = Option(
    "dscp",
    "VALUE",
    parseDSCP,
    None,
    "Code point of Differentiated Services (DSCP) of the packets: 0 to 63, or a name such as"
    " EF, AF41 or CS1.",
    defaultHelp="the kernel's, 0",
    example="EF",
)

CONGESTION = Option(
    "congestion",
    "NAME",
    parseCongestion,
    None,
    "Congestion control of TCP, one that the kernel has.",
    defaultHelp="the kernel's",
    example="bbr",
)


SOCKET_OPTIONS = (DSCP, CONGESTION)


def readSocketOptions(options: CommandOptions) -> SocketOptions:
    """
    Return the options of the sockets.

    @raise usage.UsageError: if the kernel does not have one of them.
    """
    return options.built(SocketOptions, {"dscp": "dscp", "congestion": "congestion"})


def readFamily(options: CommandOptions, host: str | None) -> Literal[4, 6] | None:
    """
    Return the IP version of the addresses to use; C{None}: both.

    @param host: HOST; C{None}: it was not given.
    @raise usage.UsageError: if both were given, HOST was not, or HOST is an address of the
        other version.
    """
    if options["ipv4"] and options["ipv6"]:
        raise usage.UsageError("-4 and -6: give one of them")
    if not (options["ipv4"] or options["ipv6"]):
        return None
    family: Literal[4, 6] = 4 if options["ipv4"] else 6
    if host is None:
        raise usage.UsageError(f"-{family}: give HOST PORT too")
    if (isIPv6Address if family == 4 else isIPAddress)(host):
        raise usage.UsageError(f"-{family}: {host!r} is not an IPv{family} address")
    return family
