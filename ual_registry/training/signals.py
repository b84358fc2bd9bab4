"""The wish to end: SIGTERM and Ctrl-C are heard between two steps, so that a checkpoint is kept before the run ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

__all__ = ["Wish", "hearing_signals"]

_HEARD = b"\nending after this step, and keeping a checkpoint; again to end at once\n"


@dataclass(slots=True)
class Wish:
    """Whether a run was asked to end.

    Attributes:
        signal: Name of the signal, ``SIGTERM`` or ``SIGINT``; ``None`` where none was heard.
    """

    signal: str | None = None

    def is_heard(self) -> bool:
        """Tell whether it was."""
        return self.signal is not None


@contextlib.contextmanager
def hearing_signals() -> Iterator[Wish]:
    """Hear of SIGTERM and of the first SIGINT instead of being ended by them; on leaving, all is as before.

    A second SIGINT ends at once, as without this. Only the main thread of a process can hear of signals; elsewhere
    none is ever heard.

    Yields:
        What was heard.
    """
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def hear(number: int, _: FrameType | None) -> None:
        wish.signal = signal.Signals(number).name
        if number == signal.SIGINT:
            then = before[signal.SIGINT]
            signal.signal(signal.SIGINT, signal.default_int_handler if then is None else then)
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(2, _HEARD)  # a stream may be in the middle of a write, and refuse another

    try:
        for number, handler in before.items():
            if number == signal.SIGTERM or handler is not signal.SIG_IGN:  # Ctrl-C is not meant for the background
                signal.signal(number, hear)
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
