"""How good a router is: which domain, whether any, and how honest its probabilities are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from ual_registry.dispatch.classifier import Floats, Indices
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.router import Router

__all__ = [
    "KEPT",
    "Miss",
    "RouterEvaluation",
    "evaluate_router",
    "expected_calibration_error",
    "most_confused",
    "risk_coverage",
]

KEPT = 0.95
_BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A query that went wrong.

    Attributes:
        text: The query.
        expected: Its domain; ``None`` for one that no domain should answer.
        decision: What the router said.
    """

    text: str
    expected: str | None
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterEvaluation:
    """What was measured; shares are 0..1.

    Attributes:
        queries: In-scope queries.
        accuracy: Share of them whose likeliest domain is right.
        macro_f1: Mean over domains of the harmonic mean of precision and recall.
        calibration_error: Expected calibration error of the domain's probability, 15 equal bins.
        kept: Share of in-scope queries that the thresholds route.
        kept_precision: Share of those whose domain is right.
        out_of_scope: Queries that no domain should answer.
        refused: Share of those that are not routed.
        auroc: Area under the curve of the score that tells in-scope from out-of-scope queries.
        refused_at_95_kept: Share of out-of-scope queries refused where 95 % of the in-scope ones given are kept.
        risk_coverage: Points (coverage, share wrong among the covered), likeliest first.
        confusion: (domains, domains) counts, rows are true domains.
        names: The domains, in the order of rows and columns.
        misses: Queries that went wrong.
    """

    queries: int
    accuracy: float
    macro_f1: float
    calibration_error: float
    kept: float
    kept_precision: float
    out_of_scope: int
    refused: float | None
    auroc: float | None
    refused_at_95_kept: float | None
    risk_coverage: tuple[tuple[float, float], ...]
    confusion: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    misses: tuple[Miss, ...]


def evaluate_router(
    router: Router,
    texts: Sequence[str],
    labels: Sequence[str],
    embeddings: Floats,
    *,
    foreign_texts: Sequence[str] = (),
    foreign_embeddings: Floats | None = None,
) -> RouterEvaluation:
    """Measure a router on queries that it was not fitted on.

    Args:
        router: The router.
        texts: In-scope queries.
        labels: Their domains; each one of the router's.
        embeddings: (queries, dimension) of them.
        foreign_texts: Queries that no domain should answer.
        foreign_embeddings: (foreign queries, dimension) of them.

    Raises:
        RouteError: The embeddings are of another encoder.
    """
    index = {name: place for place, name in enumerate(router.names)}
    truth = np.array([index[label] for label in labels], dtype=np.int64)
    decisions = router.route(embeddings)
    foreign = router.route(foreign_embeddings) if foreign_embeddings is not None and len(foreign_embeddings) else []
    predicted = np.array([index[str(decision.domain)] for decision in decisions], dtype=np.int64)
    probability = np.array([decision.probability for decision in decisions], dtype=np.float64)
    is_kept = np.array([_is_kept(decision) for decision in decisions])
    is_right = predicted == truth
    auroc, refused_at = _scope(decisions, foreign)
    return RouterEvaluation(
        queries=len(texts),
        accuracy=float(is_right.mean()),
        macro_f1=float(f1_score(truth, predicted, average="macro", zero_division=0)),
        calibration_error=expected_calibration_error(probability, is_right),
        kept=float(is_kept.mean()),
        kept_precision=float(is_right[is_kept].mean()) if is_kept.any() else 0.0,
        out_of_scope=len(foreign),
        refused=float(np.mean([not _is_kept(decision) for decision in foreign])) if foreign else None,
        auroc=auroc,
        refused_at_95_kept=refused_at,
        risk_coverage=risk_coverage(probability, is_right),
        confusion=_confusion(truth, predicted, len(index)),
        names=router.names,
        misses=tuple(_misses(texts, labels, decisions, foreign_texts, foreign)),
    )


