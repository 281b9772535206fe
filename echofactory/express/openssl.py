"""
OpenSSL on a socket: what pyOpenSSL does not offer for a connection that exists already, and
its functions without pyOpenSSL's work for each call.

A function of OpenSSL returns a count or a result. If it is not positive, L{errorOf} tells
why. It has to be the next call.
"""

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

_library: Any = Binding.lib
_ffi: Any = Binding.ffi

read: Any = _library.SSL_read
"""C{read(ssl, memory, size)} returns the bytes that were read."""

write: Any = _library.SSL_write
"""C{write(ssl, data, size)} returns the bytes that were sent, at most a record."""

shutdown: Any = _library.SSL_shutdown
"""C{shutdown(ssl)} sends the closing alert. It returns 1 if the peer's has arrived, and 0 if
it has not."""

pointerTo: Any = _ffi.from_buffer
"""C{pointerTo(data) + offset} is the place of the rest of the data."""

RECORD = 1 << 14
"""Bytes of the largest record of TLS (RFC 8446, section 5.1). A read of so many bytes leaves
nothing in OpenSSL, so that epoll reports all data that is left."""

MOST = 1 << 30
"""Bytes of a call of C{write}, at most. Its argument has 32 bits."""

READ_SIZE = 4 * RECORD
"""Bytes that a protocol receives at most at once."""

_MODE = _library.SSL_MODE_ENABLE_PARTIAL_WRITE | _library.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER


class ReadBuffer:
    """
    The memory that OpenSSL writes received data to. The connections of a lane share it.

    @ivar memory: the argument of C{read}.
    @ivar view: C{view[0:received]} copies the data.
    """

    def __init__(self) -> None:
        self.memory = _ffi.new("char[]", READ_SIZE)
        self.view = _ffi.buffer(self.memory)


def putOnSocket(handle: SSL.Connection, socket: Any) -> Any:
    """
    Let a connection of OpenSSL read and write a socket, instead of buffers in memory. All that
    was set stays as it is.

    @param handle: a connection that was made without a socket.
    @return: the first argument of the functions of this module.
    @raise MemoryError: if OpenSSL has no memory.
    """
    ssl = handle._ssl
    if not _library.SSL_set_fd(ssl, socket.fileno()):
        raise MemoryError("OpenSSL has no memory for a connection")
    # OpenSSL has freed the buffers.
    handle._into_ssl = handle._from_ssl = None
    handle._socket = socket
    _library.SSL_set_mode(ssl, _MODE)
    return ssl


def takeOffSocket(handle: SSL.Connection) -> None:
    """
    Give the connection buffers in memory. The next connection can have the same descriptor,
    and a protocol can still call methods of the handle.
    """
    into, out = (_library.BIO_new(_library.BIO_s_mem()) for _ in range(2))
    _library.SSL_set_bio(handle._ssl, into, out)
    handle._socket = None
    handle._into_ssl = into
    handle._from_ssl = out


def handshake(handle: SSL.Connection) -> Exception | None:
    """
    Go on with the handshake.

    @return: C{None}: it is complete. Otherwise pyOpenSSL's exception.
    """
    return _caught(handle.do_handshake)


def verification(handle: SSL.Connection) -> tuple[int, str]:
    """
    Tell what OpenSSL thinks of the peer's certificate, during or after the handshake.

    @return: the number of the error (C{X509_V_ERR_...}) and OpenSSL's text of it; 0: there is
        none.
    """
    number = _library.SSL_get_verify_result(handle._ssl)
    text = _ffi.string(_library.X509_verify_cert_error_string(number))
    return number, text.decode("ascii", "backslashreplace")


def errorOf(handle: SSL.Connection, ssl: Any, result: int) -> Exception:
    """
    @param result: what the last call returned.
    @return: pyOpenSSL's exception for it.
    """
    return _caught(handle._raise_ssl_error, ssl, result) or SSL.Error([])


def _caught(method: Callable[..., object], *arguments: object) -> Exception | None:
    """Return what a method of pyOpenSSL raises."""
    try:
        method(*arguments)
    except SSL.SysCallError as error:
        # Otherwise, what is left in OpenSSL's queue would look like an error of the next
        # connection.
        _library.ERR_clear_error()
        return error
    except SSL.Error as error:
        return error
    return None


def isLoss(error: Exception) -> bool:
    """Whether the connection is broken or cut, so that there is no error of TLS itself."""
    if isinstance(error, SSL.SysCallError):
        return True
    queue = error.args[0] if error.args else ()
    return not queue or queue[-1][2].casefold().startswith("unexpected eof")
