"""Word the page of results: how it was measured, how to repeat it, what it shows, and every table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.transfer.arms import dosed
from benchmarks.transfer.fields import filled
from benchmarks.transfer.results import PERFECT_COPY, Result, overall, table, verdict, worded
from benchmarks.transfer.rungs import RUNGS
from benchmarks.transfer.side_effects_results import section
from ual_registry.evaluation.recovery import MetricReport

__all__ = ["document", "summary"]

_TEXTS = Path(__file__).resolve().parent
_WRITTEN = ("page_head.md", "page_reading.md", "zoo_head.md", "zoo_tables.md", "zoo_reading.md")
"""What stands in files: text that people wrote, and the tables that `benchmarks.transfer.zoo --save` made."""

_UNJUDGED = "no control measured"
_NO_DOSE = "0 (dev chose dose 0)"
"""What is said of a rung without a random control, and of one that is no better than the base at any dose."""


def document(results: Sequence[Result]) -> str:
    """Return the whole page, as Markdown.

    Args:
        results: Every task and seed that was measured.
    """
    head, reading, *zoo = ((_TEXTS / name).read_text(encoding="utf-8").rstrip() for name in _WRITTEN)
    titles = {own.task: own.title for own in results}
    parts = [
        filled(head, results),
        "## Tasks\n\n" + "\n".join(f"- `{name}`: {title}." for name, title in titles.items()),
        "## Summary\n\n" + summary(results) + "\n\n" + _unmeasured(results),
        "## Rungs\n\n" + tabulate([[own.name, own.needs] for own in RUNGS], ["rung", "needs"], tablefmt="github"),
        filled(reading, results),
        *zoo,
        section(),
        "## Every arm",
        *(table(own).rstrip() for own in results),
    ]
    return "\n\n".join(parts) + "\n"


def summary(results: Sequence[Result]) -> str:
    """Return R of a perfect copy and of every rung, at the dose that dev chose: rows are tasks, seeds and metrics.

    Where a task has several metrics, the label that all of them together give stands below.
    """
    rungs = [own.name for own in RUNGS if any(own.name in result.curves for result in results)]
    rows = [row for result in results for row in _rows(result, rungs)]
    return tabulate(rows, ["task", "seed", "metric", PERFECT_COPY, *rungs], tablefmt="github", disable_numparse=True)


def _rows(result: Result, rungs: Sequence[str]) -> Iterator[list[str]]:
    start = [result.task, str(result.seed)]
    for index, report in enumerate(result.reports):
        yield [*start, report.metric, _copy(report), *(_cell(result, index, rung) for rung in rungs)]
    if len(result.reports) > 1:
        yield [*start, "overall", "", *(_overall(result, rung) for rung in rungs)]


def _copy(report: MetricReport) -> str:
    own = report.arm(PERFECT_COPY)
    return "" if own is None or own.recovered is None else worded(own.recovered)


def _unmeasured(results: Sequence[Result]) -> str:
    """Say which rungs have no number anywhere, and what an empty cell of the summary means where there is one."""
    nowhere = [own.name for own in RUNGS if results and not any(own.name in result.curves for result in results)]
    parts = [f"Measured in no case: {', '.join(nowhere)}."] if nowhere else []
    if len({frozenset(result.curves) for result in results}) > 1:
        parts.append("What an empty cell stands for was not measured; `overall` of a perfect copy is not judged.")
    return "\n".join(parts)


def _cell(result: Result, metric: int, rung: str) -> str:
    if rung not in result.curves:
        return ""
    report, dose = result.reports[metric], result.dose(rung)
    if dose == 0:
        return _NO_DOSE
    own = report.arm(dosed(rung, dose))
    if own is None or own.recovered is None:
        return "no R"
    return f"{worded(own.recovered)} {verdict(result, report, own.arm) or _UNJUDGED} (dose {dose:g})"


def _overall(result: Result, rung: str) -> str:
    """Return the label of a rung by all metrics; empty where it was not measured."""
    if rung not in result.curves:
        return ""
    dose = result.dose(rung)
    return f"{overall(result, dosed(rung, dose)) or _UNJUDGED} (dose {dose:g})" if dose else _NO_DOSE
