"""The benchmark of transfer on a GPU: it runs on a CPU in small, and its floors are what they say."""

from __future__ import annotations

import pytest
import torch

from benchmarks.transfer_gpu import PARTS, measure
from benchmarks.transfer_gpu_clock import Ceilings, Row, relative_error, seconds
from benchmarks.transfer_gpu_fits import statistics_floor

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks of tiny models

CEILINGS = Ceilings({torch.float64: 10.0, torch.float32: 100.0}, 1000.0)


def test_every_part_runs_on_a_cpu_in_small_and_gives_what_the_cpu_gives() -> None:
    told: list[str] = []
    found = measure("cpu", tuple(PARTS), is_tiny=True, say=told.append)
    assert [text.strip() for text in told] == [text.strip() for text in found]
    titles = [text.splitlines()[0].removeprefix("### ") for text in found[1:]]
    assert titles == [title for title, _ in PARTS.values()]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for text in found[1:] for line in text.splitlines()[4:]
    ]
    assert len(cells) == 4 + 7 + 5 + 12
    assert all(float(own[1]) > 0 for own in cells)
    # Float32 rows are compared with float64 ones.
    assert {own[0] for own in cells if own[-1] not in ("-", "0.0e+00")} == {
        f"{widths} features, float32 rows" for widths in ("24 and 32", "64 and 48")
    }


def test_the_floor_of_statistics_counts_half_of_what_is_symmetric() -> None:
    floor = statistics_floor(CEILINGS, 5, (2, 4), torch.float32)
    cells = 2 + 8 + 8
    assert floor.flops == 2 * 5 * cells
    assert floor.moved == 16 * cells + 5 * 6 * 4
    assert (floor.time_s, floor.bound) == (max(180 / 100, 408 / 1000), "operations")
    assert floor.reached(1e-12) == "180 TFLOP/s"


def test_bytes_bound_what_computes_little() -> None:
    floor = CEILINGS.floor({torch.float64: 10.0, torch.float32: 100.0}, 5000.0)
    assert (floor.flops_s, floor.moved_s, floor.bound) == (2.0, 5.0, "bytes")
    assert floor.reached(1e-6) == "5 GB/s"


def test_what_takes_long_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("benchmarks.transfer_gpu_clock.time.perf_counter", lambda: float(next(now)))
    runs: list[int] = []
    assert seconds("cpu", lambda: runs.append(1), runs=5) == 1.0
    assert len(runs) == 2  # one of them to warm up


def test_a_difference_is_told_over_the_largest_number() -> None:
    assert relative_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0])) == 0.25
    assert Row(name="x", time_s=1.0).error is None
