"""What became of a query: an object with everything that the decision was made from, to be logged and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ual_registry.air.rounding import rounded
from ual_registry.air.router import Domain, Thresholds

__all__ = ["Decision", "DomainScores", "Nearest", "Reason", "decide"]


class Reason(StrEnum):
    """Why a decision is as it is."""

    OK = "ok"
    """One domain is near, likely, and ahead of the others."""
    OUT_OF_SCOPE = "out_of_scope"
    """The query is further from every prototype than in-scope queries are."""
    AMBIGUOUS = "ambiguous"
    """No domain is likely enough, or two are too close to each other."""
    NO_ADAPTER = "no_adapter"
    """The domain has no adapter, or the registry does not hold it."""
    INCOMPATIBLE = "incompatible"
    """The domain's adapter belongs to another base model."""
    FORCED = "forced"
    """The caller named the adapter; nothing was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The prototype next to a query.

    Attributes:
        domain: Its domain.
        distance: Cosine distance, 0..2.
        example: The text that it stands for, where the router keeps texts.
    """

    domain: str
    distance: float
    example: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainScores:
    """What a router measures of one query.

    Attributes:
        probabilities: Calibrated probability of every domain, adding up to 1.
        nearest: The nearest prototype.
    """

    probabilities: Mapping[str, float]
    nearest: Nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which domain and adapter answer a query, and why.

    Attributes:
        reason: Why.
        domain: The likeliest domain; ``None`` where the caller forced an adapter.
        adapter: Digest or reference of the adapter that answers; ``None`` where the fallback does.
        probability: Calibrated probability of the domain.
        margin: Its lead over the second domain.
        scores: What was measured.
        thresholds: What it was held against, the domain's own probability in place of the router's.
        detail: What else is to be said, such as what an adapter was made for.
    """

    reason: Reason
    domain: str | None
    adapter: str | None
    probability: float | None = None
    margin: float | None = None
    scores: DomainScores | None = None
    thresholds: Thresholds | None = None
    detail: str | None = None

    @property
    def is_routed(self) -> bool:
        """Whether an adapter answers."""
        return self.adapter is not None

    def document(self) -> dict[str, Any]:
        """Return the decision as JSON; absent fields are left out."""
        found: dict[str, Any] = {"reason": str(self.reason), "domain": self.domain, "adapter": self.adapter}
        if self.scores is not None and self.thresholds is not None:
            nearest = self.scores.nearest
            found |= {
                "probability": rounded(self.probability or 0.0),
                "margin": rounded(self.margin or 0.0),
                "nearest": {
                    "domain": nearest.domain,
                    "distance": rounded(nearest.distance),
                    **({} if nearest.example is None else {"example": nearest.example}),
                },
                "probabilities": {name: rounded(value) for name, value in self.scores.probabilities.items()},
                "thresholds": {
                    "max_distance": rounded(self.thresholds.max_distance),
                    "min_probability": rounded(self.thresholds.min_probability),
                    "min_margin": rounded(self.thresholds.min_margin),
                },
            }
        return found if self.detail is None else {**found, "detail": self.detail}


def decide(scores: DomainScores, domains: Mapping[str, Domain], thresholds: Thresholds) -> Decision:
    """Decide which domain a query belongs to, or why none.

    Three questions in order: is the query near anything, is a domain likely, is it ahead of the second. Raising a
    probability or a margin, or lowering the distance, never routes a query that was not routed before.

    Args:
        scores: What was measured of the query.
        domains: The router's domains by name.
        thresholds: When to abstain.
    """
    ranked = sorted(scores.probabilities, key=lambda name: (-scores.probabilities[name], name))
    first = ranked[0]
    probability = scores.probabilities[first]
    margin = probability - (scores.probabilities[ranked[1]] if len(ranked) > 1 else 0.0)
    own = domains[first]
    if own.min_probability is not None:
        thresholds = Thresholds(
            max_distance=thresholds.max_distance,
            min_probability=own.min_probability,
            min_margin=thresholds.min_margin,
        )
    if scores.nearest.distance > thresholds.max_distance:
        reason = Reason.OUT_OF_SCOPE
    elif probability < thresholds.min_probability or margin < thresholds.min_margin:
        reason = Reason.AMBIGUOUS
    else:
        reason = Reason.OK if own.adapter is not None else Reason.NO_ADAPTER
    return Decision(
        reason=reason,
        domain=first,
        adapter=own.adapter if reason is Reason.OK else None,
        probability=probability,
        margin=margin,
        scores=scores,
        thresholds=thresholds,
    )
