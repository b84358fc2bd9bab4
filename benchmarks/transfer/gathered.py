"""Gather what is kept of a task and seed, and put it into one file that outlives the cache.

The numbers of every item of every arm are enough to make all tables again: neither adapters nor models are needed.
What they mean is left to `results`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.transfer.arms import (
    Arm,
    choose_dose,
    dose_arms,
    dosed,
    identity_arms,
    moved_file,
    reference_arms,
    rung_arms,
)
from benchmarks.transfer.numbers import Measured, Numbers
from benchmarks.transfer.rungs import RUNGS, Made, kept
from benchmarks.transfer.tasks import TASKS, Task
from ual_registry.evaluation.series import Series

__all__ = ["SOURCE_ADAPTER", "SOURCE_BASE", "Gathered", "gather", "joined", "load", "save"]

SOURCE_BASE, SOURCE_ADAPTER = "source base", "source adapter"

_DIGITS = 6
"""Significant digits of a number that is put into a file; tables have three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was measured for one task and seed.

    Attributes:
        task: Name of the task.
        title: What it is, for people.
        seed: Seed of both adapters.
        source: The arms on the source base.
        arms: Those on the target base, controls included.
        made: The rungs that were made and measured.
        curves: For each rung the loss on dev by dose.
    """

    task: str
    title: str
    seed: int
    source: Mapping[str, Measured]
    arms: Mapping[str, Measured]
    made: tuple[Made, ...]
    curves: Mapping[str, Mapping[float, float]]


def gather(task: Task, seed: int, cache: Path) -> Gathered | None:
    """Return what the cache has of a task and seed; ``None`` where the arms are not there that all others need."""
    numbers = Numbers(cache / "measured")
    arms = _kept(numbers, task, "test", reference_arms(cache, task.name, seed))
    if not {SOURCE_BASE, SOURCE_ADAPTER, "base", "native"} <= arms.keys():
        return None
    source = {name: arms.pop(name) for name in (SOURCE_BASE, SOURCE_ADAPTER)}
    made, curves = [], {}
    for rung in RUNGS:
        source |= _kept(numbers, task, "test", identity_arms(cache, rung.name, task.name, seed))
        own = kept(rung.name, moved_file(cache, rung.name, task.name, seed))
        curve = _curve(numbers, task, own) if own else None
        if own is None or curve is None:
            continue
        wanted = rung_arms(cache, rung.name, task.name, seed, choose_dose(curve), every=True)
        found = _kept(numbers, task, "test", wanted)
        if {rung.name, dosed(rung.name, choose_dose(curve) or 1.0)} <= found.keys():
            made.append(own)
            curves[rung.name] = curve
            arms |= found
    return Gathered(
        task=task.name, title=task.title, seed=seed, source=source, arms=arms, made=tuple(made), curves=curves
    )


def _kept(numbers: Numbers, task: Task, split: str, arms: list[Arm]) -> dict[str, Measured]:
    present = [arm for arm in arms if arm.file is None or arm.file.is_file()]
    found = {arm.name: numbers.of(arm.key(task.name, task.named(split))) for arm in present}
    return {name: measured for name, measured in found.items() if measured is not None}


def _curve(numbers: Numbers, task: Task, made: Made) -> dict[float, float] | None:
    arms = dose_arms(made.file)
    found = _kept(numbers, task, "dev", arms)
    if len(found) < len(arms):
        return None
    return {arm.dose: next(iter(found[arm.name].values())).value for arm in arms}


def joined(found: Iterable[Gathered]) -> list[Gathered]:
    """Put together what was measured in several places: one for each task and seed, in order; what comes first stays.

    Raises:
        click.ClickException: Two have other numbers for the same arm: they are not of the same adapters.
    """
    whole: dict[tuple[int, str], Gathered] = {}
    for own in found:
        key = own.seed, own.task
        whole[key] = _both(whole[key], own) if key in whole else own
    return [whole[key] for key in sorted(whole, key=lambda key: (key[0], list(TASKS).index(key[1])))]


def _both(one: Gathered, other: Gathered) -> Gathered:
    for name in ("base", "native"):
        if _rows(one.arms[name]) != _rows(other.arms[name]):
            raise click.ClickException(
                f"{one.task}, seed {one.seed}: the numbers of {name} differ, expected those of the same adapters"
            )
    made = {own.rung: own for own in (*other.made, *one.made)}
    arms = {**other.arms, **one.arms}
    rungs = [own.name for own in RUNGS]
    return Gathered(
        task=one.task,
        title=one.title,
        seed=one.seed,
        source={**one.source, **other.source},
        arms={name: arms[name] for name in sorted(arms, key=lambda name: _place(name, rungs))},
        made=tuple(made[name] for name in rungs if name in made),
        curves={name: {**other.curves, **one.curves}[name] for name in rungs if name in made},
    )


def _place(arm: str, rungs: list[str]) -> int:
    """Return where an arm stands among others: references first, then rung by rung; its own order stays."""
    name = arm.partition(":")[0].partition(" x")[0]
    return rungs.index(name) if name in rungs else -1


def save(found: Iterable[Gathered], file: Path) -> None:
    """Write what was gathered to a file, JSON under gzip, in place of what it held."""
    text = json.dumps([_document(own) for own in found], separators=(",", ":"))
    # No name and no time: the same numbers are the same bytes.
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(file: Path) -> list[Gathered]:
    """Return what `save` wrote.

    Raises:
        click.ClickException: The file is no such file.
    """
    try:
        return [_gathered(own) for own in json.loads(gzip.decompress(file.read_bytes()))]
    except (gzip.BadGzipFile, EOFError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{file}: expected numbers that --save wrote, got something else") from error


def _document(own: Gathered) -> dict[str, Any]:
    return {
        "task": own.task,
        "title": own.title,
        "seed": own.seed,
        "source": {name: _rows(measured) for name, measured in own.source.items()},
        "arms": {name: _rows(measured) for name, measured in own.arms.items()},
        "made": [
            {
                "rung": made.rung,
                "file": made.file.name,
                "cpu_s": made.cpu_s,
                "wall_s": made.wall_s,
                "peak_bytes": made.peak_bytes,
                "where": made.where,
                "said": made.said,
            }
            for made in own.made
        ],
        "curves": {name: [list(point) for point in curve.items()] for name, curve in own.curves.items()},
    }


def _rows(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "metric": name,
            "values": [float(f"{value:.{_DIGITS}g}") for value in own.values.tolist()],
            "weights": None if bool((own.weights == 1).all()) else own.weights.tolist(),
            "is_better_high": own.is_better_high,
            "is_share": own.is_share,
        }
        for name, own in measured.items()
    ]


def _gathered(document: Mapping[str, Any]) -> Gathered:
    return Gathered(
        task=document["task"],
        title=document["title"],
        seed=document["seed"],
        source={name: _measured(rows) for name, rows in document["source"].items()},
        arms={name: _measured(rows) for name, rows in document["arms"].items()},
        made=tuple(Made(**{**own, "file": Path(own["file"])}) for own in document["made"]),
        curves={name: dict(points) for name, points in document["curves"].items()},
    )


def _measured(rows: Iterable[Mapping[str, Any]]) -> Measured:
    return {
        row["metric"]: Series(
            metric=row["metric"],
            values=np.array(row["values"]),
            weights=np.ones(len(row["values"])) if row["weights"] is None else np.array(row["weights"]),
            is_better_high=row["is_better_high"],
            is_share=row["is_share"],
        )
        for row in rows
    }
