"""Measure what one arm does to generic text, and the norm of its update.

It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import click

from benchmarks.transfer.arms import Arm
from benchmarks.transfer.measure import Bench, controlled
from benchmarks.transfer.numbers import Measured
from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.side_effects_numbers import AFTER, BEFORE, DIVERGENCE
from ual_registry.air.read import read
from ual_registry.evaluation.controls import scaled
from ual_registry.evaluation.items import Document
from ual_registry.evaluation.side_effects import effect_series
from ual_registry.projection.factors import norm
from ual_registry.tensors import entry_factors

__all__ = ["measure", "update_norm"]


def measure(bench: Bench, arm: Arm, texts: Sequence[str], key: str) -> Measured:
    """Return what an arm does to texts, measured where it was not.

    Args:
        bench: The base models, and the kept numbers.
        arm: An arm with an adapter.
        texts: The texts.
        key: What names its numbers.
    """
    with one_at_a_time(bench.numbers.folder / key):
        if bench.numbers.of(key) is None:
            _measure(bench, arm, texts, key)
    found = bench.numbers.of(key)
    assert found is not None  # it is kept now
    return found


def _measure(bench: Bench, arm: Arm, texts: Sequence[str], key: str) -> None:
    assert arm.file is not None  # only arms with an adapter do something to a text
    start = time.process_time()
    documents = [Document(line=line, text=text) for line, text in enumerate(texts, start=1)]
    with read(arm.file) as adapter:
        found = effect_series(bench.base(arm.base), scaled(controlled(adapter, arm.control), arm.dose), documents)
    bench.numbers.keep(
        key,
        [
            replace(found.before, metric=BEFORE),
            replace(found.after, metric=AFTER),
            replace(found.divergence, metric=DIVERGENCE),
        ],
    )
    click.echo(
        f"{key}: {found.before.value:.3f} to {found.after.value:.3f} bits per byte, "
        f"KL {found.divergence.value:.3f} ({time.process_time() - start:.0f} s)"
    )


def update_norm(arm: Arm) -> float:
    """Return the norm of what an arm adds, all modules together."""
    assert arm.file is not None  # as above
    with read(arm.file) as adapter:
        return abs(arm.dose) * math.hypot(*(norm(entry_factors(adapter, entry)) for entry in adapter.entries))
