"""Word the side effects on generic text: a section of the page of results, made from the kept numbers alone.

This module decides the form of the table; the intervals come from `ual_registry.evaluation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from benchmarks.transfer.arms import SOURCE, TARGET
from benchmarks.transfer.results import worded
from benchmarks.transfer.side_effects_numbers import AFTER, BEFORE, DIVERGENCE, Effect, Measurement, load
from ual_registry.evaluation.bootstrap import RESAMPLES

if TYPE_CHECKING:
    from ual_registry.evaluation.side_effects import SideEffects

__all__ = ["section", "table"]

_FOLDER = Path(__file__).resolve().parent
_NUMBERS, _READING = _FOLDER / "side_effects.json", _FOLDER / "side_effects_reading.md"
_HEADERS = ["arm", "dose", "norm of the update", "bits per byte", "change", "KL, nats"]


def section(numbers: Path = _NUMBERS, reading: Path = _READING) -> str:
    """Return the section, as Markdown: what is to be said of it, and a table for each task and seed.

    Args:
        numbers: The file of numbers.
        reading: The prose.
    """
    parts = ["## Side effects on generic text", reading.read_text(encoding="utf-8").rstrip()]
    return "\n\n".join([*parts, *(table(own) for own in load(numbers))])


def table(found: Measurement) -> str:
    """Return what was measured of a task and seed: a title, what text it was, and every arm."""
    rows = [row for base in (SOURCE, TARGET) for row in _rows(found, base)]
    generic = found.generic
    return "\n\n".join(
        [
            f"### {found.task}, seed {found.seed}: generic text",
            f"{generic.documents} texts: {generic.source}; digest {generic.digest[:12]}.",
            tabulate(rows, _HEADERS, tablefmt="github", disable_numparse=True),
        ]
    )


def _rows(found: Measurement, base: str) -> Iterator[list[str]]:
    """Yield a base, then the arms on it."""
    own = [effect for effect in found.effects if effect.base == base]
    for number, effect in enumerate(own):
        said = _side_effects(effect, found.generic.digest)
        if number == 0:
            yield ["source base" if base == SOURCE else "base", "", "", worded(said.bits_per_byte), "", ""]
        after = f"{said.bits_per_byte.value + said.change.value:.3f}"
        yield [
            effect.arm,
            _dose(effect, found),
            f"{effect.norm:.1f}",
            after,
            worded(said.change),
            worded(said.divergence),
        ]


def _side_effects(effect: Effect, digest: str) -> SideEffects:
    from ual_registry.evaluation.side_effects import EffectSeries, side_effects_of  # noqa: PLC0415 - torch loads here

    series = EffectSeries(
        before=effect.metrics[BEFORE], after=effect.metrics[AFTER], divergence=effect.metrics[DIVERGENCE]
    )
    return side_effects_of(series, data_digest=digest, seed=0, resamples=RESAMPLES)


def _dose(effect: Effect, found: Measurement) -> str:
    """Word a dose; of a rung as it is, also what dev chose instead of it."""
    chosen = found.chosen.get(effect.arm)
    more = "" if chosen in (None, effect.dose) else f" (dev chose {chosen:g})"
    return f"{effect.dose:g}{more}"