def _is_kept(decision: Decision) -> bool:
    return decision.reason in {Reason.OK, Reason.NO_ADAPTER}


def _scope(decisions: Sequence[Decision], foreign: Sequence[Decision]) -> tuple[float | None, float | None]:
    """Return AUROC and the share refused at 95 % kept, of how far thresholds would have to move to refuse a query."""
    if not foreign:
        return None, None
    own, other = _scope_scores(decisions, decisions), _scope_scores(decisions, foreign)
    truth = np.concatenate([np.ones(len(own)), np.zeros(len(other))])
    limit = np.quantile(own, 1 - KEPT)
    return float(roc_auc_score(truth, np.concatenate([own, other]))), float((other < limit).mean())


def _scope_scores(reference: Sequence[Decision], queries: Sequence[Decision]) -> Floats:
    """Return the least share of in-scope queries that thresholds refuse when they refuse each query.

    All thresholds are moved together, each one by the share of in-scope queries that it refuses, as when they are
    fitted.
    """
    shares = []
    for measure in (_distance, _probability, _margin):
        ordered = np.sort([measure(decision) for decision in reference])
        values = [measure(decision) for decision in queries]
        shares.append(np.searchsorted(ordered, values, side="right") / len(ordered))
    found: Floats = np.min(shares, axis=0)
    return found


def _distance(decision: Decision) -> float:
    assert decision.scores is not None  # a router always says what it measured
    return -decision.scores.nearest.distance


def _probability(decision: Decision) -> float:
    return decision.probability or 0.0


def _margin(decision: Decision) -> float:
    return decision.margin or 0.0


def expected_calibration_error(probability: Floats, is_right: np.ndarray) -> float:
    """Return the mean difference of probability and accuracy over 15 equal bins, weighted by their size.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks, equation 3.
    """
    bins = np.clip((probability * _BINS).astype(int), 0, _BINS - 1)
    gaps = [
        abs(float(probability[bins == own].mean()) - float(is_right[bins == own].mean())) * float((bins == own).mean())
        for own in np.unique(bins)
    ]
    return float(sum(gaps))


def risk_coverage(probability: Floats, is_right: np.ndarray, *, points: int = 20) -> tuple[tuple[float, float], ...]:
    """Return (coverage, share wrong among the covered) where ever less likely queries are covered.

    Source: El-Yaniv and Wiener (2010), On the Foundations of Noise-free Selective Classification.
    """
    order = np.argsort(-probability, kind="stable")
    wrong = np.cumsum(~is_right[order])
    counts = np.unique(np.linspace(1, len(order), points).round().astype(int))
    return tuple((float(count / len(order)), float(wrong[count - 1] / count)) for count in counts)


def _confusion(truth: Indices, predicted: Indices, count: int) -> tuple[tuple[int, ...], ...]:
    matrix = confusion_matrix(truth, predicted, labels=range(count))
    return tuple(tuple(int(value) for value in row) for row in matrix)


def _misses(
    texts: Sequence[str],
    labels: Sequence[str],
    decisions: Sequence[Decision],
    foreign_texts: Sequence[str],
    foreign: Sequence[Decision],
) -> list[Miss]:
    found = [
        Miss(text=text, expected=label, decision=decision)
        for text, label, decision in zip(texts, labels, decisions, strict=True)
        if decision.domain != label or not _is_kept(decision)
    ]
    return found + [
        Miss(text=text, expected=None, decision=decision)
        for text, decision in zip(foreign_texts, foreign, strict=True)
        if _is_kept(decision)
    ]


def most_confused(evaluation: RouterEvaluation, limit: int = 10) -> list[tuple[str, str, int]]:
    """Return the pairs (true domain, said domain, queries) that are confused most often."""
    pairs: Mapping[tuple[str, str], int] = {
        (evaluation.names[row], evaluation.names[column]): count
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    }
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(true, said, count) for (true, said), count in ranked[:limit]]
