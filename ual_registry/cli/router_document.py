"""What the commands about routers print with ``--json``; measured numbers have six digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ual_registry.air.rounding import rounded

if TYPE_CHECKING:
    from ual_registry.dispatch.decision import Decision
    from ual_registry.dispatch.log import Drift
    from ual_registry.dispatch.measure import RouterEvaluation
    from ual_registry.dispatch.overlap import Overlap
    from ual_registry.dispatch.router import Router
    from ual_registry.workflows.route import Replay
    from ual_registry.workflows.router import TrainedRouter

__all__ = ["changed", "decisions", "drift", "evaluation", "overlap", "replayed", "trained"]


def trained(found: TrainedRouter) -> dict[str, Any]:
    """Return the document of a trained router."""
    report = found.report
    return {
        **changed(found.router),
        "digest": None if found.digest is None else str(found.digest),
        "revision": found.revision,
        "examples": report.examples,
        "held_out": report.held_out,
        "accuracy": rounded(report.accuracy),
        "kept": rounded(report.kept),
        "precision": rounded(report.precision),
        "duplicates": {text: list(names) for text, names in report.duplicates.items()},
        "unused": dict(found.unused),
    }


def changed(router: Router) -> dict[str, Any]:
    """Return the document of a router after it was changed."""
    thresholds = router.manifest.thresholds
    return {
        "domains": [
            {
                "name": own.name,
                "adapter": own.adapter,
                "examples": own.examples,
                "min_probability": None if own.min_probability is None else rounded(own.min_probability),
            }
            for own in router.manifest.domains
        ],
        "encoder": router.manifest.encoder.id,
        "temperature": rounded(router.manifest.temperature),
        "thresholds": {
            "max_distance": rounded(thresholds.max_distance),
            "min_probability": rounded(thresholds.min_probability),
            "min_margin": rounded(thresholds.min_margin),
        },
    }


def evaluation(found: RouterEvaluation) -> dict[str, Any]:
    """Return the document of an evaluation."""
    return {
        "queries": found.queries,
        "accuracy": rounded(found.accuracy),
        "macro_f1": rounded(found.macro_f1),
        "calibration_error": rounded(found.calibration_error),
        "kept": rounded(found.kept),
        "kept_precision": rounded(found.kept_precision),
        "out_of_scope": found.out_of_scope,
        "refused": _or_none(found.refused),
        "auroc": _or_none(found.auroc),
        "refused_at_95_kept": _or_none(found.refused_at_95_kept),
        "risk_coverage": [[rounded(value) for value in point] for point in found.risk_coverage],
        "domains": list(found.names),
        "confusion": [list(row) for row in found.confusion],
        "misses": [
            {"query": miss.text, "expected": miss.expected, **miss.decision.document()} for miss in found.misses
        ],
    }


def _or_none(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def overlap(found: Overlap) -> dict[str, Any]:
    """Return the document of an overlap."""
    return {
        "domains": list(found.names),
        "shares": [[rounded(value) for value in row] for row in found.shares],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "share": rounded(pair.share),
                "examples": [
                    {"domain": domain, "text": text, "probability": rounded(probability)}
                    for domain, text, probability in pair.examples
                ],
            }
            for pair in found.pairs
        ],
    }


def decisions(queries: Sequence[str], found: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return the document of decisions."""
    return [{"query": query, **decision.document()} for query, decision in zip(queries, found, strict=True)]


def replayed(found: Replay) -> dict[str, Any]:
    """Return the document of a replay."""
    return {
        "decisions": found.decisions,
        "forced": found.forced,
        "changes": [
            {
                "query": change.before.query,
                "before": {
                    "reason": change.before.reason,
                    "domain": change.before.domain,
                    "adapter": change.before.adapter,
                },
                "after": change.after.document(),
            }
            for change in found.changes
        ],
    }


def drift(found: Drift) -> dict[str, Any]:
    """Return the document of a drift report."""
    return {
        "before": found.before,
        "after": found.after,
        "domains": {name: [rounded(value) for value in pair] for name, pair in found.domains.items()},
        "abstained": [rounded(value) for value in found.abstained],
        "distance_p": rounded(found.distance_p),
        "domains_p": rounded(found.domains_p),
        "has_drifted": found.has_drifted,
    }
