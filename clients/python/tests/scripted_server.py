"""A server that does with each request what a test says: answers, hangs, drips, or closes the connection."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import signal
import socket
import ssl
import threading
import unittest
from contextlib import AbstractContextManager
from typing import Any, Callable, NamedTuple
from unittest import mock

EMAIL: dict[str, Any] = {"to": "jane@example.org", "subject": "Hi", "body": "Hello"}
"""The least that an email has."""


class Received(NamedTuple):
    """A request, as it arrived."""

    start: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """The number of its connection, from 1."""

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.body)
        return fields


def parts_of(request: Received) -> list[Any]:
    """Return the parts of a form, as another implementation reads them."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    form: Any = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    return list(form.iter_parts())


def name_of(part: Any) -> str:
    """Return the name of a field of a form."""
    return str(part["Content-Disposition"].params["name"])


def content_of(part: Any) -> bytes:
    """Return the value of a field of a form, or the content of a file."""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


class Call:
    """One request, and the connection to answer it on."""

    def __init__(self, request: Received, sock: socket.socket, closing: threading.Event) -> None:
        self.request = request
        self.sock = sock
        self.closing = closing


Action = Callable[[Call], bool]
"""Does something with a request. Returns whether the connection stays open."""


def answer(status: int, body: str | dict[str, object], headers: str = "", then_close: bool = False) -> Action:
    """Answer as a whole."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} Some Reason\r\n{headers}Content-Length: {len(content)}\r\n\r\n"

    def act(call: Call) -> bool:
        call.sock.sendall(head.encode() + content)
        return not then_close

    return act


def raw(data: bytes) -> Action:
    """Send bytes, and close the connection."""

    def act(call: Call) -> bool:
        call.sock.sendall(data)
        return False

    return act


def stored(email_id: str = "01990000-0000-7000-8000-000000000000", then_close: bool = False) -> Action:
    """Answer as the service does to an email that it has stored."""
    return answer(200, {"ok": True, "id": email_id}, then_close=then_close)


def failed(status: int, message: str = "the service is busy: try again later") -> Action:
    """Answer as the service does to what it has not stored."""
    return answer(status, {"ok": False, "error_message": message})


def close(_: Call) -> bool:
    """Close the connection without an answer."""
    return False


def hang(call: Call) -> bool:
    """Answer nothing until the test is over."""
    call.closing.wait()
    return False


def drip(call: Call) -> bool:
    """Begin a good answer, and send one byte of a header now and then until the client has gone."""
    call.sock.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    while not call.closing.wait(0.05):
        try:
            call.sock.sendall(b"x")
        except OSError:
            return False
    return False


class ScriptedServer:
    """Listens on loopback. Each request takes the next action; the last one serves all further requests."""

    def __init__(
        self, *actions: Action, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.requests: list[Received] = []
        self.connection_count = 0
        self._actions = list(actions)
        self._tls = tls
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if tls is None else 'https'}://{name}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and close those that there are."""
        self._closing.set()
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connection_count += 1
            threading.Thread(target=self._serve, args=(sock, self.connection_count), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._open.add(sock)
            with sock.makefile("rb") as stream:
                while True:
                    start = stream.readline().decode("latin-1").rstrip("\r\n")
                    if not start:
                        return
                    headers: dict[str, str] = {}
                    for line in iter(stream.readline, b"\r\n"):
                        name, _, value = line.decode("latin-1").partition(":")
                        headers[name.lower()] = value.strip()
                    body = stream.read(int(headers.get("content-length", "0")))
                    request = Received(start, headers, body, number)
                    with self._lock:
                        self.requests.append(request)
                        action = self._actions.pop(0) if len(self._actions) > 1 else self._actions[0]
                    if not action(Call(request, sock, self._closing)):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._open.discard(sock)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class ServerTest(unittest.TestCase):
    """A test that starts scripted servers, which end with it."""

    def allow_interrupts(self) -> None:
        """Let SIGINT interrupt this process and its children: it is ignored in the background of a shell."""
        self.addCleanup(
            signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)
        )

    def serve(
        self, *actions: Action, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> ScriptedServer:
        """Start a server."""
        server = ScriptedServer(*actions, host=host, port=port, tls=tls)
        self.addCleanup(server.close)
        return server


def one_round() -> AbstractContextManager[object]:
    """Let calls end after each server was tried once, as if no time were left for the pause after that."""
    return mock.patch("reliable_email.client.random.uniform", return_value=1e6)


def short_pauses() -> AbstractContextManager[object]:
    """Let calls repeat without waiting."""
    return mock.patch("reliable_email.client.random.uniform", return_value=0.0)


def no_pause() -> AbstractContextManager[object]:
    """Fail a call that pauses, as it does once every server has failed."""
    return mock.patch("reliable_email.client.time.sleep", side_effect=AssertionError("a pause"))


def refused_url() -> str:
    """Return the address of a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
