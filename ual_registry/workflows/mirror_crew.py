"""A crew of threads that works through a list of jobs, each job whole or not at all.

It decides who works on what, and how work ends early. What a job is, it does not know.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["Crew"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_LOOK_AGAIN_S = 0.2
_GRACE_S = 10.0  # for what is begun when all is to stop; the client may sleep much longer, as the Hub told it


class Crew(Generic[Job, Result]):
    """Threads that take jobs from one list and report each result.

    Args:
        work: Does a job; called by many threads. A ``BaseException`` that is no ``Exception`` gives the job up.
        size: How many threads.
        end: Called once when work is to end early; lets go of whatever threads wait for.

    Attributes:
        is_interrupted: Whether an interrupt has stopped it.
    """

    def __init__(self, work: Callable[[Job], Result], *, size: int, end: Callable[[], None]) -> None:
        self._work = work
        self._size = size
        self._end = end
        self._stopping = threading.Event()
        self._ends_at = math.inf
        self.is_interrupted = False
        self._reports: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

    def stop(self) -> None:
        """Begin no further job, and let those that wait end."""
        if not self._stopping.is_set():
            self._ends_at = time.monotonic() + _GRACE_S
            self._stopping.set()
            self._end()

    def run(self, jobs: Sequence[Job]) -> Iterator[Result | None]:
        """Work through jobs.

        An interrupt stops the crew, and what it ends soon after is told; a second one is raised.

        Args:
            jobs: The jobs, in the order in which they are begun.

        Yields:
            Each result once it is there; ``None`` from time to time, where there is nothing to tell.

        Raises:
            Exception: What ``work`` raises; no further job is begun.
        """
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        # Daemons, so that whoever leaves does not wait for what they still do.
        size = min(self._size, len(jobs))
        threads = [threading.Thread(target=self._live, args=(waiting,), daemon=True) for _ in range(size)]
        for thread in threads:
            thread.start()
        try:
            while (turn := self._turn(threads)) is not None:
                yield turn[0]
        finally:
            self.stop()

    def _turn(self, threads: Sequence[threading.Thread]) -> tuple[Result | None] | None:
        """Wait a little for a result; ``None`` where no more can come."""
        try:
            return (self._next(),) if self._is_awaited(threads) else None
        except KeyboardInterrupt:
            if self.is_interrupted:
                raise
            self.is_interrupted = True
            self.stop()
            return (None,)

    def _is_awaited(self, threads: Sequence[threading.Thread]) -> bool:
        is_alive = time.monotonic() < self._ends_at and any(thread.is_alive() for thread in threads)
        return is_alive or not self._reports.empty()

    def _next(self) -> Result | None:
        try:
            result, error = self._reports.get(timeout=_LOOK_AGAIN_S)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        return result

    def _live(self, waiting: queue.SimpleQueue[Job]) -> None:
        while not self._stopping.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._reports.put((self._work(job), None))
            except Exception as error:  # noqa: BLE001  # told to whoever runs the crew
                self._reports.put((None, error))
            except BaseException:  # noqa: BLE001  # how a job says that it was stopped
                return
