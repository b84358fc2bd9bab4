"""Running a server in this process until it is told to stop: what runs is finished, what is new is refused."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ual_registry.errors import RouteError
from ual_registry.web.sending import GatheringProtocol

__all__ = ["StoppableServer", "listen", "run_server"]

_BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: The address of this machine to listen on.
        port: The port; 0 takes a free one.

    Raises:
        RouteError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once; otherwise each would wait some 40 ms.
    own = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind((host, port))
        own.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        own.close()
        raise RouteError(
            f"cannot listen on {host} port {port}: {error}",
            code="address",
            context={"host": host, "port": port},
            hint="give another --port, or 0 for a free one",
        ) from error
    return own


class StoppableServer(uvicorn.Server):
    """A server whose door closes the moment that it is told to stop.

    Args:
        app: What it serves.
        grace_s: Seconds that running requests have then.
    """

    def __init__(self, app: FastAPI, *, grace_s: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GatheringProtocol,
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=grace_s,
                server_header=False,
                proxy_headers=False,
            )
        )
        self._gate = app.state.gate
        self._own_loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        self._own_loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take in a signal to stop."""
        self.stop()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Let nobody in any more, and end once what runs is finished; any thread may say so."""
        if self._own_loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._own_loop.call_soon_threadsafe(self._gate.close)
        self.should_exit = True


def run_server(app: FastAPI, own: socket.socket, *, grace_s: int) -> None:
    """Serve until SIGTERM or SIGINT, in the main thread.

    Args:
        app: What is served.
        own: Where it listens; closed at the end.
        grace_s: Seconds that running requests have at the end.

    Raises:
        KeyboardInterrupt: SIGINT stopped it.
    """
    # The server raises the signal again once all is finished; to be asked to end is no failure.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        StoppableServer(app, grace_s=grace_s).run(sockets=[own])
    finally:
        signal.signal(signal.SIGTERM, before)
