"""
What twistd finds: the C{multiecho} command.
"""

from twisted.application.service import ServiceMaker

multiecho = ServiceMaker(
    "echofactory server",
    "echofactory.service",
    "An echo server for many connections (RFC 862).",
    "multiecho",
)
