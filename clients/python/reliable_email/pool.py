"""The connections of one process that are kept open between calls."""

from __future__ import annotations

import threading
import time

from .connection import Connection
from .server import Server

KEPT_MAX = 16
"""In all. More calls at the same time open connections of their own, which are closed after them."""

IDLE_MAX_S = 30.0
"""The server closes a connection after 35 s of silence. A firewall may forget one without closing it."""


class Pool:
    """Idle connections, the last used first. Each is checked before it is used again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Server, Connection]] = []
        self._is_closed = False

    def take(self, server: Server) -> Connection | None:
        """Remove and return an open connection to a server, if there is one."""
        while True:
            kept = self._pop(server)
            if kept is None:
                return None
            since, connection = kept
            if time.monotonic() - since < IDLE_MAX_S and connection.is_open():
                return connection
            connection.close()

    def keep(self, server: Server, connection: Connection) -> None:
        """Add a connection on which nothing is under way, in place of the one that was idle longest."""
        surplus: Connection | None = connection
        with self._lock:
            if not self._is_closed:
                self._idle.append((time.monotonic(), server, connection))
                surplus = self._idle.pop(0)[2] if len(self._idle) > KEPT_MAX else None
        if surplus is not None:
            surplus.close()

    def drop(self, server: Server) -> None:
        """Close the idle connections to a server, which has lost one of them."""
        with self._lock:
            dropped = [one for one in self._idle if one[1] == server]
            self._idle = [one for one in self._idle if one[1] != server]
        for _, _, connection in dropped:
            connection.close()

    def close(self) -> None:
        """Close all idle connections now, and others when they are given back."""
        with self._lock:
            self._is_closed = True
            dropped, self._idle = self._idle, []
        for _, _, connection in dropped:
            connection.close()

    def abandon(self) -> None:
        """Close the copies of the connections in a forked child, where the lock may be held for ever."""
        for _, _, connection in self._idle:
            connection.close()

    def _pop(self, server: Server) -> tuple[float, Connection] | None:
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                since, other, connection = self._idle[index]
                if other == server:
                    del self._idle[index]
                    return since, connection
        return None
