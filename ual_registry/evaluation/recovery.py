"""Recovered gain: what share of the gain of an adapter trained on the base itself a carried one brings.

``R = (M(base + adapter) - M(base)) / (M(base + native) - M(base))``, the sign turned where lower is better. It is never
clipped: it may be below 0 and above 1. It is not given where its denominator is no gain to speak of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ual_registry.evaluation.bootstrap import Interval, interval, resample
from ual_registry.evaluation.series import Series

__all__ = ["ArmGain", "Label", "MetricReport", "label_of", "measure_metric", "worst_label"]

_MIN_SHARE_GAIN = 0.03
_MIN_ERRORS = 3.0


class Label(StrEnum):
    """The verdict of a transfer, the best first."""

    WORKS = "works"
    PARTIAL = "partial"
    NONE = "none"
    HARMFUL = "harmful"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmGain:
    """One arm on one metric.

    Attributes:
        arm: Its name.
        value: The metric.
        gain: How much better than the base it is; negative where worse.
        recovered: The gain over that of the native arm; ``None`` where that has no headroom or was not measured.
    """

    arm: str
    value: Interval
    gain: Interval
    recovered: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """Every arm on one metric.

    Attributes:
        metric: The metric.
        arms: Its arms, the base first.
        headroom_error: Standard error of the native arm's gain; ``None`` where it was not measured.
        no_recovery_because: Why no recovered gain is given; ``None`` where it is.
        is_exhausted: Whether the base alone is so good already that there is no gain to speak of.
    """

    metric: str
    arms: tuple[ArmGain, ...]
    headroom_error: float | None
    no_recovery_because: str | None
    is_exhausted: bool = False

    def arm(self, name: str) -> ArmGain | None:
        """Return an arm by its name."""
        return next((arm for arm in self.arms if arm.arm == name), None)


def measure_metric(arms: Mapping[str, Series], *, base: str, native: str, seed: int, resamples: int) -> MetricReport:
    """Compare the arms of one metric, all on the same draws of the items.

    Args:
        arms: The metric by arm; one of them is the base.
        base: Name of the arm that gains are measured from.
        native: Name of the arm that gives the denominator; it may be absent.
        seed: Seeds the draws.
        resamples: How many draws.
    """
    names, series = list(arms), list(arms.values())
    drawn = resample(series, seed=seed, resamples=resamples)
    sign, before = series[0].sign, names.index(base)
    gains = sign * (drawn - drawn[:, [before]])
    points = [sign * (own.value - series[before].value) for own in series]
    denominator, error, reason = None, None, "no native adapter was measured"
    if native in arms:
        place = names.index(native)
        error = float(gains[:, place].std(ddof=1)) if resamples > 1 else 0.0
        reason = _no_headroom(points[place], error, is_share=series[0].is_share) or ""
        denominator = None if reason else (points[place], gains[:, place])
    return MetricReport(
        metric=series[0].metric,
        arms=tuple(
            ArmGain(
                arm=name,
                value=interval(series[index].value, drawn[:, index]),
                gain=interval(points[index], gains[:, index]),
                recovered=_ratio(points[index], gains[:, index], denominator),
            )
            for index, name in enumerate(names)
        ),
        headroom_error=error,
        no_recovery_because=reason or None,
        is_exhausted=series[before].is_share and series[before].value > 1 - _MIN_SHARE_GAIN,
    )


def _no_headroom(gain: float, error: float, *, is_share: bool) -> str | None:
    """Say why a native gain is too small to divide by; ``None`` where it is not."""
    if is_share and gain < _MIN_SHARE_GAIN:
        return f"no headroom: the native adapter gains {100 * gain:.1f} points, expected at least 3"
    if gain <= 0 or gain < _MIN_ERRORS * error:
        return f"no headroom: the native adapter gains {gain:.4g}, expected at least 3 standard errors of {error:.2g}"
    return None


def _ratio(gain: float, gains: np.ndarray, denominator: tuple[float, np.ndarray] | None) -> Interval | None:
    if denominator is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = gains / denominator[1]
    # A draw in which the native adapter gains nothing has no ratio; the rule of headroom makes it all but impossible.
    return interval(gain / denominator[0], drawn[np.isfinite(drawn)])


def label_of(report: MetricReport, arm: str, controls: Sequence[str]) -> Label | None:
    """Return the verdict on one arm by one metric.

    ``harmful`` where the interval lies below 0. ``works`` where R is at least 0.5, its lower bound over 0.25 and over
    every control's upper bound. ``partial`` where the lower bound is over 0 and over every control's upper bound.
    ``none`` otherwise. Without a native adapter gains are compared instead of R, and nothing can be said to work.

    Args:
        report: The metric.
        arm: The arm to judge.
        controls: The arms that must do worse: random ones, the sign-flipped one, and those of another task.

    Returns:
        The verdict; ``None`` where the native adapter has no headroom and the arm does no harm.
    """
    own = report.arm(arm)
    assert own is not None  # the arm under test is always measured
    judged = own.recovered or own.gain
    if judged.high < 0:
        return Label.HARMFUL
    if own.recovered is None and report.headroom_error is not None:
        return None
    others = [found for name in controls if (found := report.arm(name)) is not None]
    floor = max([0.0, *((other.recovered or other.gain).high for other in others)])
    if judged.low <= floor:
        return Label.NONE
    is_clear = own.recovered is not None and judged.value >= 0.5 and judged.low > 0.25
    return Label.WORKS if is_clear else Label.PARTIAL


def worst_label(labels: Sequence[Label | None]) -> Label | None:
    """Return the least good verdict of several metrics.

    One without a verdict leaves ``partial`` at most: what nobody can say of it may be that the adapter does not work.
    """
    found = [label for label in labels if label is not None]
    if not found:
        return None
    limit = [Label.PARTIAL] if len(found) < len(labels) else []
    return max(found + limit, key=list(Label).index)
