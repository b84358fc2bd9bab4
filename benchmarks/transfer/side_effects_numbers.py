"""The numbers of side effects, document by document, in one small file: enough for every table and every interval.

What they mean is left to `side_effects_results`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ual_registry.evaluation.series import Series

__all__ = ["AFTER", "BEFORE", "DIVERGENCE", "Effect", "Generic", "Measurement", "load", "save", "series"]

BEFORE, AFTER, DIVERGENCE = "bits_per_byte of the base", "bits_per_byte", "kl"

_DIGITS = 6
"""Significant digits of a number that is put into a file; tables have three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generic:
    """The text that was measured on.

    Attributes:
        source: What it is, with its licence.
        digest: Digest of the texts in their order.
        documents: How many there are.
    """

    source: str
    digest: str
    documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one arm does to the text.

    Attributes:
        arm: Name of the arm.
        base: The base model it runs on.
        dose: What its update is multiplied by.
        norm: Norm of the update at that dose, over all modules together.
        metrics: The series `BEFORE`, `AFTER` and `DIVERGENCE`.
    """

    arm: str
    base: str
    dose: float
    norm: float
    metrics: Mapping[str, Series]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of a task and seed.

    Attributes:
        task: Name of the task.
        seed: Seed of both adapters.
        generic: The text.
        chosen: For each rung the dose that dev chose, where that is known.
        effects: The arms, in the order of the table.
    """

    task: str
    seed: int
    generic: Generic
    chosen: Mapping[str, float]
    effects: tuple[Effect, ...]


def series(metric: str, values: Sequence[float], weights: Sequence[float]) -> Series:
    """Return one series of an arm."""
    return Series(
        metric=metric,
        values=np.array(values, dtype=np.float64),
        weights=np.array(weights, dtype=np.float64),
        is_better_high=False,
        is_share=False,
    )


def save(found: Iterable[Measurement], file: Path) -> None:
    """Write measurements to a file, in place of what it held."""
    text = json.dumps([_document(own) for own in found], separators=(",", ":"))
    file.write_text(text.replace('{"arm"', '\n{"arm"') + "\n", encoding="utf-8")


def load(file: Path) -> list[Measurement]:
    """Return what `save` wrote.

    Raises:
        click.ClickException: The file is no such file.
    """
    try:
        return [_measurement(own) for own in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{file}: expected side effects that --save wrote, got something else") from error


def _document(own: Measurement) -> dict[str, Any]:
    """Return a measurement for JSON; what the arms of one base have in common is said once."""
    bases = {effect.base: effect.metrics for effect in own.effects}
    return {
        "task": own.task,
        "seed": own.seed,
        "source": own.generic.source,
        "digest": own.generic.digest,
        "documents": own.generic.documents,
        "chosen": own.chosen,
        "bases": {
            base: {
                "bits": _rounded(metrics[BEFORE]),
                "bytes": metrics[BEFORE].weights.tolist(),
                "tokens": metrics[DIVERGENCE].weights.tolist(),
            }
            for base, metrics in bases.items()
        },
        "arms": [
            {
                "arm": effect.arm,
                "base": effect.base,
                "dose": effect.dose,
                "norm": _short(effect.norm),
                "bits": _rounded(effect.metrics[AFTER]),
                "divergence": _rounded(effect.metrics[DIVERGENCE]),
            }
            for effect in own.effects
        ],
    }


def _rounded(own: Series) -> list[float]:
    return [_short(value) for value in own.values.tolist()]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _measurement(document: Mapping[str, Any]) -> Measurement:
    return Measurement(
        task=document["task"],
        seed=document["seed"],
        generic=Generic(source=document["source"], digest=document["digest"], documents=document["documents"]),
        chosen=document["chosen"],
        effects=tuple(_effect(own, document["bases"][own["base"]]) for own in document["arms"]),
    )


def _effect(own: Mapping[str, Any], base: Mapping[str, Any]) -> Effect:
    return Effect(
        arm=own["arm"],
        base=own["base"],
        dose=own["dose"],
        norm=own["norm"],
        metrics={
            BEFORE: series(BEFORE, base["bits"], base["bytes"]),
            AFTER: series(AFTER, own["bits"], base["bytes"]),
            DIVERGENCE: series(DIVERGENCE, own["divergence"], base["tokens"]),
        },
    )
