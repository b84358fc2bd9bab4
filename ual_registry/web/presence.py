"""What is done for a client, for as long as the client is there."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from ual_registry.web.failure import ClientGoneError

__all__ = ["Presence"]


class Presence:
    """A context that ends early where the client goes away; what is done in it is cancelled then.

    Args:
        receive: Tells of the client; its request was read.

    Raises:
        ClientGoneError: The client went away.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_over = self._has_left = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before = task, task.cancelling()
        self._watch = asyncio.create_task(self._gone())
        self._watch.add_done_callback(self._left)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._watch.cancel()
        if self._has_left and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise ClientGoneError from error

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _left(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and watch.exception() is None and not self._is_over:
            self._has_left = True
            self._task.cancel()
