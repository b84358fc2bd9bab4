"""Streaming moments against sums over explicit rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import DTYPES, moments_of, random_rows, related_rows
from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection import paired_rows
from ual_registry.projection.moments import Moments, PairMoments, SecondMoments

# Sums of at most a few hundred products of numbers near 1, relative to their size.
TOLERANCE = 1e-12


def assert_same(found: SecondMoments, expected: SecondMoments, *, tolerance: float = TOLERANCE) -> None:
    assert found.count == expected.count
    for name in ("x_mean", "y_mean", "xx", "yy", "xy"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype is torch.float64
        scale = max(1.0, float(other.abs().max()))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale, err_msg=name)


def explicit(x: torch.Tensor, y: torch.Tensor, *, centred: bool) -> SecondMoments:
    """Return the moments by their definition, with exact sums."""
    left, right = x.double().numpy(), y.double().numpy()
    x_mean, y_mean = (
        np.array([math.fsum(column) / len(rows) for column in rows.T]) if centred else np.zeros(rows.shape[1])
        for rows in (left, right)
    )
    left, right = left - x_mean, right - y_mean

    def products(one: np.ndarray, other: np.ndarray) -> torch.Tensor:
        return torch.tensor([[math.fsum(a * b) for b in other.T] for a in one.T], dtype=torch.float64)

    return SecondMoments(
        count=len(x),
        x_mean=torch.tensor(x_mean),
        y_mean=torch.tensor(y_mean),
        xx=products(left, left),
        yy=products(right, right),
        xy=products(left, right),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_are_the_sums_over_rows_in_float64_whatever_the_dtype(dtype: torch.dtype) -> None:
    x, y = (rows.to(dtype) for rows in related_rows(60, 4, 3))
    found = moments_of(x, y)
    assert_same(found.centred(), explicit(x, y, centred=True))
    assert_same(found.uncentred(), explicit(x, y, centred=False))
    assert (found.x_width, found.y_width, found.rejected) == (4, 3, 0)


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@settings(max_examples=40)
@given(SIZES, st.integers(0, 50))
def test_batches_give_what_one_batch_gives(sizes: list[int], seed: int) -> None:
    x, y = related_rows(sum(sizes), 3, 5, seed=seed)
    streamed = PairMoments(3, 5)
    for part, other in zip(x.split(sizes), y.split(sizes), strict=True):
        streamed.update(part, other)
    assert_same(streamed.centred(), moments_of(x, y).centred())


@settings(max_examples=40)
@given(SIZES, st.randoms(use_true_random=False))
def test_the_order_of_merging_does_not_matter(sizes: list[int], shuffle: object) -> None:
    x, y = related_rows(sum(sizes), 3, 5)
    parts = [moments_of(part, other) for part, other in zip(x.split(sizes), y.split(sizes), strict=True)]
    shuffle.shuffle(parts)  # type: ignore[attr-defined]
    merged = PairMoments(3, 5)
    for part in parts:
        merged.merge(part)
    assert_same(merged.centred(), moments_of(x, y).centred())


def test_merging_leaves_the_other_as_it_is_and_shares_nothing_with_it() -> None:
    x, y = related_rows(20, 3, 2)
    own, other = PairMoments(3, 2), moments_of(x, y)
    own.merge(other)
    own.update(x, y)
    assert_same(other.centred(), explicit(x, y, centred=True))
    assert (own.count, other.count) == (40, 20)


def test_what_was_taken_out_before_does_not_change_when_rows_come() -> None:
    x, y = related_rows(20, 3, 2)
    found = moments_of(x, y)
    before = found.centred()
    found.update(x + 5, y)
    assert_same(before, explicit(x, y, centred=True))


@pytest.mark.parametrize("block", [1, 2, 3, 256])
def test_symmetric_sums_are_whole_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_rows, "_BLOCK", block)
    x, y = related_rows(30, 5, 4)
    found, one_sided = moments_of(x, y), Moments(5, 4)
    found.merge(moments_of(x, y))
    one_sided.update(x, y)
    assert_same(found.uncentred(), explicit(torch.cat((x, x)), torch.cat((y, y)), centred=False))
    np.testing.assert_array_equal(found.centred().xx, found.centred().xx.T)
    np.testing.assert_allclose(one_sided.xx, explicit(x, y, centred=False).xx, rtol=0, atol=1e-12 * 100)


def test_features_far_from_zero_keep_their_digits() -> None:
    """A plain sum of squares would lose all digits of a spread of 1 around 1e8."""
    x, y = related_rows(50, 3, 2)
    far = moments_of(x + 1e8, y - 1e8)
    # Adding 1e8 rounds a number near 1 to 1e-8, and the spread with it.
    for name in ("xx", "yy", "xy"):
        np.testing.assert_allclose(
            getattr(far.centred(), name), getattr(moments_of(x, y).centred(), name), rtol=0, atol=1e-5
        )


def test_swapped_moments_are_those_of_swapped_rows() -> None:
    x, y = related_rows(20, 3, 2)
    found = moments_of(x, y)
    found.update(torch.full((1, 3), math.nan), torch.ones(1, 2))
    assert_same(found.swapped().centred(), moments_of(y, x).centred())
    assert_same(found.centred().swapped(), moments_of(y, x).centred())
    assert found.swapped().rejected == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_pairs_with_a_number_that_is_not_finite_are_left_out_and_counted(bad: float) -> None:
    x, y = related_rows(8, 3, 2)
    broken_x, broken_y = x.to(torch.float16), y.to(torch.float16)
    broken_x[1, 2] = broken_y[5, 0] = broken_y[5, 1] = bad
    kept = [0, 2, 3, 4, 6, 7]
    found = moments_of(broken_x, broken_y)
    assert (found.count, found.rejected) == (6, 2)
    assert_same(found.centred(), explicit(broken_x[kept], broken_y[kept], centred=True))


def test_no_rows_are_no_rows() -> None:
    found = moments_of(torch.zeros(0, 3), torch.zeros(0, 2))
    found.update(torch.full((2, 3), math.nan), torch.zeros(2, 2))
    found.merge(PairMoments(3, 2))
    assert (found.count, found.rejected) == (0, 2)
    assert_same(found.centred(), PairMoments(3, 2).centred())


def test_gradients_do_not_hang_on_to_moments() -> None:
    x = random_rows(5, 3).requires_grad_()
    found = moments_of(x, x * 2)
    assert not found.centred().xy.requires_grad


BAD_ROWS = {
    "width": (
        (torch.ones(2, 4), torch.ones(2, 2)),
        "x: expected floating rows of shape (n, 3), got torch.float32 of shape (2, 4)",
    ),
    "other width": (
        (torch.ones(2, 3), torch.ones(2, 3)),
        "y: expected floating rows of shape (n, 2), got torch.float32 of shape (2, 3)",
    ),
    "axes": (
        (torch.ones(3), torch.ones(2)),
        "x: expected floating rows of shape (n, 3), got torch.float32 of shape (3,)",
    ),
    "dtype": (
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 2)),
        "x: expected floating rows of shape (n, 3), got torch.int64 of shape (2, 3)",
    ),
    "count": ((torch.ones(2, 3), torch.ones(3, 2)), "paired rows: got 2 rows of x and 3 of y"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_do_not_fit_are_refused(case: str) -> None:
    rows, message = BAD_ROWS[case]
    for found in (PairMoments(3, 2), Moments(3, 2)):
        with pytest.raises(ShapeError) as caught:
            found.update(*rows)
        wanted = (
            message if isinstance(found, PairMoments) else message.replace("y:", "wanted:").replace("of y", "of wanted")
        )
        assert caught.value.message == wanted
        assert found.count == 0


def test_moments_of_other_widths_are_not_merged() -> None:
    with pytest.raises(ShapeError) as caught:
        PairMoments(3, 2).merge(PairMoments(2, 3))
    assert caught.value.message == "moments of widths (2, 3): expected widths (3, 2)"
    with pytest.raises(ShapeError) as caught:
        Moments(3, 2).merge(Moments(2, 3))
    assert caught.value.message == "moments of widths (2, 3): expected widths (3, 2)"


def test_stored_moments_are_the_same_and_go_on() -> None:
    x, y = related_rows(20, 3, 2)
    found = moments_of(x[:10], y[:10])
    found.update(torch.full((1, 3), math.nan), torch.ones(1, 2))
    swapped = found.swapped().state()
    assert swapped["xy"].is_contiguous()
    state = PairMoments.from_state(swapped).swapped().state()
    again = PairMoments.from_state(state)
    assert {name: (part.dtype, tuple(part.shape), part.is_contiguous()) for name, part in state.items()} == {
        "count": (torch.int64, (2,), True),
        "x_mean": (torch.float64, (3,), True),
        "y_mean": (torch.float64, (2,), True),
        "xx": (torch.float64, (3, 3), True),
        "yy": (torch.float64, (2, 2), True),
        "xy": (torch.float64, (3, 2), True),
    }
    again.update(x[10:], y[10:])
    assert (again.count, again.rejected) == (20, 1)
    assert_same(again.centred(), moments_of(x, y).centred())
    assert_same(PairMoments.from_state(state).centred(), found.centred())  # it shares nothing with the state


STORED = "stored moments: expected count, x_mean, y_mean, xx, yy, xy, got "
BAD_STATES = {
    "missing": (
        {"xy": None},
        ShapeError,
        STORED + "count, x_mean, xx, y_mean, yy",
    ),
    "missing mean": ({"x_mean": None}, ShapeError, "stored moments: missing x_mean"),
    "number": ({"x_mean": torch.tensor(1.0)}, ShapeError, "stored moments: missing x_mean"),
    "extra": (
        {"zz": torch.ones(1)},
        ShapeError,
        STORED + "count, x_mean, xx, xy, y_mean, yy, zz",
    ),
    "shape": ({"xx": torch.ones(3, 2)}, ShapeError, "stored moments: xx: expected shape (3, 3), got (3, 2)"),
    "not finite": (
        {"yy": torch.full((2, 2), math.nan)},
        NumericalError,
        "stored moments: yy holds a number that is not finite",
    ),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_broken_state_is_refused(case: str) -> None:
    changes, kind, message = BAD_STATES[case]
    state = moments_of(*related_rows(9, 3, 2)).state() | changes  # type: ignore[operator]
    with pytest.raises(kind) as caught:
        PairMoments.from_state({name: part for name, part in state.items() if part is not None})
    assert caught.value.message == message


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_sided_moments_are_the_sums_over_rows(dtype: torch.dtype) -> None:
    x, wanted = (rows.to(dtype) for rows in related_rows(40, 4, 3))
    found, second = Moments(4, 3), Moments(4, 3)
    found.update(x[:10], wanted[:10])
    second.update(x[10:], wanted[10:])
    found.merge(second)
    found.update(torch.full((1, 4), math.nan), torch.ones(1, 3))
    found = Moments.from_state(found.state())
    expected = explicit(x, wanted, centred=False)
    assert (found.count, found.rejected, second.count) == (40, 1, 30)
    np.testing.assert_allclose(found.xx, expected.xx, rtol=TOLERANCE)
    np.testing.assert_allclose(found.xd, expected.xy, rtol=0, atol=TOLERANCE * float(expected.xy.abs().max()))
    assert found.energy == pytest.approx(math.fsum((wanted.double().numpy() ** 2).ravel()), rel=TOLERANCE)


def test_a_broken_one_sided_state_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        Moments.from_state({"count": torch.zeros(2)})
    assert caught.value.message == "stored moments: missing xx"


def massive_rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 rows as models have them: features far from zero, some a thousand times larger than others."""
    x, y = related_rows(count, 40, 24)
    scales = torch.logspace(-1, 2, 40, dtype=torch.float64)
    return (x * scales + 30 * scales).float(), (y + 100.0).float()


