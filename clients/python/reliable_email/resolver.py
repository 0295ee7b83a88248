"""Names to addresses, within a deadline. The system's resolver has none, and can hang for a minute."""

from __future__ import annotations

import ipaddress
import socket
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from .deadline import Deadline

Addresses = list[tuple[int, int, int, str, Any]]
"""As socket.getaddrinfo returns them."""


class Resolver:
    """Looks each name up in a daemon thread, one for all calls that wait for the name at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], Future[Addresses]] = {}

    def resolve(self, host: str, port: int, deadline: Deadline) -> Addresses:
        """Return the addresses of a host, at least one. Raises OSError."""
        if _is_address(host):
            return _look_up(host, port)
        try:
            return self._pending_look_up(host, port).result(deadline.left())
        except FutureTimeoutError:
            raise TimeoutError("name resolution timed out") from None

    def _pending_look_up(self, host: str, port: int) -> Future[Addresses]:
        with self._lock:
            pending = self._pending.get((host, port))
            if pending is not None:
                return pending
            future = self._pending[host, port] = Future()
            try:
                threading.Thread(target=self._run, args=(host, port, future), daemon=True).start()
            except RuntimeError:
                # While the interpreter exits no thread can be started any more.
                self._run(host, port, future)
            return future

    def _run(self, host: str, port: int, future: Future[Addresses]) -> None:
        try:
            addresses = _look_up(host, port)
        except Exception as error:
            self._pending.pop((host, port), None)
            future.set_exception(error)
        else:
            self._pending.pop((host, port), None)
            future.set_result(addresses)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, port: int) -> Addresses:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError as error:
        # The codec "idna" refuses a label that is empty or over 63 characters.
        raise OSError(f"{host} is not a host name") from error
