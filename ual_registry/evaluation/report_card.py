"""The report card: an evaluation as a statement of provenance (spec: lineage, evaluation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ual_registry.air.model import Statement
from ual_registry.air.rounding import rounded
from ual_registry.evaluation.bootstrap import Interval
from ual_registry.evaluation.recovery import ArmGain, MetricReport
from ual_registry.evaluation.report import ADAPTER, BASE, SOURCE_BASE, Evaluation

__all__ = ["PROTOCOL", "evaluation_statement"]

PROTOCOL = "paired arms, 1.1"
"""Names the way of measuring; docs/evaluate.md describes it."""


def evaluation_statement(
    found: Evaluation,
    *,
    materials: Mapping[str, str],
    builder_version: str,
    created_at: str | None = None,
) -> Statement:
    """Return the report card of an adapter.

    ``recovered_gain`` of the metric that decided the label comes first, so that a reader that looks for one number
    finds the least flattering one. Numbers are rounded to six digits.

    Args:
        found: What was measured.
        materials: Digests by name of what went in: adapters, configs of base models, data.
        builder_version: Version of this package.
        created_at: When, RFC 3339.
    """
    results = [*_recoveries(found), *_values(found), *_side_effects(found)]
    return Statement(
        type="evaluation",
        builder={"name": "ual-registry", "version": builder_version},
        parameters={"protocol": PROTOCOL, "seed": found.seed, "settings": _settings(found)},
        materials=tuple({"name": name, "digest": digest} for name, digest in materials.items()),
        byproducts={"results": tuple(results), **({"label": str(found.label)} if found.label else {})},
        created_at=created_at,
    )


def _settings(found: Evaluation) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "task": found.task,
        "prompts": "plain" if found.is_plain else "chat",
        "resamples": found.resamples,
        "labels": {metric: str(label) for metric, label in found.labels.items() if label},
        "notes": list(found.notes),
        "identity_error": rounded(found.identity_error),
    }
    if found.dosed_labels:
        settings["dosed_labels"] = {metric: str(label) for metric, label in found.dosed_labels.items() if label}
    if found.dose is not None:
        settings["dose"] = {
            "chosen": found.dose.chosen,
            "metric": found.dose.metric,
            "data_digest": found.dose.data_digest,
            "points": [
                {"gamma": point.gamma, **{name: rounded(value) for name, value in point.values.items()}}
                for point in found.dose.points
            ],
        }
    return settings


def _recoveries(found: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield R of every arm by every metric, that of the deciding metric under the plain name first."""
    deciding = _deciding(found)
    if deciding is not None:
        yield _result(found, ADAPTER, "recovered_gain", _of(deciding).recovered)
    for report in found.metrics:
        for arm in report.arms:
            if arm.recovered is not None and arm.arm != BASE:
                yield _result(found, arm.arm, f"recovered_gain_{report.metric}", arm.recovered)


def _deciding(found: Evaluation) -> MetricReport | None:
    """Return the metric whose verdict is that of the adapter; of several the one with the lowest R."""
    with_gain = [report for report in found.metrics if _of(report).recovered is not None]
    decided = [report for report in with_gain if found.labels.get(report.metric) == found.label]
    return min(decided or with_gain, key=_recovered, default=None)


def _of(report: MetricReport) -> ArmGain:
    arm = report.arm(ADAPTER)
    assert arm is not None  # the arm under test is always measured
    return arm


def _recovered(report: MetricReport) -> float:
    recovered = _of(report).recovered
    return recovered.value if recovered is not None else 0.0


def _values(found: Evaluation) -> Iterator[dict[str, Any]]:
    for report in (*found.metrics, *found.source):
        for arm in report.arms:
            yield _result(found, arm.arm, report.metric, arm.value)
            if arm.arm not in (BASE, SOURCE_BASE):
                yield _result(found, arm.arm, f"gain_{report.metric}", arm.gain)


def _side_effects(found: Evaluation) -> Iterator[dict[str, Any]]:
    effects = found.side_effects
    if effects is None:
        return
    for arm, metric, own in (
        (BASE, "generic_bits_per_byte", effects.bits_per_byte),
        (ADAPTER, "generic_bits_per_byte_change", effects.change),
        (ADAPTER, "generic_kl", effects.divergence),
    ):
        yield {**_result(found, arm, metric, own), "n": effects.documents, "data_digest": effects.data_digest}


def _result(found: Evaluation, arm: str, metric: str, own: Interval | None) -> dict[str, Any]:
    assert own is not None  # callers ask for what was measured
    return {
        "arm": arm,
        "metric": metric,
        "value": rounded(own.value),
        "low": rounded(own.low),
        "high": rounded(own.high),
        "n": found.items,
        "data_digest": found.data_digest,
    }
