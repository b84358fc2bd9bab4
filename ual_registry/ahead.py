"""Work done by a few threads a little ahead of whoever takes the results, in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["done_ahead"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def done_ahead(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, threads: int, ahead: int
) -> Iterator[tuple[Job, Result]]:
    """Do jobs side by side and yield each with its result; whoever stops taking them lets the others be.

    A result that is there is yielded before another job is taken, since to take one may mean to wait for it.

    Args:
        work: Does one job, in any thread.
        jobs: The jobs; taken no further than ``ahead`` before the one whose result is next.
        threads: How many at once.
        ahead: How many results may wait.

    Raises:
        Exception: What ``work`` raises.

    >>> list(done_ahead(lambda number: number * number, [1, 2, 3], threads=2, ahead=1))
    [(1, 1), (2, 4), (3, 9)]
    """
    waiting: deque[tuple[Job, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                waiting.append((job, pool.submit(work, job)))
                while waiting and (len(waiting) > ahead or waiting[0][1].done()):
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            for _, left in waiting:
                left.cancel()
