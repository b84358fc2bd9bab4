"""One generation between a thread that computes and an event loop that sends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

from fastapi import Request

from ual_registry.web.engine import Part, Reply
from ual_registry.web.failure import ClientGoneError

__all__ = ["Run", "until_gone"]

T = TypeVar("T")


class Run:
    """A reply whose parts are computed in a thread; ``stop`` ends it at the next part.

    Args:
        executor: Where it is computed.
        begin: Begins the reply; called in the thread.
        done: Called in the event loop when the thread is free again.
        is_whole: Whether the parts come as one: to hand over each of them costs more than a small model's token does.
    """

    def __init__(
        self, executor: Executor, begin: Callable[[], Reply], done: Callable[[], None], *, is_whole: bool = False
    ) -> None:
        self._begin, self._is_stopped, self._is_whole = begin, threading.Event(), is_whole
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[Reply | Part | Exception | None] = asyncio.Queue()
        self._work = self._loop.run_in_executor(executor, self._compute)
        self._work.add_done_callback(lambda _: done())

    async def reply(self) -> Reply:
        """Return the reply, once its adapter is chosen and its first part is there.

        Raises:
            Exception: What ``begin`` raised.
        """
        found = await self._ready.get()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Reply)  # the thread puts it first
        return found

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts, after ``reply``.

        Raises:
            Exception: What the generation raised.
        """
        while (found := await self._ready.get()) is not None:
            if isinstance(found, Exception):
                raise found
            assert isinstance(found, Part)
            yield found

    def stop(self) -> None:
        """End the generation; nobody waits for it."""
        self._is_stopped.set()

    def _compute(self) -> None:
        try:
            reply = self._begin()
            with contextlib.closing(reply.parts):
                self._put(reply)
                for part in self._joined(reply.parts) if self._is_whole else reply.parts:
                    self._put(part)
                    if self._is_stopped.is_set():
                        break
        except Exception as error:  # noqa: BLE001  # the event loop tells the client
            self._put(error)
        finally:
            self._put(None)

    def _joined(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield all parts as one, as far as they came before somebody stopped the generation."""
        texts, last = [], None
        for last in parts:  # the last one is asked for below
            texts.append(last.text)
            if self._is_stopped.is_set():
                break
        if last is not None:
            yield Part("".join(texts), last.tokens, last.finish)

    def _put(self, item: Reply | Part | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there
            self._loop.call_soon_threadsafe(self._ready.put_nowait, item)


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
