"""The door of a server: so many requests at once, so many that wait, and none once it closes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from ual_registry.web.failure import HttpError

__all__ = ["Gate"]

_LONGEST_RETRY_S = 60
_WEIGHT = 0.2
"""Weight of the newest request in the mean time that one takes."""


class Gate:
    """Counts requests in one event loop.

    Args:
        running: Requests at once.
        waiting: Requests that wait beside them.

    Attributes:
        running: Requests that run now.
        is_closed: Whether no more are let in.
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self._most_running, self._most_waiting = running, waiting
        self._line: deque[asyncio.Future[None]] = deque()
        self._mean_s = 1.0
        self.running = 0
        self.is_closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return len(self._line)

    def enter_at_once(self) -> float | None:
        """Take a place where one is free, and return when that was, for ``leave``.

        Raises:
            HttpError: The server stops.
        """
        if self.is_closed:
            raise _stopping()
        if self.running >= self._most_running or self._line:
            return None
        self.running += 1
        return time.monotonic()

    async def enter(self) -> float:
        """Wait for a place, and return when it was got, for ``leave``.

        Raises:
            HttpError: Too many wait already, or the server stops.
        """
        since = self.enter_at_once()
        if since is not None:
            return since
        if len(self._line) >= self._most_waiting:
            message = f"{self.running} requests run and {self.waiting} wait; come back later"
            raise HttpError(429, "rate_limit_exceeded", message, headers={"Retry-After": str(self._retry_s())})
        await self._wait()
        return time.monotonic()

    def leave(self, since: float) -> None:
        """Give a place back, to the one that has waited longest.

        Args:
            since: What ``enter`` returned.
        """
        self._mean_s += _WEIGHT * (time.monotonic() - since - self._mean_s)
        self._hand_on()

    def close(self) -> None:
        """Let nobody in any more, and send away who waits; what runs goes on."""
        self.is_closed = True
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_exception(_stopping())

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
            elif place.done() and not place.cancelled() and place.exception() is None:
                self._hand_on()  # it was given a place in the same moment
            raise

    def _hand_on(self) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1

    def _retry_s(self) -> int:
        expected_s = self._mean_s * (self.waiting + 1) / self._most_running
        return min(max(math.ceil(expected_s), 1), _LONGEST_RETRY_S)


def _stopping() -> HttpError:
    return HttpError(503, "stopping", "the server is stopping", headers={"Retry-After": "5"})
