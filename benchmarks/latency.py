"""Quantiles of many short waits, with intervals, beside the processor time that they took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

__all__ = ["Clock", "Latencies", "Sample", "count_statements"]

_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one call found, and what it cost.

    Attributes:
        wall_s: Time that passed.
        cpu_s: Processor time of the caller and of the server's process that worked for it.
        found: The result.
    """

    wall_s: float
    cpu_s: float
    found: Any


class Clock:
    """Takes both times of a call.

    Args:
        engine: The database that the calls ask; of a PostgreSQL, the processor time of the connection's own process is
            added. There must be one connection at a time.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._stat: Path | None = None
        if engine is not None and engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            self._stat = Path(f"/proc/{number}/schedstat")

    def _cpu_seconds(self) -> float:
        server = int(self._stat.read_text().split()[0]) / 1e9 if self._stat is not None else 0.0
        return time.process_time() + server

    def time(self, work: Callable[[], Any]) -> Sample:
        """Call something once."""
        cpu, start = self._cpu_seconds(), time.perf_counter()
        found = work()
        wall = time.perf_counter() - start
        return Sample(wall_s=wall, cpu_s=self._cpu_seconds() - cpu, found=found)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times of many calls of one kind, in seconds."""

    samples: tuple[Sample, ...]

    def _sorted(self, *, cpu: bool) -> list[float]:
        return sorted(sample.cpu_s if cpu else sample.wall_s for sample in self.samples)

    def quantile(self, share: float, *, cpu: bool = False) -> float:
        """Return the smallest time that at least ``share`` of the calls kept."""
        times = self._sorted(cpu=cpu)
        return times[min(len(times) - 1, math.ceil(share * len(times)) - 1)]

    def interval(self, share: float, *, cpu: bool = False) -> tuple[float, float]:
        """Return the interval that holds the quantile in 95 of 100 cases, by the ranks of a binomial."""
        times = self._sorted(cpu=cpu)
        middle, width = share * len(times), _NORMAL_95 * math.sqrt(share * (1 - share) * len(times))
        low, high = math.floor(middle - width), math.ceil(middle + width)
        return times[max(0, low - 1)], times[min(len(times) - 1, high)]

    def text(self, share: float) -> str:
        """Write a quantile and its interval in milliseconds."""
        low, high = self.interval(share)
        return f"{_ms(self.quantile(share))} [{_ms(low)}, {_ms(high)}]"

    def cpu_text(self) -> str:
        """Write median and 95th percentile of the processor time in milliseconds."""
        return f"{_ms(self.quantile(0.5, cpu=True))} / {_ms(self.quantile(0.95, cpu=True))}"


def _ms(seconds: float) -> str:
    """Write milliseconds with three figures.

    >>> _ms(0.0012345), _ms(0.12345), _ms(2.5)
    ('1.23', '123', '2500')
    """
    value = seconds * 1e3
    return f"{value:.{max(0, 2 - max(0, math.floor(math.log10(value))))}f}" if value > 0 else "0.00"


def count_statements(engine: Engine, calls: Sequence[Callable[[], object]]) -> tuple[int, ...]:
    """Return how many SQL statements the calls took: every number that was seen, ascending."""
    seen, counter = set(), [0]

    def count(*_: object) -> None:
        counter[0] += 1

    event.listen(engine, "before_cursor_execute", count)
    try:
        for call in calls:
            counter[0] = 0
            call()
            seen.add(counter[0])
    finally:
        event.remove(engine, "before_cursor_execute", count)
    return tuple(sorted(seen))
