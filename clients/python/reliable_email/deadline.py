"""A point in time by which something must have ended."""

from __future__ import annotations

import time


class Deadline:
    """A deadline on the monotonic clock: steps of the wall clock do not move it."""

    def __init__(self, seconds: float, within: Deadline | None = None) -> None:
        """Set it ``seconds`` from now, or at the end of ``within`` if that is earlier."""
        end = time.monotonic() + seconds
        self._end: float = end if within is None else min(end, within._end)

    def allows(self, seconds: float) -> bool:
        """Whether more than ``seconds`` are left."""
        return self._end - time.monotonic() > seconds

    def left(self) -> float:
        """Return the seconds that are left, more than 0. Raises TimeoutError if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left
