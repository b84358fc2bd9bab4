"""The steps that measure: the bases, and one rung on dev, then on test at the dose that dev chose."""

from __future__ import annotations

from pathlib import Path

from benchmarks.transfer.arms import choose_dose, dose_arms, identity_arms, moved_file, reference_arms, rung_arms
from benchmarks.transfer.measure import Bench
from benchmarks.transfer.tasks import Task

__all__ = ["measure_references", "measure_rung"]


def measure_references(bench: Bench, task: Task, seed: int, cache: Path) -> None:
    """Measure both bases on test, plain and with the adapter that was trained on them."""
    bench.measure(task, "test", reference_arms(cache, task.name, seed))


def measure_rung(bench: Bench, rung: str, task: Task, seed: int, cache: Path, *, every: bool) -> None:
    """Measure a rung, unless it could not be made.

    Args:
        bench: The base models, and the kept numbers.
        rung: The rung.
        task: The task.
        seed: Seed of training.
        cache: Folder of adapters.
        every: Whether to measure every control even where dev chose dose 0.
    """
    bench.measure(task, "test", identity_arms(cache, rung, task.name, seed))
    file = moved_file(cache, rung, task.name, seed)
    if not file.is_file():
        return
    curve = bench.measure(task, "dev", dose_arms(file))
    losses = {arm.dose: next(iter(curve[arm.name].values())).value for arm in dose_arms(file)}
    bench.measure(task, "test", rung_arms(cache, rung, task.name, seed, choose_dose(losses), every=every))
