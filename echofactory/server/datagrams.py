"""
The echo over UDP (RFC 862).

L{DatagramGuard} says which datagrams are not answered.
"""

from collections import Counter
from random import getrandbits
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from echofactory.express.addresstext import hostPortText
from echofactory.net.tracing import Trace, dataText
from echofactory.net.udp import NO_PACKET_INFO, PacketInfo
from echofactory.server.guard import UNANSWERED, DatagramGuard, DatagramRefusal
from echofactory.values.quantities import counted

_log = Logger()


class DatagramCounts:
    """
    What came of the datagrams of one service. It logs what is not answered, in a line
    a second at most: who sends them has no say in how much is logged.

    @ivar answered: datagrams.
    @ivar refused: those not answered, by reason.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.answered = 0
        self.refused: Counter[DatagramRefusal] = Counter()
        self._clock = clock
        self._untold: Counter[DatagramRefusal] = Counter()
        self._last = ""
        self._pause: IDelayedCall | None = None

    def note(self, refusal: DatagramRefusal, host: str, port: int) -> None:
        """Count a datagram that is not answered."""
        self.refused[refusal] += 1
        self._untold[refusal] += 1
        self._last = hostPortText(host, port)
        if self._pause is None:
            self._tell()

    def close(self) -> None:
        """Tell what is not told yet; no more will come."""
        if self._pause is not None:
            self._pause.cancel()
            self._tell()
            assert self._pause is not None
            self._pause.cancel()
            self._pause = None

    def _tell(self) -> None:
        self._pause = self._clock.callLater(1.0, self._resume)
        if self._untold:
            _log.warn(
                "did not answer {what}: {reasons}; the last from {peer}",
                what=counted(self._untold.total(), "datagram"),
                reasons=", ".join(
                    f"{count} {UNANSWERED[why]}" for why, count in sorted(self._untold.items())
                ),
                peer=self._last,
            )
            self._untold.clear()

    def _resume(self) -> None:
        self._pause = None
        if self._untold:
            self._tell()


class EchoDatagrams(DatagramProtocol):
    """
    Sends back every datagram that the guard lets through. What the system will not
    send is lost, as any datagram may be. Its transport is an L{DatagramPort}.
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
        @param counts: shared as well.
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
        # Of IPv6 there is more, which an answer needs: which link it is.
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
                # No way there, no room in the queue, or a firewall of this machine's.
                refusal = DatagramRefusal.UNSENT
        if refusal is None:
            self._counts.answered += 1
        else:
            self._counts.note(refusal, host, port)
