"""Which server is tried next."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence

from .server import Server

REST_S = 30.0
"""How long a failed server is tried after the others. Longer than an attempt, so that one call probes it."""


class Rotation:
    """The order in which each call tries the servers: in turn, and those that failed lately at the end."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)
        # Processes that start together begin with different servers.
        self._turn = itertools.count(random.randrange(len(self._servers)))  # noqa: S311
        self._rest_ends: dict[Server, float] = {}

    def order(self) -> list[Server]:
        """Return the servers in the order for the next call."""
        first = next(self._turn) % len(self._servers)
        turn = self._servers[first:] + self._servers[:first]
        now = time.monotonic()
        # The sort is stable: those that are well stay in turn.
        return sorted(turn, key=lambda server: max(self._rest_ends.get(server, 0.0) - now, 0.0))

    def attempting(self, server: Server) -> None:
        """Note an attempt. After the rest of a server it is the only one until it has ended."""
        if server in self._rest_ends:
            self._rest_ends[server] = time.monotonic() + REST_S

    def worked(self, server: Server) -> None:
        """Note that a server acknowledged an email."""
        self._rest_ends.pop(server, None)

    def failed(self, server: Server) -> None:
        """Note that a server failed: others are tried before it for a while."""
        self._rest_ends[server] = time.monotonic() + REST_S
