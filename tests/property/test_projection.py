"""Laws that hold for every method of the table that takes an update and gives one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.projection.samples import isometry, moments_of, random_factors, random_rows, related_rows
from ual_registry.projection.aligned import Norm
from ual_registry.projection.contexts import ActivationContext, MapContext, MapKind, WeightContext
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import LinearMap
from ual_registry.projection.methods import ACTIVATIONS, COPY, METHODS, SHAPE_METHODS, SUBSPACE, VOCAB
from ual_registry.projection.recompress import recompress
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind, fit_module
from ual_registry.transfers.statistics_store import PairStatistics

LAWS = settings(max_examples=25, deadline=None)
INS, OUTS = 6, 5
Fit = Callable[[Factors], Factors]


def linear(matrix: torch.Tensor) -> LinearMap:
    return LinearMap(matrix=matrix, bias=matrix.new_zeros(len(matrix)))


WEIGHTS = WeightContext(source_weight=random_rows(OUTS, INS), target_weight=random_rows(7, 8, seed=1), k=3)
SAME = WeightContext(source_weight=random_rows(OUTS, INS), target_weight=2.0 * random_rows(OUTS, INS))
MAPS = MapContext(read=linear(random_rows(INS, 8)), write=linear(random_rows(7, OUTS)), norm=Norm.KEEP)
TEXT = ActivationContext(
    inputs=moments_of(*related_rows(60, INS, 8)), outputs=moments_of(*related_rows(60, OUTS, 7, seed=1))
)
INPUTS, OUTPUTS, GRADIENTS = (
    PairStatistics(*(moments_of(*related_rows(60, *widths, seed=seed + 10 * part)) for part in range(2)))
    for seed, widths in enumerate(((INS, 8), (OUTS, 7), (OUTS, 7)))
)


def one_module(own: Factors, write: WriteKind, norm: Norm) -> Factors:
    """Carry an update as `activations` does it in a transfer: penalties chosen on held-out rows, no gate."""
    options = ActivationOptions(write=write, norm=norm, gate=-math.inf)
    found = fit_module(own, INPUTS, OUTPUTS, GRADIENTS if write == WriteKind.JOINT else None, options)
    assert not isinstance(found, str)  # nothing is left out without a gate
    return found.factors


FITS: dict[str, Fit] = {
    **{
        f"{name} to {outs} x {ins}": lambda own, method=method, ins=ins, outs=outs: method.fit(own, ins, outs)
        for name, method in SHAPE_METHODS.items()
        for ins, outs in ((8, 7), (4, 3), (INS, OUTS))
    },
    "copy": lambda own: COPY.fit(own, SAME),
    "subspace": lambda own: SUBSPACE.fit(own, WEIGHTS),
    **{
        f"vocab, {norm}": lambda own, norm=norm: VOCAB.fit(own, replace(MAPS, norm=norm))
        for norm in (Norm.KEEP, Norm.RESTORE)
    },
    **{
        f"activations in a transfer, write maps of {write}, {norm}": lambda own, write=write, norm=norm: one_module(
            own, write, norm
        )
        for write in WriteKind
        for norm in Norm
    },
    **{
        f"activations, {kind}, {norm}": lambda own, kind=kind, norm=norm: ACTIVATIONS.fit(
            own, replace(TEXT, kind=kind, norm=norm)
        )
        for kind in MapKind
        for norm in Norm
    },
}
NUMBERS = st.floats(1e-4, 1e4) | st.floats(-1e4, -1e-4)
RANKS = st.integers(1, 7)


def dense(factors: Factors) -> torch.Tensor:
    return factors.lora_B @ factors.lora_A


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    # What restores a norm divides by what maps leave of an update: a few digits of float64 may go.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_every_method_that_takes_an_update_is_under_these_laws() -> None:
    assert {name.partition(" ")[0].rstrip(",") for name in FITS} == set(METHODS) - {"residual", "predictions"}


@pytest.mark.parametrize("name", FITS)
@LAWS
@given(RANKS, NUMBERS, st.integers(0, 99))
def test_a_number_moved_between_the_factors_changes_nothing(name: str, rank: int, number: float, seed: int) -> None:
    own = random_factors(rank, INS, OUTS, seed=seed)
    moved = Factors(own.lora_A * number, own.lora_B / number)
    assert_same(dense(FITS[name](moved)), dense(FITS[name](own)))


@pytest.mark.parametrize("name", FITS)
@LAWS
@given(RANKS, NUMBERS, st.integers(0, 99))
def test_an_update_times_a_number_gives_a_result_times_it(name: str, rank: int, number: float, seed: int) -> None:
    own = random_factors(rank, INS, OUTS, seed=seed)
    assert_same(dense(FITS[name](own.scaled(number))), number * dense(FITS[name](own)))


@pytest.mark.parametrize("name", FITS)
@LAWS
@given(RANKS, st.integers(0, 99))
def test_how_the_directions_of_an_update_are_mixed_changes_nothing(name: str, rank: int, seed: int) -> None:
    own = random_factors(rank, INS, OUTS, seed=seed)
    turn = isometry(rank, rank, seed=seed)
    assert_same(dense(FITS[name](Factors(turn @ own.lora_A, own.lora_B @ turn.T))), dense(FITS[name](own)))


@pytest.mark.parametrize("name", FITS)
@LAWS
@given(st.integers(2, 5), st.integers(0, 99))
def test_less_of_an_update_gives_a_result_of_no_more_rank(name: str, rank: int, seed: int) -> None:
    own = random_factors(rank, INS, OUTS, seed=seed)
    ranks = []
    for held in range(1, rank + 1):
        found = dense(FITS[name](recompress(own, held)))
        values = torch.linalg.svdvals(found)
        ranks.append(int((values > 1e-9 * values[0]).sum()))
        assert ranks[-1] <= held
    assert ranks == sorted(ranks)


FITTED_TO_EACH = ("restore", "functional", "effect", "interpolate", "in a transfer")
"""A length, or a penalty by what an update reads, is fitted to every update, so that results do not add up."""


@pytest.mark.parametrize("name", [name for name in FITS if not any(word in name for word in FITTED_TO_EACH)])
@LAWS
@given(st.integers(0, 99))
def test_a_sum_goes_to_the_sum_of_the_results(name: str, seed: int) -> None:
    one, other = (random_factors(2, INS, OUTS, seed=seed + at) for at in (0, 200))
    both = Factors(torch.cat([one.lora_A, other.lora_A]), torch.cat([one.lora_B, other.lora_B], dim=1))
    assert_same(dense(FITS[name](both)), dense(FITS[name](one)) + dense(FITS[name](other)))
