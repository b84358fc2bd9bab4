"""Run parts of the zoo side by side, in processes that stay: each loads its libraries and its bases once.

A part begins when what it waits for is over. A part that fails is said and left out, and so is what waits for nothing
else; the others go on. This module decides when a part begins; what it does is left to `zoo_parts`.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from benchmarks.transfer.zoo_parts import Part, run_part
from benchmarks.transfer.zoo_recipe import Settings
from benchmarks.transfer.zoo_store import Zoo

__all__ = ["run_at_once"]

_POOLS = 3
"""How many times processes are started anew after one of them died."""

_zoos: dict[Path, Zoo] = {}
"""What a process has in memory."""


def run_at_once(
    parts: Sequence[Part], cache: Path, *, jobs: int, seconds: float | None, say: Callable[[str], None]
) -> list[str]:
    """Run parts, and return the names of those that failed.

    Args:
        parts: What to do, what comes first first.
        cache: Where the zoo is kept.
        jobs: How many processes at most.
        seconds: After so many seconds no part begins.
        say: Is told of every part that is over.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    run = _Run(parts, cache, jobs, say, None if seconds is None else time.monotonic() + seconds)
    for _ in range(_POOLS):
        try:
            run.go_on()
            break
        except BrokenProcessPool:
            say("a process died; the parts that it took with it begin anew")
    return [*run.failed, *(str(part) for part in run.waiting)]


class _Run:
    """Parts that wait, and those that are over."""

    def __init__(
        self, parts: Sequence[Part], cache: Path, jobs: int, say: Callable[[str], None], end: float | None
    ) -> None:
        self._cache, self._jobs, self._say, self._end = cache, jobs, say, end
        self.waiting, self.failed = list(parts), list[str]()

    def go_on(self) -> None:
        """Run what waits until nothing does, or the time is over."""
        running: dict[Future[list[str]], Part] = {}
        with ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn")) as pool:
            try:
                while True:
                    held = {part.key for part in (*self.waiting, *running.values())}
                    for part in self._ready(held)[: self._jobs - len(running)]:
                        running[pool.submit(_done, self._cache, part)] = part
                        self.waiting.remove(part)
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self._tell(future, running[future])
                        del running[future]
            finally:
                self.waiting[:0] = running.values()

    def _ready(self, held: set[str]) -> list[Part]:
        if self._end is not None and time.monotonic() > self._end:
            return []
        return [part for part in self.waiting if not held.intersection(part.after)]

    def _tell(self, future: Future[list[str]], part: Part) -> None:
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise error
        if error is not None:
            self.failed.append(str(part))
            self._say(f"failed: {part}: {''.join(traceback.format_exception(error))}")
            return
        for line in future.result():
            self._say(line)


def _done(cache: Path, part: Part) -> list[str]:
    """Do a part in this process, and return what was said of it."""
    from examples.materials import calm_threads  # noqa: PLC0415 - before torch, as everywhere

    calm_threads()
    zoo = _zoos.setdefault(cache, Zoo(cache=cache, settings=Settings()))
    return list(_timed(zoo, part))


def _timed(zoo: Zoo, part: Part) -> Iterator[str]:
    begun = last = time.monotonic()
    for said in run_part(zoo, part):
        now = time.monotonic()
        if now - last >= 0.5:  # what was kept already goes by in silence
            yield f"{said} ({now - last:.1f} s)"
        last = now
    yield f"done: {part} ({last - begun:.1f} s)"
