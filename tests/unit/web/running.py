"""A server in a thread on a free port of this machine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from fastapi import FastAPI

from ual_registry.web.serve import StoppableServer, listen


@contextlib.contextmanager
def running(app: FastAPI, *, grace_s: int = 5) -> Iterator[tuple[str, StoppableServer]]:
    """Serve for as long as the context lasts; it gives the address and the server."""
    own = listen("127.0.0.1", 0)
    server = StoppableServer(app, grace_s=grace_s)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{own.getsockname()[1]}", server
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def wait_for(is_so: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)