@pytest.mark.parametrize("batch", [128, 1000, 3000])
def test_many_rows_of_float32_are_summed_to_six_digits(batch: int) -> None:
    """The slow reference multiplies and adds in float64; around the means, as maps are fitted."""
    x, y = massive_rows(3000)
    found, exact = PairMoments(40, 24), PairMoments(40, 24)
    for part, other in zip(x.split(batch), y.split(batch), strict=True):
        found.update(part, other)
    exact.update(x.double(), y.double())
    one, other = found.centred(), exact.centred()
    for name, left, right in (("xx", "x", "x"), ("yy", "y", "y"), ("xy", "x", "y")):
        spread = {"x": other.xx.diagonal().sqrt(), "y": other.yy.diagonal().sqrt()}
        scale = spread[left][:, None] * spread[right]
        error = ((getattr(one, name) - getattr(other, name)) / scale).abs().max()
        assert error < 2e-6, name  # a block of 1,024 products of float32, each right to 6e-8
    np.testing.assert_allclose(one.x_mean, other.x_mean, rtol=1e-12)


@pytest.mark.parametrize("batch", [128, 3000])
def test_plain_moments_of_float32_are_summed_to_six_digits(batch: int) -> None:
    x, wanted = massive_rows(3000)
    found, exact = Moments(40, 24), Moments(40, 24)
    for part, other in zip(x.split(batch), wanted.split(batch), strict=True):
        found.update(part, other)
    exact.update(x.double(), wanted.double())
    spread = (x.double().var(0).sqrt(), wanted.double().var(0).sqrt())
    for name, scale in (("xx", spread[0][:, None] * spread[0]), ("xd", spread[0][:, None] * spread[1])):
        error = ((getattr(found, name) - getattr(exact, name)) / (3000 * scale)).abs().max()
        assert error < 2e-6, name  # as above, although the means are 30 and 100 times the spread
    assert found.energy == pytest.approx(exact.energy, rel=1e-12)


def test_rows_of_float32_are_summed_in_float64_where_torch_may_round_their_products() -> None:
    x, y = massive_rows(300)
    exact, found = PairMoments(40, 24), PairMoments(40, 24)
    exact.update(x.double(), y.double())
    torch.set_float32_matmul_precision("high")
    try:
        found.update(x, y)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert {name: value.tolist() for name, value in found.state().items() if isinstance(value, torch.Tensor)} == {
        name: value.tolist() for name, value in exact.state().items() if isinstance(value, torch.Tensor)
    }


def test_float64_among_float32_is_summed_in_float64() -> None:
    x, y = massive_rows(300)
    mixed, exact = PairMoments(40, 24), PairMoments(40, 24)
    mixed.update(x, y.double())
    exact.update(x.double(), y.double())
    assert_same(mixed.centred(), exact.centred())
