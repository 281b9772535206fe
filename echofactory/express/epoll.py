"""
The fast lane as the reactor of a whole process: C{twistd --reactor=express}.
"""

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from echofactory.express.lane import IN, OUT
from echofactory.express.reactor import onExpress


class ExpressEPollReactor(EPollReactor):
    """
    Twisted's epoll reactor, whose stream connections take the fast lane. Programs that know
    nothing of the lane run on it unchanged.

    Timers, threads, processes, UDP and signals are those of L{EPollReactor}.

    @cvar hasPorts: its ports are those of L{echofactory.express.ports}.
    """

    hasPorts = True

    def __init__(self) -> None:
        super().__init__()
        self._express: Any = onExpress(self)

    def getReaders(self) -> list[Any]:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        return [*self._express.lane.having(IN), *super().getReaders()]

    def getWriters(self) -> list[Any]:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        return [*self._express.lane.having(OUT), *super().getWriters()]

    def listenTCP(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        return self._express.listenTCP(*arguments, **named)

    def listenSSL(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        return self._express.listenSSL(*arguments, **named)

    def listenUNIX(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorUNIX<twisted.internet.interfaces.IReactorUNIX>}."""
        return self._express.listenUNIX(*arguments, **named)

    def adoptStreamPort(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorSocket<twisted.internet.interfaces.IReactorSocket>}."""
        return self._express.adoptStreamPort(*arguments, **named)

    def connectTCP(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        return self._express.connectTCP(*arguments, **named)

    def connectSSL(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        return self._express.connectSSL(*arguments, **named)

    def connectUNIX(self, *arguments: Any, **named: Any) -> Any:
        """See L{IReactorUNIX<twisted.internet.interfaces.IReactorUNIX>}."""
        return self._express.connectUNIX(*arguments, **named)


def install() -> None:
    """
    Install this reactor as that of the process.

    @raise ReactorAlreadyInstalledError: if the process has a reactor.
    """
    installReactor(ExpressEPollReactor())
