"""The wish to end: SIGTERM is heard between two steps, so that a checkpoint is kept before the run ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

__all__ = ["hearing_sigterm"]


@contextlib.contextmanager
def hearing_sigterm() -> Iterator[Callable[[], bool]]:
    """Hear of SIGTERM instead of being ended by it; on leaving, it ends the process as before.

    Only the main thread of a process can hear of signals; elsewhere none is ever heard.

    Yields:
        A function that tells whether it was heard.
    """
    heard = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield heard.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: heard.set())
    try:
        yield heard.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
