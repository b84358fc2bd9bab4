"""What a run says while it goes: a JSONL file always, other sinks where asked for, and a line on a terminal.

Each line of the file is one object: ``event`` is ``step``, ``held_out``, ``resumed`` or ``end``, ``step`` counts the
steps done. A resumed run takes back what was written of steps after its checkpoint, so that every step
stands there once.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from ual_registry.air.rounding import rounded
from ual_registry.errors import StorageError
from ual_registry.storage import atomic_file, read_file
from ual_registry.training.progress import Progress
from ual_registry.training.sinks import open_sink

__all__ = ["Journal", "read_log"]

_MAX_BYTES = 1 << 32


class Journal:
    """The log of a run; a context manager that closes it.

    Args:
        path: The JSONL file; ``None`` for a process that says nothing.
        steps: Steps of the run, for the line on a terminal.
        sinks: Where else the log goes, of ``config.SINKS``.
        is_shown: Whether to draw a line on standard error; never where that is no terminal.
    """

    def __init__(self, path: Path | None, *, steps: int, sinks: Iterable[str] = (), is_shown: bool = True) -> None:
        self._path, self._steps = path, steps
        self._is_shown = is_shown and path is not None and sys.stderr.isatty()
        self._boards = [] if path is None else [open_sink(name, path.parent) for name in sinks]
        self._stream: IO[str] | None = None
        self._line: Any = None
        self._begun = (0, 0, 0.0)

    def begin(self, progress: Progress) -> None:
        """Open the file at a step.

        Raises:
            StorageError: The file system refuses.
        """
        step = progress.step
        self._begun = (step, progress.tokens, progress.elapsed_s)
        if self._path is None:
            return
        kept = [line for line in _lines(self._path) if step and line["step"] <= step and line["event"] != "end"]
        with atomic_file(self._path) as stream:
            stream.writelines(f"{json.dumps(line)}\n".encode() for line in kept)
        try:
            self._stream = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise StorageError.of("write", self._path, error) from error
        if step:
            self._write({"event": "resumed", "step": step})
        if self._is_shown:
            self._line = tqdm(total=self._steps, initial=step, unit="step", file=sys.stderr, dynamic_ncols=True)

    def step(self, progress: Progress, **numbers: float) -> None:
        """Say what a step came to: its loss, and ``learning_rate`` and ``grad_norm`` where they are given."""
        step, loss = progress.losses[-1]
        speed = self.tokens_per_s(progress)
        document = {"loss": loss, **numbers, "tokens": progress.tokens, "tokens_per_s": rounded(speed)}
        self._say("step", progress, document)
        if self._line is not None:
            self._line.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            self._line.update(step - self._line.n)

    def look(self, progress: Progress) -> None:
        """Say what a look at the held-out examples came to."""
        self._say("held_out", progress, {"loss": progress.held_out[-1][1], "best_step": progress.best_step})

    def end(self, progress: Progress, **facts: Any) -> None:
        """Say how the run ended."""
        self._say("end", progress, facts)

    def tokens_per_s(self, progress: Progress) -> float:
        """Return the speed since the run was begun or resumed, looks included."""
        _, tokens, elapsed_s = self._begun
        return (progress.tokens - tokens) / max(progress.elapsed_s - elapsed_s, 1e-9)

    def _say(self, event: str, progress: Progress, document: dict[str, Any]) -> None:
        step = progress.held_out[-1][0] if event == "held_out" else progress.step
        self._write({"event": event, "step": step, "elapsed_s": round(progress.elapsed_s, 3), **document})
        for board in self._boards:
            for name, value in document.items():
                if isinstance(value, (int, float)):
                    board.add_scalar(f"{event}/{name}", value, step)

    def _write(self, document: dict[str, Any]) -> None:
        if self._stream is None or self._path is None:
            return
        try:
            self._stream.write(f"{json.dumps(document)}\n")
            self._stream.flush()
        except OSError as error:
            raise StorageError.of("write", self._path, error) from error

    def close(self) -> None:
        """Close the file, the line and the boards."""
        if self._line is not None:
            self._line.close()
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
        for board in self._boards:
            board.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log; one that was cut off, or that nobody here wrote, is left out.

    Raises:
        StorageError: It cannot be read.
    """
    for line in read_file(path, limit_bytes=_MAX_BYTES).splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(line)
            if isinstance(document, dict) and type(document.get("step")) is int and "event" in document:
                yield document


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    yield from read_log(path) if path.exists() else ()
