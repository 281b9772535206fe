"""
The transports of UNIX sockets. They are Twisted's, except that they do not receive
descriptors (C{SCM_RIGHTS}) if the protocol takes none. The kernel then closes those that a peer
sends. Twisted would receive each of them, close it, and log a line.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IFileDescriptorReceiver


class UNIXServer(unix.Server):
    """An accepted connection."""

    def doRead(self) -> Any:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        if IFileDescriptorReceiver.providedBy(self.protocol):
            return super().doRead()
        return tcp.Connection.doRead(self)


class UNIXClient(unix.Client):
    """A connection to a server."""

    def doRead(self) -> Any:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        if IFileDescriptorReceiver.providedBy(self.protocol):
            return super().doRead()
        return tcp.Connection.doRead(self)


class UNIXConnector(unix.Connector):
    """Makes a connection to a server."""

    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
