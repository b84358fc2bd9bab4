"""What is written to a client in one round of the event loop, sent as one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["GatheringProtocol", "GatheringTransport"]

_MOST_BYTES = 1 << 16
"""What is held back at most, so that a client that does not read is noticed as soon as ever."""


class GatheringTransport:
    """A transport that holds back what is written until the round of the event loop is over.

    A head, a first event, a last event and the end are written one by one, and each one sent would wake the client.

    Args:
        transport: What sends.
        loop: The event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take in what is to be sent."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST_BYTES:
            self._send()

    def close(self) -> None:
        """Close once everything is sent."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        self._size = 0
        if data and not self._transport.is_closing():  # some transports refuse then
            self._transport.write(data)


class GatheringProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # the one that is installed
    """The server's side of a connection over such a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection."""
        own = cast("asyncio.Transport", transport)  # uvloop's is one by its methods, not by its class
        super().connection_made(GatheringTransport(own, asyncio.get_running_loop()))
