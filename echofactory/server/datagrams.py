"""
The echo over UDP (RFC 862).

L{DatagramGuard} decides which datagrams are answered.
"""

from collections import Counter
from random import getrandbits
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from echofactory.express.addresstext import hostPortText
from echofactory.express.summarylog import SummaryLog
from echofactory.net.packetinfo import NO_PACKET_INFO, PacketInfo
from echofactory.net.tracing import Trace, dataText
from echofactory.server.guard import UNANSWERED, DatagramGuard, DatagramRefusal
from echofactory.values.quantities import counted

_log = Logger()


class DatagramCounts:
    """
    Counts of the datagrams that one service has received. Datagrams that are not answered
    are logged in at most one line per second, because a sender must not control how much
    is logged.

    @ivar answered: number of datagrams that were answered.
    @ivar refused: number of datagrams that were not answered, by reason.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: measures the second between two lines.
        """
        self.answered = 0
        self.refused: Counter[DatagramRefusal] = Counter()
        self._summary = SummaryLog(clock, self._logRefused)

    def note(self, refusal: DatagramRefusal, host: str, port: int) -> None:
        """Count a datagram that is not answered."""
        self.refused[refusal] += 1
        self._summary.note(refusal, lambda: hostPortText(host, port))

    def close(self) -> None:
        """Log the datagrams that are not logged yet. Call this when the ports are closed."""
        self._summary.close()

    def _logRefused(self, counts: dict[str, int], first: str) -> None:
        _log.warn(
            "did not answer {what}: {reasons}; the first from {peer}",
            what=counted(sum(counts.values()), "datagram"),
            reasons=", ".join(f"{count} {UNANSWERED[why]}" for why, count in counts.items()),
            peer=first,
        )


class EchoDatagrams(DatagramProtocol):
    """
    Sends back every datagram that the guard admits. If the system does not send an answer,
    the answer is lost and counted. The transport is an L{DatagramPort}.
    """

    noisy = False
    transport: Any

    def __init__(
        self,
        guard: DatagramGuard,
        counts: DatagramCounts,
        clock: IReactorTime,
        trace: Trace = Trace.NONE,
    ) -> None:
        """
        @param guard: shared by all ports of a service.
        @param counts: shared by all ports of a service.
        @param clock: the clock of the guard's rate limit.
        @param trace: what is logged of each datagram. Default: nothing.
        """
        self._guard = guard
        self._counts = counts
        self._clock = clock
        self._tracing = trace >= Trace.DATA

    def startProtocol(self) -> None:
        self._port = self.transport.getHost().port
        self._guard.ports[self._port] += 1

    def stopProtocol(self) -> None:
        self._guard.ports[self._port] -= 1

    def datagramReceived(
        self, datagram: bytes, addr: tuple[Any, ...], info: PacketInfo = NO_PACKET_INFO
    ) -> None:
        # An IPv6 address has more fields. An answer needs them: they name the interface.
        host, port, *_ = addr
        refusal = self._guard.refusal(host, port, self._clock.seconds(), info)
        if refusal is None:
            if self._tracing:
                _log.info(
                    "echoing {data} to {peer}",
                    data=dataText(datagram),
                    peer=hostPortText(host, port),
                )
            try:
                self.transport.write(datagram, addr, info.replyControl[getrandbits(1)])
            except OSError:
                # There is no route, the queue is full, or a local firewall drops it.
                refusal = DatagramRefusal.UNSENT
        if refusal is None:
            self._counts.answered += 1
        else:
            self._counts.note(refusal, host, port)
