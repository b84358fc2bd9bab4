"""The table of methods, and what is measured of those that need more than shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.projection.samples import dense, isometry, moments_of, random_factors, random_rows, related_rows
from ual_registry.errors import TransferError
from ual_registry.projection.aligned import Norm, fit_aligned
from ual_registry.projection.contexts import ActivationContext, MapContext, MapKind, ResidualContext, WeightContext
from ual_registry.projection.effect_rows import EffectRows
from ual_registry.projection.factors import Factors
from ual_registry.projection.maps import LinearMap, procrustes, ridge
from ual_registry.projection.methods import (
    ACTIVATIONS,
    COPY,
    METHODS,
    RESIDUAL,
    SHAPE_METHODS,
    SUBSPACE,
    VOCAB,
    project_with,
)
from ual_registry.projection.moments import Moments
from ual_registry.projection.residual import fit_effect
from ual_registry.projection.subspace import subspace

FACTORS = random_factors(2, 6, 5)
SAME = (pytest.approx(1.0, rel=1e-9), pytest.approx(1.0, rel=1e-9))


def test_the_table_holds_every_method_with_what_it_needs() -> None:
    assert {name: (method.name, method.needs.value) for name, method in METHODS.items()} == {
        "svd": ("svd", "shapes"),
        "truncate": ("truncate", "shapes"),
        "interpolate": ("interpolate", "shapes"),
        "copy": ("copy", "weights"),
        "subspace": ("subspace", "weights"),
        "vocab": ("vocab", "weights"),
        "activations": ("activations", "activations"),
        "residual": ("residual", "residual"),
        "predictions": ("predictions", "predictions"),
    }
    assert [name for name, method in METHODS.items() if method.needs == "shapes"] == list(SHAPE_METHODS)


def test_every_method_says_where_it_comes_from_and_what_it_does_in_a_line() -> None:
    for method in METHODS.values():
        assert method.reference
        assert "\n" not in method.summary
        assert 20 <= len(method.summary) <= 80


def turned_context() -> tuple[ActivationContext, np.ndarray, np.ndarray]:
    """Return the statistics of a module and its copy in turned, wider bases, and both turns."""
    turn_in, turn_out = isometry(8, 6), isometry(7, 5, seed=1)
    x, y = random_rows(80, 6), random_rows(80, 5, seed=1)
    context = ActivationContext(inputs=moments_of(x, x @ turn_in.T), outputs=moments_of(y, y @ turn_out.T), penalty=0.0)
    return context, turn_in.numpy(), turn_out.numpy()


@pytest.mark.parametrize("kind", MapKind)
def test_activations_carry_all_of_an_update_to_a_turned_copy(kind: MapKind) -> None:
    context, turn_in, turn_out = turned_context()
    found = project_with(FACTORS, ACTIVATIONS, replace(context, kind=kind))
    np.testing.assert_allclose(dense(found.factors), turn_out @ dense(FACTORS) @ turn_in.T, rtol=0, atol=1e-9)
    assert (found.energy_kept, found.norm_ratio) == SAME
    assert found.effective_rank == pytest.approx(
        project_with(FACTORS, VOCAB, maps_of(isometry(6, 6), isometry(5, 5))).effective_rank, rel=1e-9
    )


@pytest.mark.parametrize("centred", [False, True])
def test_activations_fit_the_maps_that_the_context_asks_for(centred: bool) -> None:
    inputs, outputs = moments_of(*related_rows(60, 6, 8)), moments_of(*related_rows(60, 5, 7, seed=1))
    context = ActivationContext(
        inputs=inputs, outputs=outputs, penalty=0.3, whitening=0.2, centred=centred, per_feature=True, norm=Norm.KEEP
    )
    options = {"penalty": 0.3, "centred": centred, "per_feature": True}
    expected = fit_aligned(
        FACTORS,
        ridge(inputs, direction="y-to-x", **options),
        ridge(outputs, direction="x-to-y", **options),
        norm="keep",
    )
    np.testing.assert_array_equal(dense(ACTIVATIONS.fit(FACTORS, context)), dense(expected))
    turned = fit_aligned(
        FACTORS,
        procrustes(inputs, direction="y-to-x", whitening=0.2, centred=centred),
        procrustes(outputs, direction="x-to-y", whitening=0.2, centred=centred),
        norm="keep",
    )
    found = ACTIVATIONS.fit(FACTORS, replace(context, kind=MapKind.PROCRUSTES))
    np.testing.assert_array_equal(dense(found), dense(turned))


def maps_of(read: torch.Tensor, write: torch.Tensor) -> MapContext:
    def linear(matrix: torch.Tensor) -> LinearMap:
        return LinearMap(matrix=matrix, bias=matrix.new_zeros(len(matrix)))

    return MapContext(read=linear(read), write=linear(write))


def test_given_maps_carry_an_update_there_and_back() -> None:
    context = maps_of(isometry(6, 8), isometry(7, 5))
    found = project_with(FACTORS, VOCAB, context)
    np.testing.assert_allclose(
        dense(found.factors), isometry(7, 5).numpy() @ dense(FACTORS) @ isometry(6, 8).numpy(), rtol=0, atol=1e-12
    )
    assert (found.energy_kept, found.norm_ratio) == SAME
    back = context.reversed()
    assert (back.read.matrix.tolist(), back.write.matrix.tolist()) == (
        context.read.matrix.T.tolist(),
        context.write.matrix.T.tolist(),
    )
    there = back.reversed()
    assert (there.read, there.write) == (context.read, context.write)


def test_maps_that_lose_directions_lose_their_energy() -> None:
    lora_A = torch.eye(2, 6, dtype=torch.float64)
    factors = Factors(lora_A, torch.eye(5, 2, dtype=torch.float64))
    keeps_one = torch.zeros(6, 8, dtype=torch.float64)
    keeps_one[0, 0] = 1.0
    found = project_with(factors, VOCAB, maps_of(keeps_one, torch.eye(7, 5, dtype=torch.float64)))
    assert found.energy_kept == pytest.approx(0.5, rel=1e-12)
    assert found.norm_ratio == pytest.approx(1.0, rel=1e-12)
    assert found.effective_rank == pytest.approx(1.0, rel=1e-9)


def test_subspace_uses_the_weights_both_ways() -> None:
    source, target = random_rows(5, 6), random_rows(7, 8, seed=1)
    context = WeightContext(source_weight=source, target_weight=target, k=3)
    found = project_with(FACTORS, SUBSPACE, context)
    np.testing.assert_array_equal(dense(found.factors), dense(subspace(FACTORS, source, target, 3)))
    back = dense(subspace(found.factors, target, source, 3))
    cosine = (back * dense(FACTORS)).sum() / np.linalg.norm(back) / np.linalg.norm(dense(FACTORS))
    assert found.energy_kept == pytest.approx(cosine**2, rel=1e-9)


def test_copy_keeps_everything_or_refuses() -> None:
    weight = random_rows(5, 6)
    found = project_with(FACTORS, COPY, WeightContext(source_weight=weight, target_weight=weight))
    assert found.factors is FACTORS
    assert (found.energy_kept, found.norm_ratio) == SAME
    with pytest.raises(TransferError):
        project_with(FACTORS, COPY, WeightContext(source_weight=weight, target_weight=-weight))


def test_residual_fits_the_wanted_effect() -> None:
    x, wanted = related_rows(30, 4, 3)
    rows = EffectRows(features=x, wanted=wanted)
    found = RESIDUAL.fit(ResidualContext(fit=rows, held_out=rows, rank=2, penalties=(0.1,)))
    moments = Moments(4, 3)
    moments.update(x, wanted)
    expected = fit_effect(moments, penalty=0.1, rank=2).factors
    np.testing.assert_allclose(dense(found.factors), dense(expected), rtol=0, atol=1e-12)


def test_the_zero_update_measures_zero() -> None:
    zero = Factors(torch.ones(2, 6, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64))
    context, _, _ = turned_context()
    found = project_with(zero, ACTIVATIONS, context)
    assert (found.energy_kept, found.norm_ratio, found.effective_rank) == (0.0, 0.0, 0.0)
