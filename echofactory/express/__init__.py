"""
The fast lane: C{express:} in an endpoint string, or C{--reactor=express} for a whole program.
It stands on Twisted alone.
"""


def install() -> None:
    """
    Install the fast lane, over Twisted's epoll reactor, as the reactor of this process.

    @raise ImportError: if the system has no epoll.
    @raise ReactorAlreadyInstalledError: if the process has a reactor.
    """
    # Late: a process that only imports a module of this room has a reactor of its own.
    from echofactory.express.epoll import install as installEPoll

    installEPoll()
