"""Fill what was measured on the real pair into text that people wrote.

A field is `{what rung task metric}` with one of these in front, or `{controls KIND METRIC}`, or `{turned METRIC}`:

* `R`: the recovered gain at the dose that dev chose, by seed;
* `copy`: that of a perfect copy, of the seeds of the rung;
* `state`, with an aim behind the metric: whether every seed reaches it, some or none;
* `controls`: of how many controls of a kind, such as `random`, the interval of R covers zero, lies below or above;
* `turned`: of how many rungs that gain something the flipped copy does as much harm as they do good, or more.

So the text cannot say another number than the tables, nor call an aim reached that is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.transfer.arms import FLIPPED, dosed
from benchmarks.transfer.results import PERFECT_COPY, Result
from ual_registry.evaluation.bootstrap import Interval
from ual_registry.evaluation.recovery import MetricReport

__all__ = ["filled"]

_SEEDS = 3
"""So many were trained of every task; where a rung was measured with fewer, a field says with which."""


def filled(text: str, results: Sequence[Result]) -> str:
    """Return a text with numbers in place of its fields."""

    def value(field: re.Match[str]) -> str:
        kind, *words = field[1].split()
        return _KINDS[kind](results, *words)

    return re.sub(rf"\{{((?:{'|'.join(_KINDS)}) [^{{}}]+)\}}", value, text)


def _recovered(results: Sequence[Result], rung: str, task: str, metric: str) -> str:
    found = _by_seed(results, rung, task, metric)
    seeds = "" if len(found) in (0, _SEEDS) else f" (seed {' and '.join(map(str, found))})"
    return _listed(found) + seeds


def _copied(results: Sequence[Result], rung: str, task: str, metric: str) -> str:
    copies = _by_seed(results, PERFECT_COPY, task, metric)
    return _listed({seed: copies[seed] for seed in _by_seed(results, rung, task, metric)})


def _state(results: Sequence[Result], rung: str, task: str, metric: str, aim: str) -> str:
    reached = [own.value >= float(aim) for own in _by_seed(results, rung, task, metric).values()]
    if not reached:
        return "not measured"
    return "reached" if all(reached) else "in part" if any(reached) else "missed"


def _controls(results: Sequence[Result], kind: str, metric: str) -> str:
    found = list(_of_controls(results, kind.replace("-", " "), metric))
    above, below = sum(own.low > 0 for own in found), sum(own.high < 0 for own in found)
    return f"{len(found) - above - below} of {len(found)} cover zero, {below} lie below it, {above} above"


def _turned(results: Sequence[Result], metric: str) -> str:
    found = [
        (own.recovered, turned.recovered)
        for result in results
        for report in _of_metric(result, metric)
        for rung in result.curves
        if (own := report.arm(dosed(rung, result.dose(rung)))) and (turned := report.arm(f"{rung}: {FLIPPED}"))
    ]
    gained = [(own.value, turned.value) for own, turned in found if own and turned and own.low > 0]
    return f"{sum(-turned >= own for own, turned in gained)} of {len(gained)}"


_KINDS: Mapping[str, Callable[..., str]] = {
    "R": _recovered,
    "copy": _copied,
    "state": _state,
    "controls": _controls,
    "turned": _turned,
}


def _by_seed(results: Sequence[Result], arm: str, task: str, metric: str) -> dict[int, Interval]:
    """Return R of a rung, at the dose that dev chose, or of another arm; of the seeds with which it was measured."""
    found = {}
    for result in results:
        name = dosed(arm, result.dose(arm)) if arm in result.curves else arm
        reports = [own for own in result.reports if own.metric == metric and result.task == task]
        for own in (report.arm(name) for report in reports):
            if own is not None and own.recovered is not None:
                found[result.seed] = own.recovered
    return found


def _of_controls(results: Sequence[Result], kind: str, metric: str) -> Iterator[Interval]:
    """Yield R of every control of a kind."""
    for result in results:
        for report in _of_metric(result, metric):
            controls = (own for own in report.arms if own.arm.partition(": ")[2].startswith(kind))
            yield from (own.recovered for own in controls if own.recovered is not None)


def _of_metric(result: Result, metric: str) -> list[MetricReport]:
    """Return what was measured by `accuracy`, or by what is finer than a share, `loss`."""
    return [own for own in result.reports if (own.metric == "accuracy") == (metric == "accuracy")]


def _listed(found: Mapping[int, Interval]) -> str:
    return ", ".join(_short(own.value) for own in found.values()) or "not measured"


def _short(value: float) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:z.3f}")
