"""Times on a device, and the ceilings that they are held against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Ceilings", "Floor", "Row", "ceilings_of", "relative_error", "seconds", "wait"]

_LONG_S = 0.5
"""What takes longer than this is run once after the warm-up, or once in all where there is none."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least time that a piece of work can take.

    Attributes:
        flops: Operations, by the time that they take at the ceiling of their dtype.
        flops_s: That time.
        moved: Bytes read and written at least once.
        moved_s: The time of these.
    """

    flops: float
    flops_s: float
    moved: float
    moved_s: float

    @property
    def time_s(self) -> float:
        """The longer of both."""
        return max(self.flops_s, self.moved_s)

    @property
    def bound(self) -> str:
        """Which of both it is."""
        return "operations" if self.flops_s >= self.moved_s else "bytes"

    def reached(self, time_s: float) -> str:
        """Return what a time comes to, in the unit of the bound."""
        if self.flops_s >= self.moved_s:
            return f"{self.flops / time_s / 1e12:.3g} TFLOP/s"
        return f"{self.moved / time_s / 1e9:.3g} GB/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table.

    Attributes:
        name: What was timed.
        time_s: How long it took.
        rate: What that is in a unit of users.
        floor: The least time; ``None`` where a peer stands in its place.
        peer: How it stands to the peer.
        error: Largest difference from the CPU at a small size, over the largest number.
    """

    name: str
    time_s: float
    rate: str = "-"
    floor: Floor | None = None
    peer: str | None = None
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a device reaches.

    Attributes:
        flops: Operations a second of a large matrix product, by dtype.
        bytes_per_s: Bytes a second of a copy, read and written.
    """

    flops: Mapping[torch.dtype, float]
    bytes_per_s: float

    def floor(self, flops: Mapping[torch.dtype, float], moved: float) -> Floor:
        """Return the least time for operations of some dtypes and for bytes."""
        time_s = sum(count / self.flops[dtype] for dtype, count in flops.items())
        return Floor(sum(flops.values()), time_s, moved, moved / self.bytes_per_s)


def ceilings_of(device: str, *, is_tiny: bool) -> Ceilings:
    """Measure the ceilings."""
    size, length = (256, 1 << 20) if is_tiny else (8192, 1 << 28)
    flops = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(one)
        time_s = seconds(device, lambda one=one, other=other, out=out: torch.mm(one, other, out=out), runs=7)
        flops[dtype] = 2 * size**3 / time_s
    data = torch.randn(length, device=device)
    copy = torch.empty_like(data)
    return Ceilings(flops, 2 * data.nbytes / seconds(device, lambda: copy.copy_(data), runs=15))


def wait(device: str) -> None:
    """Wait until a device has done all that it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(device: str, task: Callable[[], object], *, runs: int = 5, warm_up: bool = True) -> float:
    """Return the median time of a task; what takes long is run once.

    Args:
        device: Where it computes.
        task: What to time.
        runs: How often.
        warm_up: Whether a run before is not counted.
    """
    times: list[float] = []
    for run in range(runs + warm_up):
        wait(device)
        start = time.perf_counter()
        task()
        wait(device)
        if run or not warm_up:
            times.append(time.perf_counter() - start)
            if times[-1] > _LONG_S:
                break
    return statistics.median(times)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the largest number, in float64."""
    own, other = found.detach().to("cpu", torch.float64), expected.detach().to("cpu", torch.float64)
    return float((own - other).abs().max() / other.abs().max())
