"""What the measured arms mean: a verdict for each metric, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ual_registry.evaluation.recovery import Label, MetricReport, label_of, worst_label
from ual_registry.evaluation.report import ADAPTER, RANDOM, SIGN_FLIPPED, SOURCE, WRONG_TASK, Dose, dosed_arm

__all__ = ["LEAST_ITEMS", "Verdict", "judge"]

LEAST_ITEMS = 10
"""Of fewer items nothing is said: draws of a few items hardly differ, and of one item the interval is a point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on an adapter.

    Attributes:
        labels: On the adapter as it is, by metric; ``None`` where nothing can be said.
        label: The least good of them; of a metric that the base alone exhausts nothing need be said.
        dosed_labels: On the adapter at the dose that dev chose; empty where that is 0 or 1, or none was chosen.
        notes: What limits the verdict.
    """

    labels: dict[str, Label | None]
    label: Label | None
    dosed_labels: dict[str, Label | None]
    notes: tuple[str, ...]


def judge(metrics: Sequence[MetricReport], source: Sequence[MetricReport], dose: Dose | None, *, items: int) -> Verdict:
    """Judge the adapter by every metric.

    Args:
        metrics: The arms on the base model, by metric.
        source: The arms on the source base; empty where they were not measured.
        dose: The dose curve, where there is one.
        items: How many different items were measured.
    """
    if items < LEAST_ITEMS:
        too_few = f"{items} different items are too few for a verdict: expected at least {LEAST_ITEMS}"
        return Verdict(
            labels={report.metric: None for report in metrics}, label=None, dosed_labels={}, notes=(too_few,)
        )
    void = {report.metric for report in source if _is_void(report)}
    is_dosed = dose is not None and dose.chosen not in (0.0, 1.0)
    labels = {report.metric: _label(report, ADAPTER, void) for report in metrics}
    said = [labels[report.metric] for report in metrics if not report.is_exhausted or labels[report.metric]]
    return Verdict(
        labels=labels,
        label=worst_label(said),
        dosed_labels={report.metric: _label(report, dosed_arm(dose.chosen), void) for report in metrics}
        if dose is not None and is_dosed
        else {},
        notes=tuple(_notes(metrics, source)),
    )


def _is_void(report: MetricReport) -> bool:
    """Tell whether the source adapter gains nothing, so that there is nothing to carry."""
    source = report.arm(SOURCE)
    return source is not None and source.gain.value <= 0


def _label(report: MetricReport, arm: str, void: set[str]) -> Label | None:
    """Judge one arm; of a void transfer only harm can be said."""
    others = (SIGN_FLIPPED, WRONG_TASK)
    controls = [own.arm for own in report.arms if own.arm.startswith(f"{RANDOM}-") or own.arm in others]
    found = label_of(report, arm, controls)
    return None if report.metric in void and found is not Label.HARMFUL else found


def _notes(metrics: Sequence[MetricReport], source: Sequence[MetricReport]) -> Iterator[str]:
    for report in metrics:
        if report.no_recovery_because:
            yield f"{report.metric}: no recovered gain, {report.no_recovery_because}"
    for report in source:
        if _is_void(report):
            yield f"{report.metric}: the source adapter gains nothing on its own base, so the transfer is void"
