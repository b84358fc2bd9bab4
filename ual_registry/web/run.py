"""One generation between a thread that computes and an event loop that sends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor

from ual_registry.web.engine import Part, Reply
from ual_registry.web.handover import Handover

__all__ = ["Run"]

_Item = Reply | Part | Exception | None
"""What the thread says: a reply, its parts, what went wrong; ``None`` is the end."""

_GATHER_S = 0.01
"""Parts of a stream that come within this time are sent together: no reader sees the difference."""


class Run:
    """A reply whose parts are computed in a thread; ``stop`` ends it at the next part.

    Args:
        executor: Where it is computed.
        begin: Begins the reply; called in the thread.
        done: Called in the event loop when the thread has done its work.
        is_whole: Whether the parts come as one; otherwise those come as one that follow each other closely.
    """

    def __init__(
        self, executor: Executor, begin: Callable[[], Reply], done: Callable[[], None], *, is_whole: bool = False
    ) -> None:
        self._begin, self._is_stopped, self._is_whole = begin, threading.Event(), is_whole
        self._items: Handover[_Item] = Handover(done)
        self._early: list[_Item] = []
        executor.submit(self._compute)

    async def reply(self) -> Reply:
        """Return the reply, once its adapter is chosen and its first part is there; all parts where they come as one.

        Raises:
            Exception: What ``begin`` raised.
        """
        found, *self._early = await self._items.take()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Reply)  # the thread puts it first
        return found

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts, after ``reply``; each holds all that there is by then.

        Raises:
            Exception: What the generation raised.
        """
        found = self._early or await self._items.take()
        while True:
            parts = [own for own in found if isinstance(own, Part)]
            if parts:
                yield _joined(parts)
            for own in found:
                if isinstance(own, Exception):
                    raise own
            if found[-1] is None:
                return
            await self._items.rest(_GATHER_S)
            found = await self._items.take()

    def stop(self) -> None:
        """End the generation; nobody waits for it."""
        self._is_stopped.set()

    def _compute(self) -> None:
        last: list[_Item] = []
        try:
            reply = self._begin()
            with contextlib.closing(reply.parts):
                if self._is_whole:
                    self._hand_over_whole(reply, last)
                else:
                    self._hand_over_parts(reply, last)
        except Exception as error:  # noqa: BLE001  # the event loop tells the client
            last.append(error)
        finally:
            self._items.put(*last, None, is_last=True)

    def _hand_over_whole(self, reply: Reply, last: list[_Item]) -> None:
        """Add a reply and all of its parts as one to what is handed over at the end."""
        last.append(reply)
        held = []
        for part in reply.parts:
            held.append(part)
            if self._is_stopped.is_set():
                break
        if held:
            last.append(_joined(held))

    def _hand_over_parts(self, reply: Reply, last: list[_Item]) -> None:
        """Hand over a reply with its first part, then part after part, the one that ends it together with the end."""
        last.append(reply)
        for part in reply.parts:
            last.append(part)
            if part.finish is None:
                self._items.put(*last)
                last.clear()
            if self._is_stopped.is_set():
                break


def _joined(parts: Sequence[Part]) -> Part:
    return Part("".join(own.text for own in parts), parts[-1].tokens, parts[-1].finish)
