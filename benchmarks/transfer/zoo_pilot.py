"""Choose how distillations of the zoo train: on the dev documents of two directions, by a rule that was written before.

Every recipe of the grid trains a cold start in both directions. Of those that were measured in both, the one with the
lowest mean of bits per byte is kept as the settings of the cache. Test documents are not looked at.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.transfer.zoo_parts import Part, bits, teacher_part, trial_arm, trial_part
from benchmarks.transfer.zoo_recipe import Settings, keep_settings
from benchmarks.transfer.zoo_store import DOMAIN, Zoo

__all__ = ["PAIRS", "choose", "pilot_parts", "table"]

PAIRS = (("gpt2", "llama"), ("qwen2", "gpt_neox"))
"""The directions of a pilot: four bases, each once."""


def pilot_parts(grid: Sequence[Settings], pairs: Sequence[tuple[str, str]] = PAIRS) -> list[Part]:
    """Return what a pilot does: texts first, then trials, the longest first.

    Trials on the same text wait for each other while it is cut, so those on other text begin before.
    """
    longest = sorted(grid, key=lambda own: -own.steps)
    fresh = list({own.text_name: own for own in reversed(longest)}.values())[::-1]
    ordered = [*fresh, *(own for own in longest if own not in fresh)]
    teachers = [teacher_part(own, source, DOMAIN) for own in ordered for source, _ in pairs]
    found = [*teachers, *(trial_part(own, *pair) for own in ordered for pair in pairs)]
    return list({part.key: part for part in found}.values())


def choose(cache: Path, grid: Sequence[Settings], pairs: Sequence[tuple[str, str]] = PAIRS) -> Settings | None:
    """Keep and return the settings with the lowest mean over directions; `None` where none has all."""
    means = {}
    for own in (own for own in grid if not own.passages):
        found = [_trial(cache, own, *pair) for pair in pairs]
        if all(value is not None for value in found):
            means[own] = statistics.fmean(value for value in found if value is not None)
    if not means:
        return None
    best = min(means, key=lambda own: means[own])
    keep_settings(cache, best)
    return best


def table(cache: Path, grid: Sequence[Settings], pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """Return what was measured, one row for each recipe."""
    rows = [_row(cache, own, pairs) for own in grid]
    names = [f"{source} to {target}" for source, target in pairs]
    headers = ["texts", "steps", "batch", "rate", "T", "top_p", "rank", "passages"]
    headers += [f"{name}: {what}" for name in names for what in ("bits per byte", "R", "wall s", "best step")]
    return tabulate(rows, [*headers, "mean bits", "mean R"], tablefmt="github", disable_numparse=True)


def _row(cache: Path, own: Settings, pairs: Sequence[tuple[str, str]]) -> list[str]:
    cells = [f"{own.texts}", f"{own.steps}", f"{own.batch_size}", f"{own.learning_rate:g}", f"{own.temperature:g}"]
    cells += [f"{own.top_p:g}", f"{own.rank}", f"{own.passages}"]
    values, shares = [], []
    for pair in pairs:
        value, share = _trial(cache, own, *pair), _share(cache, own, *pair)
        if value is None or share is None:
            cells += ["", "", "", ""]
            continue
        values.append(value)
        shares.append(share)
        cells += [f"{value:.4f}", f"{share:.3f}", *_cost(cache, own, *pair)]
    is_whole = len(values) == len(pairs)
    return [*cells, *([f"{statistics.fmean(values):.4f}", f"{statistics.fmean(shares):.3f}"] if is_whole else ["", ""])]


def _trial(cache: Path, own: Settings, source: str, target: str) -> float | None:
    zoo = Zoo(cache=cache, settings=own)
    arm = trial_arm(zoo, source, target)
    found = zoo.numbers.of(arm.key(DOMAIN, "dev")) if arm.file is not None and arm.file.is_file() else None
    return None if found is None else bits(found)


def _share(cache: Path, own: Settings, source: str, target: str) -> float | None:
    """Return R on dev."""
    zoo, value = Zoo(cache=cache, settings=own), _trial(cache, own, source, target)
    base, native = (zoo.numbers.of(arm.key(DOMAIN, "dev")) for arm in list(zoo.reference_arms(source, target))[2:])
    if value is None or base is None or native is None:
        return None
    return (bits(base) - value) / (bits(base) - bits(native))


def _cost(cache: Path, own: Settings, source: str, target: str) -> list[str]:
    file = trial_arm(Zoo(cache=cache, settings=own), source, target).file
    assert file is not None  # a trial has one
    cost = json.loads(file.with_suffix(".cost.json").read_text(encoding="utf-8"))
    return [f"{cost['wall_s']:.0f}", f"{cost['said']['step']}"]
