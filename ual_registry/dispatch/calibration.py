"""Honest probabilities, and thresholds that keep a promise: both fitted on examples that nothing else was fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ual_registry.air.router import Thresholds
from ual_registry.dispatch.classifier import Classifier, Floats, Indices
from ual_registry.errors import RouteError

__all__ = ["HeldOut", "Target", "domain_probabilities", "fit_temperature", "fit_thresholds", "measured"]

_TEMPERATURES = (0.02, 50.0)
_SURE = 1 - 1e-6
"""No probability and no lead is asked to be larger: where domains lie far apart, only rounding is left above it."""
_STEPS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What thresholds are to keep on held-out examples; one of the two.

    Attributes:
        kept: Share (0..1) of in-scope examples that is routed.
        precision: Share (0..1) of routed examples whose domain is right; as many as can be are routed then.
    """

    kept: float | None = 0.95
    precision: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        for name in ("kept", "precision"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise RouteError(f"target {name}: expected above 0, at most 1, got {value:g}", code="target")
        if (self.kept is None) == (self.precision is None):
            raise RouteError("target: expected either kept or precision", code="target")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What was measured of held-out examples.

    Attributes:
        probability: (examples,) calibrated probability of the likeliest domain.
        margin: (examples,) its lead over the second.
        distance: (examples,) cosine distance to the nearest prototype.
        predicted: (examples,) the likeliest domain.
        labels: (examples,) the true one.
    """

    probability: Floats
    margin: Floats
    distance: Floats
    predicted: Indices
    labels: Indices

    def is_kept(self, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Tell for every example whether it passes."""
        return (
            (self.distance <= thresholds.max_distance)
            & (self.probability >= thresholds.min_probability)
            & (self.margin >= thresholds.min_margin)
        )


def fit_temperature(classifier: Classifier, logits: Floats, labels: Indices) -> float:
    """Return the temperature of the lowest negative log-likelihood of the domains.

    Args:
        classifier: Whose logits they are.
        logits: (examples, clusters) of examples that it was not fitted on.
        labels: (examples,) the true domains.

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks, section 4.2; here for the sum over clusters.
    """
    rows = np.arange(len(labels))

    def loss(exponent: float) -> float:
        return -float(classifier.log_probabilities(logits, float(np.exp(exponent)))[rows, labels].mean())

    bounds = tuple(np.log(_TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def measured(probabilities: Floats, distances: Floats, labels: Indices) -> HeldOut:
    """Return what thresholds look at.

    Args:
        probabilities: (examples, domains).
        distances: (examples,).
        labels: (examples,).
    """
    ordered = np.sort(probabilities, axis=1)
    second = ordered[:, -2] if ordered.shape[1] > 1 else np.zeros(len(ordered))
    return HeldOut(
        probability=ordered[:, -1],
        margin=ordered[:, -1] - second,
        distance=distances,
        predicted=probabilities.argmax(axis=1),
        labels=labels,
    )


def fit_thresholds(held_out: HeldOut, target: Target) -> Thresholds:
    """Return thresholds that keep the target on held-out examples.

    All three cut the same share off their own end, and that share is searched for: queries from elsewhere are unlike
    in-scope ones in one way or another, so that three mild limits refuse more of them than a strict one does.

    Args:
        held_out: Measured on examples that neither classifier nor prototypes were fitted on.
        target: What to keep.

    Raises:
        RouteError: The precision cannot be reached by abstaining.
    """
    if target.kept is not None:
        return _keeping(held_out, target.kept)
    assert target.precision is not None  # a target has one of the two
    for share in np.linspace(0.0, 0.99, 100):
        found = _cut(held_out, float(share))
        if _precision(held_out, found) >= target.precision:
            return found
    raise RouteError(
        f"precision {target.precision:g} is not reached on held-out examples, however few are routed",
        code="target",
        hint="give more or cleaner examples, or ask for less",
    )


def _keeping(held_out: HeldOut, kept: float) -> Thresholds:
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        is_enough = held_out.is_kept(_cut(held_out, middle)).mean() >= kept
        low, high = (middle, high) if is_enough else (low, middle)
    return _cut(held_out, low)


def _cut(held_out: HeldOut, share: float) -> Thresholds:
    """Return thresholds of which each one alone refuses a share of the held-out examples."""
    return Thresholds(
        max_distance=float(np.quantile(held_out.distance, 1 - share)),
        min_probability=_lower(held_out.probability, share),
        min_margin=_lower(held_out.margin, share),
    )


def _lower(values: Floats, share: float) -> float:
    return min(float(np.quantile(values, share)), _SURE)


def _precision(held_out: HeldOut, thresholds: Thresholds) -> float:
    is_kept = held_out.is_kept(thresholds)
    return float((held_out.predicted == held_out.labels)[is_kept].mean()) if is_kept.any() else 0.0


def domain_probabilities(held_out: HeldOut, domains: int, share: float, least: int) -> list[float | None]:
    """Return a probability for every domain below which a share of its own examples falls.

    Args:
        held_out: The examples.
        domains: Number of domains.
        share: Share (0..1) of a domain's own examples to refuse.
        least: Examples that a domain needs for a threshold of its own.
    """
    found: list[float | None] = []
    for domain in range(domains):
        own = held_out.probability[(held_out.predicted == domain) & (held_out.labels == domain)]
        found.append(_lower(own, share) if len(own) >= least else None)
    return found
