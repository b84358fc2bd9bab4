"""A report card in words: what was asked, a table of arms by metric, the dose curve, and what limits the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ual_registry.air.model import Statement
from ual_registry.cli.output import table

__all__ = ["card_lines"]

_GAIN = "gain_"
_RECOVERED = "recovered_gain"


def card_lines(statement: Statement) -> Iterator[str]:
    """Yield what a statement says of an evaluation; of one that another program made, what has our form."""
    settings = statement.parameters.get("settings")
    known = settings if isinstance(settings, Mapping) else {}
    if known.get("task"):
        yield f"  {', '.join(_asked(known))}"
    yield from _results_lines(statement)
    yield from (f"    {line}" for line in _dose_lines(known.get("dose"), known.get("dosed_labels")))
    notes = known.get("notes")
    yield from (f"  note: {note}" for note in notes) if isinstance(notes, tuple) else ()


def _asked(settings: Mapping[str, Any]) -> Iterator[str]:
    yield f"task {settings['task']}"
    if settings.get("prompts"):
        yield f"{settings['prompts']} prompts"
    labels = settings.get("labels")
    if isinstance(labels, Mapping):
        yield from (f"{metric} {label}" for metric, label in labels.items())


def _dose_lines(dose: Any, labels: Any) -> Iterator[str]:
    """Yield the curve that chose a dose; nothing where none of our form is there."""
    points = dose.get("points") if isinstance(dose, Mapping) else None
    if not points or not isinstance(points, tuple) or not all(isinstance(point, Mapping) for point in points):
        return
    metrics = [name for name in points[0] if name != "gamma"]
    rows = [[_number(point.get(name)) for name in ("gamma", *metrics)] for point in points]
    yield from table(rows, ["dose", *metrics]).splitlines()
    yield f"chosen on dev by {dose.get('metric')}: {dose.get('chosen')}{_verdicts(labels)}"


def _verdicts(labels: Any) -> str:
    """Return the verdicts at the dose that was chosen, as they are added to it."""
    if not isinstance(labels, Mapping) or not labels:
        return ""
    return f"; on the test items {', '.join(f'{metric} {label}' for metric, label in labels.items())}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else ""


def _results_lines(statement: Statement) -> Iterator[str]:
    """Yield one table for each set of data that the statement has results on.

    Gains are left out where the metric itself stands beside that of the base; the artifact and ``--json`` have them.
    """
    by_data: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for result in statement.byproducts.get("results", ()):
        by_data.setdefault((result["data_digest"], result["n"]), []).append(result)
    for (digest, count), results in by_data.items():
        yield f"  on {count} items of {digest}"
        yield from (f"    {line}" for line in _table(results).splitlines())


def _table(results: Sequence[Mapping[str, Any]]) -> str:
    every = list(dict.fromkeys(str(result["metric"]) for result in results))
    shown = [metric for metric in every if not _is_derived(metric, every)]
    columns = [column for metric in shown for column in (metric, f"{_RECOVERED}_{metric}") if column in every]
    arms = list(dict.fromkeys(str(result["arm"]) for result in results))
    cells = {(result["arm"], result["metric"]): _cell(result) for result in results}
    rows = [[arm, *(cells.get((arm, column), "") for column in columns)] for arm in sorted(arms, key=_first)]
    return table(rows, ["arm", *("R" if column.startswith(f"{_RECOVERED}_") else column for column in columns)])


def _is_derived(metric: str, every: Sequence[str]) -> bool:
    """Tell a gain, or an R, whose metric has a column of its own; R under the plain name repeats one of those."""
    if metric == _RECOVERED:
        return any(other.startswith(f"{_RECOVERED}_") for other in every)
    return any(metric == f"{prefix}{other}" for prefix in (_GAIN, f"{_RECOVERED}_") for other in every)


def _first(arm: str) -> bool:
    """Put the base before the others, which keep their order."""
    return arm != "base"


def _cell(result: Mapping[str, Any]) -> str:
    bounds = [result.get("low"), result.get("high")]
    shown = f"{result['value']:.4g}"
    return shown if None in bounds else f"{shown} [{bounds[0]:.4g}, {bounds[1]:.4g}]"
