"""Items on their way from a thread to an event loop, which is woken as seldom as can be."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Handover"]

T = TypeVar("T")


class Handover(Generic[T]):
    """A queue from one thread to one coroutine; it is made in the event loop.

    To wake the loop, and to send what woke it, costs more than a small model's token does. The thread therefore wakes
    it only where ``take`` waits, or where the last items come.

    Args:
        ended: Called in the event loop after the last items came.
    """

    def __init__(self, ended: Callable[[], None] | None = None) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._items: deque[T] = deque()
        self._signal = self._loop.create_future()
        self._is_waiting = self._is_over = False

    def put(self, *items: T, is_last: bool = False) -> None:
        """Put items in; the thread calls this. After the last ones nobody rests any more."""
        self._items.extend(items)
        self._is_over = self._is_over or is_last
        # Whoever waits said so before they looked at the items for the last time, so that no item is overlooked.
        if is_last or self._is_waiting:
            self._is_waiting = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there
                self._loop.call_soon_threadsafe(self._end if is_last else self._wake)

    async def take(self) -> list[T]:
        """Return everything that is there, at least one item."""
        while not self._items:
            self._signal = self._loop.create_future()
            self._is_waiting = True
            if not self._items:
                await self._signal
            self._is_waiting = False
        return [self._items.popleft() for _ in range(len(self._items))]

    async def rest(self, seconds: float) -> None:
        """Let items gather for some seconds; the last ones end that."""
        self._signal = self._loop.create_future()
        if self._is_over:
            return
        timer = self._loop.call_later(seconds, self._wake)
        try:
            await self._signal
        finally:
            timer.cancel()

    def _end(self) -> None:
        self._wake()
        if self._ended is not None:
            self._ended()

    def _wake(self) -> None:
        if not self._signal.done():
            self._signal.set_result(None)
