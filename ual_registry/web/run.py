"""One generation between a thread that computes and an event loop that sends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from fastapi import Request

from ual_registry.web.engine import Part, Reply
from ual_registry.web.failure import ClientGoneError
from ual_registry.web.handover import Handover

__all__ = ["Run", "until_gone"]

T = TypeVar("T")
_Item = Reply | Part | Exception | None
"""What the thread says: a reply, its parts, what went wrong; ``None`` is the end."""

_GATHER_S = 0.01
"""Parts of a stream that come within this time are sent together: no reader sees the difference."""


class Run:
    """A reply whose parts are computed in a thread; ``stop`` ends it at the next part.

    Args:
        executor: Where it is computed.
        begin: Begins the reply; called in the thread.
        done: Called in the event loop when the thread is free again.
        is_whole: Whether the parts come as one; otherwise those come as one that follow each other closely.
    """

    def __init__(
        self, executor: Executor, begin: Callable[[], Reply], done: Callable[[], None], *, is_whole: bool = False
    ) -> None:
        self._begin, self._is_stopped, self._is_whole = begin, threading.Event(), is_whole
        self._items: Handover[_Item] = Handover()
        self._early: list[_Item] = []
        self._work = asyncio.get_running_loop().run_in_executor(executor, self._compute)
        self._work.add_done_callback(lambda _: done())

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
            self._generate(last)
        except Exception as error:  # noqa: BLE001  # the event loop tells the client
            last.append(error)
        finally:
            self._items.put(*last, None, is_urgent=True)

    def _generate(self, last: list[_Item]) -> None:
        """Hand over a reply and its parts; what comes as one is added to what is handed over at the end."""
        reply = self._begin()
        held: list[Part] = []
        with contextlib.closing(reply.parts):
            if self._is_whole:
                last.append(reply)
            else:
                self._items.put(reply)
            for part in reply.parts:
                if self._is_whole:
                    held.append(part)
                else:
                    self._items.put(part)
                if self._is_stopped.is_set():
                    break
        if held:
            last.append(_joined(held))


def _joined(parts: Sequence[Part]) -> Part:
    return Part("".join(own.text for own in parts), parts[-1].tokens, parts[-1].finish)


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what some work returns, unless the client goes away first: then it is cancelled.

    Args:
        request: A request whose body was read.
        work: The work.

    Raises:
        ClientGoneError: The client went away.
        Exception: What the work raised.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for own in (task, gone):
            own.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
