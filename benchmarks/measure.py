"""Timing two things in turns, so that whatever else the machine does meets both."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Times", "child_peak_bytes", "forget_peak", "in_turns", "machine", "resident"]

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Times:
    """Times of one thing, in seconds."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    def text(self, unit: float = 1.0, digits: int = 3) -> str:
        """Write median and range, in multiples of ``unit`` seconds."""
        low, high = min(self.samples) / unit, max(self.samples) / unit
        return f"{self.median / unit:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def in_turns(
    tasks: Sequence[Callable[[], object]],
    *,
    runs: int,
    warm_up: int = 1,
    before: Callable[[], object] = bool,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Times]:
    """Run every task ``runs`` times, one after the other, and return their times.

    Args:
        tasks: What to time.
        runs: How often.
        warm_up: Rounds that are not counted.
        before: What to do before each task, not timed.
        clock: Tells the time in seconds; ``time.process_time`` counts that of the processor alone.
    """
    samples: list[list[float]] = [[] for _ in tasks]
    for run in range(warm_up + runs):
        for own, task in zip(samples, tasks, strict=True):
            before()
            start = clock()
            task()
            if run >= warm_up:
                own.append(clock() - start)
    return [Times(tuple(own)) for own in samples]


def child_peak_bytes(arguments: Sequence[str]) -> int:
    """Run this interpreter with ``arguments`` and return the peak of its resident memory, in bytes."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


def resident(name: str) -> int:
    """Return a line of this process's status, in bytes: ``VmRSS`` is resident memory, ``VmHWM`` its peak.

    Elsewhere than on Linux the peak alone is known. What Linux tells of resources begins with that of the parent.
    """
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew, on Linux: ``resident("VmHWM")`` then tells of what follows."""
    if _STATUS.exists():
        _FORGET.write_text("5")


def machine() -> str:
    """Describe the machine in a few words."""
    name = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            name = next((line.split(":")[1].strip() for line in stream if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
