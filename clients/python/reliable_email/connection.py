"""One connection to one server: how it is made, and one exchange after another on it, each within a deadline.

http.client parses the answers. Its own timeout applies to each call of the socket, so a server that sends
a byte now and then could hold a caller for ever. Here every call gets what is left until the deadline.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, cast

from .deadline import Deadline
from .resolver import Addresses, Resolver
from .server import Server

ANSWER_BYTES_MAX = 65_536
"""With its head. The service's own answers are far smaller."""


class Answer(NamedTuple):
    """What a server answered, whoever it was."""

    status: int
    body: bytes
    keeps_connection: bool
    """Whether another request may follow on the connection."""


class Connection:
    """A connection that carries one exchange at a time. After an error it must be closed."""

    def __init__(
        self, server: Server, resolver: Resolver, tls: ssl.SSLContext | None, deadline: Deadline
    ) -> None:
        """Connect, with TLS if ``tls`` is given. Raises OSError."""
        self.has_heard = False
        """Whether any byte of the current answer arrived."""
        sock = _connect(resolver.resolve(server.host, server.port, deadline), deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock.settimeout(deadline.left())
                sock = tls.wrap_socket(sock, server_hostname=server.host)
        except BaseException:
            sock.close()
            raise
        self._socket = sock

    def exchange(self, request: Sequence[bytes], deadline: Deadline) -> Answer:
        """Send a request, piece by piece, and return its answer. Raises OSError or HTTPException."""
        self.has_heard = False
        incoming = _Incoming(self, self._socket, deadline)
        try:
            self._send(request, deadline)
        except OSError:
            # A server may refuse a large body before it has read it all, and close. Its answer counts more.
            with contextlib.suppress(OSError, HTTPException):
                return _receive(incoming)._replace(keeps_connection=False)
            raise
        return _receive(incoming)

    def is_open(self) -> bool:
        """Whether the server has neither closed the connection nor sent anything unasked."""
        try:
            self._socket.settimeout(0)
            # Not as an SSLSocket, which would read, and cannot peek.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close it, without waiting for the server."""
        self._socket.close()

    def _send(self, request: Sequence[bytes], deadline: Deadline) -> None:
        for piece in request:
            rest = memoryview(piece)
            while rest:
                self._socket.settimeout(deadline.left())
                rest = rest[self._socket.send(rest) :]


class _Incoming(io.RawIOBase):
    """What arrives on a socket until a deadline. Closing it leaves the socket open."""

    def __init__(self, connection: Connection, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._connection = connection
        self._socket = sock
        self._deadline = deadline
        self._bytes_left = ANSWER_BYTES_MAX

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(self._deadline.left())
        count = self._socket.recv_into(buffer)
        self._connection.has_heard = self._connection.has_heard or count > 0
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise HTTPException("the answer is too long")
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """All that HTTPResponse wants of a socket."""
        return io.BufferedReader(self)


def _connect(addresses: Addresses, deadline: Deadline) -> socket.socket:
    """Connect to the first address that accepts. Each gets a part of the time: one may be silent."""
    error: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left() / (len(addresses) - index))
            sock.connect(address)
        except OSError as failure:
            sock.close()
            error = failure
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error or OSError("the host has no address")


def _receive(incoming: _Incoming) -> Answer:
    response = HTTPResponse(cast(socket.socket, incoming), method="POST")
    try:
        response.begin()
        body = response.read(ANSWER_BYTES_MAX)
    except ValueError as error:
        # From the length of a chunk that is negative.
        raise HTTPException("the answer is malformed") from error
    finally:
        response.close()
    if response.length:
        # HTTPResponse does not report a body that ends before its length.
        raise HTTPException("the answer is cut off, or too long")
    if response.status < HTTPStatus.OK:
        raise HTTPException("an interim answer instead of the final one")
    return Answer(response.status, body, not response.will_close)
