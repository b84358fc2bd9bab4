"""Intervals, recovered gain and verdicts against a slow reference, and the rules that no number may break."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import evaluation as reference
from ual_registry.evaluation import bootstrap
from ual_registry.evaluation.bootstrap import Interval, resample
from ual_registry.evaluation.recovery import ArmGain, Label, MetricReport, label_of, measure_metric, worst_label
from ual_registry.evaluation.series import Series
from ual_registry.evaluation.verdict import judge


def series(values: list[float], weights: list[float] | None = None, *, sign: int = -1, share: bool = False) -> Series:
    return Series(
        metric="m",
        values=np.array(values, dtype=np.float64),
        weights=np.array(weights or [1.0] * len(values)),
        is_better_high=sign > 0,
        is_share=share,
    )


BASE = [3.0, 5.0, 4.0, 6.5, 2.0, 7.0]
NATIVE = [1.0, 2.5, 1.5, 2.0, 1.0, 3.0]
CARRIED = [2.0, 3.0, 3.5, 4.0, 2.1, 6.0]
SIZES = [10.0, 25.0, 7.0, 31.0, 12.0, 18.0]


@pytest.mark.parametrize("weights", [[1.0] * 6, SIZES], ids=["means", "shares of bytes"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_every_interval_is_that_of_the_reference(weights: list[float], sign: int) -> None:
    # where higher is better the losses are turned round, so that the native arm still gains
    base, native, carried = ([-sign * value for value in own] for own in (BASE, NATIVE, CARRIED))
    arms = {
        "base": series(base, weights, sign=sign),
        "adapter": series(carried, weights, sign=sign),
        "native": series(native, weights, sign=sign),
    }
    found = measure_metric(arms, base="base", native="native", seed=5, resamples=400)
    drawn = reference.draws(6, 400, 5)
    every = [list(range(6))]
    for arm, values in (("base", base), ("adapter", carried), ("native", native)):
        own = found.arm(arm)
        assert own is not None
        metrics = [reference.metric(values, weights, items) for items in drawn]
        gains = reference.gains(values, base, weights, sign, drawn)
        expected = (
            (reference.metric(values, weights, every[0]), *reference.bounds(metrics)),
            (reference.gains(values, base, weights, sign, every)[0], *reference.bounds(gains)),
            reference.recovered(values, native, base, weights, sign=sign, drawn=drawn),
        )
        got = tuple((part.value, part.low, part.high) for part in (own.value, own.gain, own.recovered) if part)
        # both sides are float64; sums in another order move the last bits
        assert np.array(got) == pytest.approx(np.array(expected), rel=1e-12, abs=1e-12)
    native_gains = reference.gains(native, base, weights, sign, drawn)
    assert found.headroom_error == pytest.approx(reference.standard_error(native_gains), rel=1e-12)
    assert found.no_recovery_because is None


def test_draws_do_not_depend_on_how_they_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample([series(BASE), series(NATIVE)], seed=3, resamples=101)
    monkeypatch.setattr(bootstrap, "_BLOCK_NUMBERS", 42)
    assert np.array_equal(resample([series(BASE), series(NATIVE)], seed=3, resamples=101), whole)


def test_paired_arms_that_differ_by_a_constant_have_an_exact_gain() -> None:
    shifted = [value - 1.5 for value in BASE]
    found = measure_metric(
        {"base": series(BASE), "adapter": series(shifted)}, base="base", native="native", seed=0, resamples=200
    ).arm("adapter")
    assert found is not None
    assert (found.gain.low, found.gain.high) == pytest.approx((1.5, 1.5), abs=1e-12)
    assert found.value.high - found.value.low > 1


numbers = st.floats(-50, 50, allow_nan=False)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), st.integers(0, 9))
def test_the_gain_of_an_arm_is_the_loss_of_its_mirror_image(pairs: list[tuple[float, float]], seed: int) -> None:
    base, arm = [one for one, _ in pairs], [other for _, other in pairs]
    one, other = (
        measure_metric(
            {"base": series(base, sign=sign), "adapter": series(arm, sign=sign)},
            base="base",
            native="native",
            seed=seed,
            resamples=50,
        ).arm("adapter")
        for sign in (1, -1)
    )
    assert one is not None
    assert other is not None
    assert one.gain.value == -other.gain.value
    assert (one.gain.low, one.gain.high) == pytest.approx((-other.gain.high, -other.gain.low), abs=1e-9)


def hits(right: int, wrong: int) -> Series:
    return series([1.0] * right + [0.0] * wrong, sign=1, share=True)


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        (hits(520, 480), "no headroom: the native adapter gains 2.0 points, expected at least 3"),
        (hits(400, 600), "no headroom: the native adapter gains -10.0 points, expected at least 3"),
    ],
)
def test_a_native_adapter_that_gains_fewer_than_three_points_gives_no_denominator(native: Series, reason: str) -> None:
    found = measure_metric(
        {"base": hits(500, 500), "adapter": hits(900, 100), "native": native},
        base="base",
        native="native",
        seed=0,
        resamples=200,
    )
    assert (found.no_recovery_because, [arm.recovered for arm in found.arms]) == (reason, [None, None, None])


def test_a_native_gain_below_three_standard_errors_gives_no_denominator() -> None:
    base, native = [5.0, 1.0, 5.0, 1.0], [1.0, 4.5, 1.0, 4.5]
    found = measure_metric(
        {"base": series(base), "adapter": series(base), "native": series(native)},
        base="base",
        native="native",
        seed=0,
        resamples=2000,
    )
    gains = reference.gains(native, base, [1.0] * 4, -1, reference.draws(4, 2000, 0))
    error = reference.standard_error(gains)
    assert found.no_recovery_because == (
        f"no headroom: the native adapter gains 0.25, expected at least 3 standard errors of {error:.2g}"
    )


def test_recovered_gain_is_never_clipped() -> None:
    arms = {
        "base": series([4.0, 5.0, 6.0]),
        "native": series([3.0, 4.0, 5.0]),
        "better": series([1.0, 2.0, 3.0]),
        "worse": series([8.0, 9.0, 10.0]),
    }
    found = measure_metric(arms, base="base", native="native", seed=0, resamples=100)
    recovered = {arm.arm: arm.recovered.value for arm in found.arms if arm.recovered}
    assert recovered == pytest.approx({"base": 0.0, "native": 1.0, "better": 3.0, "worse": -4.0})


def report(
    adapter: tuple[float, float, float], *others: tuple[str, float, float, float], has: bool = True
) -> MetricReport:
    def arm(name: str, value: float, low: float, high: float) -> ArmGain:
        own = Interval(value=value, low=low, high=high)
        return ArmGain(arm=name, value=own, gain=own, recovered=own if has else None)

    arms = (arm("adapter", *adapter), *(arm(*other) for other in others))
    return MetricReport(metric="m", arms=arms, headroom_error=0.1 if has else None, no_recovery_because=None)


@pytest.mark.parametrize(
    ("adapter", "random", "label"),
    [
        ((0.9, 0.8, 1.0), (-0.1, 0.1), Label.WORKS),
        ((0.5, 0.26, 0.7), (-0.1, 0.1), Label.WORKS),
        ((1.4, 1.2, 1.7), (-0.1, 0.1), Label.WORKS),
        ((0.5, 0.25, 0.7), (-0.1, 0.1), Label.PARTIAL),
        ((0.49, 0.4, 0.6), (-0.1, 0.1), Label.PARTIAL),
        ((0.2, 0.11, 0.3), (-0.1, 0.1), Label.PARTIAL),
        ((0.2, 0.1, 0.3), (-0.1, 0.1), Label.NONE),
        ((0.9, 0.8, 1.0), (0.7, 0.85), Label.NONE),
        ((0.1, 0.0, 0.2), (-0.3, -0.1), Label.NONE),
        ((0.1, -0.1, 0.2), (-0.3, -0.1), Label.NONE),
        ((-0.1, -0.2, 0.0), (-0.3, -0.1), Label.NONE),
        ((-0.1, -0.2, -0.01), (-0.3, -0.1), Label.HARMFUL),
    ],
)
def test_verdicts_follow_the_protocol(
    adapter: tuple[float, float, float], random: tuple[float, float], label: Label
) -> None:
    found = report(adapter, ("random-1", 0.0, *random), ("random-2", -1.0, -2.0, -0.5))
    assert label_of(found, "adapter", ["random-1", "random-2", "wrong-task"]) is label


def test_an_adapter_of_another_task_is_a_control_too() -> None:
    found = report((0.6, 0.5, 0.7), ("random-1", 0.0, -0.1, 0.1), ("wrong-task", 0.5, 0.4, 0.6))
    assert label_of(found, "adapter", ["random-1", "wrong-task"]) is Label.NONE


@pytest.mark.parametrize(("high", "label"), [(0.49, Label.WORKS), (0.75, Label.NONE)])
def test_an_adapter_that_helps_as_much_the_other_way_round_has_no_direction(high: float, label: Label) -> None:
    flipped = ("sign-flipped", high - 0.1, high - 0.2, high)
    found = judge([report((0.6, 0.5, 0.7), ("random-1", 0.0, -0.1, 0.1), flipped)], [], None, items=12)
    assert (found.labels, found.label) == ({"m": label}, label)


@pytest.mark.parametrize(
    ("adapter", "label"),
    [
        ((9.0, 8.0, 10.0), Label.PARTIAL),
        ((9.0, -1.0, 10.0), Label.NONE),
        ((-9.0, -10.0, -8.0), Label.HARMFUL),
    ],
)
def test_without_a_native_adapter_nothing_is_said_to_work(adapter: tuple[float, float, float], label: Label) -> None:
    assert label_of(report(adapter, ("random-1", 0.0, -1.0, 1.0), has=False), "adapter", ["random-1"]) is label


@pytest.mark.parametrize(("value", "label"), [(0.9, None), (-0.9, Label.HARMFUL)])
def test_without_headroom_only_harm_can_be_said(value: float, label: Label | None) -> None:
    base = [1.0, 2.0, 3.0, 4.0]
    arms = {
        "base": series(base),
        "adapter": series([one - value for one in base]),
        "native": series(base),
    }
    found = measure_metric(arms, base="base", native="native", seed=0, resamples=100)
    assert label_of(found, "adapter", []) is label


@pytest.mark.parametrize(
    ("labels", "worst"),
    [
        ([], None),
        ([None, None], None),
        ([Label.WORKS, None], Label.PARTIAL),
        ([None, Label.PARTIAL], Label.PARTIAL),
        ([Label.NONE, None], Label.NONE),
        ([Label.WORKS, Label.WORKS], Label.WORKS),
        ([Label.WORKS, Label.PARTIAL], Label.PARTIAL),
        ([Label.HARMFUL, Label.NONE, Label.WORKS], Label.HARMFUL),
    ],
)
def test_the_least_good_verdict_counts(labels: list[Label | None], worst: Label | None) -> None:
    assert worst_label(labels) is worst


@pytest.mark.parametrize(
    ("right", "label"),
    [(1.0, Label.WORKS), (0.0, Label.PARTIAL)],
    ids=["the base gives every answer", "nobody gives any answer"],
)
def test_answers_that_nobody_gives_are_no_answers_that_the_base_gave_already(right: float, label: Label) -> None:
    base = [3.0 + place / 10 for place in range(12)]
    losses = {"base": base, "adapter": [one - 1.9 for one in base], "native": [one - 2.0 for one in base]}
    loss = measure_metric(
        {name: replace(series(own), metric="gold_nll") for name, own in losses.items()},
        base="base",
        native="native",
        seed=0,
        resamples=100,
    )
    shares = {name: replace(series([right] * 12, sign=1, share=True), metric="exact_match") for name in losses}
    exact = measure_metric(shares, base="base", native="native", seed=0, resamples=100)
    found = judge([loss, exact], [], None, items=12)
    assert (found.labels, found.label) == ({"gold_nll": Label.WORKS, "exact_match": None}, label)


def test_the_value_of_a_series_is_weighted() -> None:
    assert series([6.0, 1.0], [3.0, 4.0]).value == 1.0
    assert math.isclose(series([1.0, 0.0, 1.0]).value, 2 / 3)
