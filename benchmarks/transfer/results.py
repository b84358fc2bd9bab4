"""Say in tables what was measured for one task and seed.

This module decides the form of the tables; the numbers come from `ual_registry.evaluation`, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.transfer.arms import choose_dose, control_starts
from benchmarks.transfer.gathered import SOURCE_ADAPTER, SOURCE_BASE, Gathered
from benchmarks.transfer.numbers import Measured
from benchmarks.transfer.rungs import Made
from ual_registry.evaluation.bootstrap import RESAMPLES, Interval
from ual_registry.evaluation.recovery import ArmGain, Label, MetricReport, label_of, measure_metric, worst_label

__all__ = ["PERFECT_COPY", "Result", "overall", "result_of", "table", "verdict", "worded"]

PERFECT_COPY = "a perfect copy"
"""Name of an arm that is not run: a target that says of every item what source and adapter say, the bound of a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured for one task and seed.

    Attributes:
        task: Name of the task.
        title: What it is, for people.
        seed: Seed of both adapters.
        source: The arms on the source base, by metric.
        reports: Every arm on the target base, by metric; the loss-like metric first.
        made: The rungs that were made and measured.
        curves: For each rung the loss on dev by dose.
    """

    task: str
    title: str
    seed: int
    source: tuple[MetricReport, ...]
    reports: tuple[MetricReport, ...]
    made: tuple[Made, ...]
    curves: Mapping[str, Mapping[float, float]]

    def dose(self, rung: str) -> float:
        """Return the dose of a rung that dev chose."""
        return choose_dose(self.curves[rung])


def result_of(found: Gathered) -> Result:
    """Return what was gathered, with its gains and their intervals."""
    return Result(
        task=found.task,
        title=found.title,
        seed=found.seed,
        source=tuple(
            _report(found.source, metric, SOURCE_BASE, SOURCE_ADAPTER) for metric in found.source[SOURCE_BASE]
        ),
        reports=tuple(_report(_with_copy(found), metric, "base", "native") for metric in found.arms["base"]),
        made=found.made,
        curves=found.curves,
    )


def _with_copy(found: Gathered) -> Mapping[str, Measured]:
    """Return the arms on the target base, and behind the references what the source adapter had on its own."""
    references = {name: found.arms[name] for name in ("base", "native")}
    return {**references, PERFECT_COPY: found.source[SOURCE_ADAPTER], **found.arms}


def _report(arms: Mapping[str, Measured], metric: str, base: str, native: str) -> MetricReport:
    series = {arm: measured[metric] for arm, measured in arms.items()}
    return measure_metric(series, base=base, native=native, seed=0, resamples=RESAMPLES)


def table(result: Result) -> str:
    """Return one result as Markdown: a table of the arms for every metric, then what the rungs took."""
    parts = [f"### {result.task}, seed {result.seed}", _source_line(result)]
    parts += [_metric(result, report) for report in result.reports]
    if result.made:
        parts += [_curves(result), _costs(result)]
    return "\n\n".join(parts) + "\n"


def _source_line(result: Result) -> str:
    parts = []
    for report in result.source:
        before, after, *moved = report.arms
        parts.append(f"{report.metric} {before.value.value:.3f} to {after.value.value:.3f}")
        parts += [f"{own.arm} R {worded(own.recovered)}" for own in moved if own.recovered is not None]
    return f"The adapter on its own base: {', '.join(parts)}."


def _metric(result: Result, report: MetricReport) -> str:
    rows = [_row(own, verdict(result, report, own.arm)) for own in report.arms]
    headers = [report.metric, "value", "gain", "R", "verdict"]
    note = f"\n\nNo R: {report.no_recovery_because}." if report.no_recovery_because else ""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True) + note


def _row(own: ArmGain, label: Label | None) -> list[str]:
    recovered = "" if own.recovered is None or own.arm in ("base", "native") else worded(own.recovered)
    gain = "" if own.arm == "base" else worded(own.gain)
    return [own.arm, worded(own.value), gain, recovered, str(label or "")]


def worded(found: Interval, digits: int = 3) -> str:
    """Write a number with its interval, with so many digits behind the point; what rounds to zero has no sign."""
    value, low, high = (f"{number:z.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def verdict(result: Result, report: MetricReport, arm: str) -> Label | None:
    """Return the verdict on a rung, at dose 1 or the one chosen on dev; controls and references have none.

    Without a random control of its norm nobody knows what a rung's gain is worth, so there is no verdict.
    """
    name = arm.partition(" x")[0]
    starts = control_starts(name)
    if name not in result.curves or not any(own.arm.startswith(starts[0]) for own in report.arms):
        return None
    return label_of(report, arm, [own.arm for own in report.arms if own.arm.startswith(starts)])


def overall(result: Result, arm: str) -> Label | None:
    """Return the verdict on a rung by all metrics together, as `ual evaluate` gives it: the least good of them.

    That command passes over a metric that the base exhausts, or by which the source adapter gains nothing; no task of
    the benchmark has such a one.
    """
    return worst_label([verdict(result, report, arm) for report in result.reports])


def _curves(result: Result) -> str:
    rows = [
        [name, *(f"{loss:.3f}" for loss in curve.values()), f"{result.dose(name):g}"]
        for name, curve in result.curves.items()
    ]
    doses = next(iter(result.curves.values()))
    headers = [f"{result.reports[0].metric} on dev", *(f"dose {dose:g}" for dose in doses), "chosen"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _costs(result: Result) -> str:
    rows = [
        [
            made.rung,
            f"{made.cpu_s:.0f}",
            f"{made.wall_s:.0f}",
            f"{made.peak_bytes / 2**20:.0f}",
            made.where,
            _remark(made),
        ]
        for made in result.made
    ]
    headers = ["rung", "processor time, s", "wall time, s", "peak memory, MiB", "where", "what it said"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _remark(made: Made) -> str:
    said = made.said
    parts = [f"{said['entries']} entries"] if "entries" in said else []
    if said.get("left_out"):
        parts.append(f"{said['left_out']} left out")
    parts += [f"{name} {value:.3g}" for name, value in said.get("measures", {}).items()]
    return ", ".join(parts)
