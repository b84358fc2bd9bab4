"""The effect on the residual stream, carried to exact copies: nothing is lost but what the updated modules cannot do.

Updates go to the modules that write into the stream. An adapter of such modules has an exact counterpart in every copy.
What an adapter changes in modules that read the stream is no linear function of what the writing modules read, so of
that a part is lost: how much, the last cases say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ground_truth import copies
from tests.ground_truth.conftest import CALIBRATION, IS_WHOLE, Native
from tests.ground_truth.test_predictions import trained
from ual_registry.digest import Digest
from ual_registry.evaluation.controls import random_same_norm, sign_flipped
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.effect_material import ResidualOptions
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run_residual import run_residual

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

SOURCE = Digest.of_bytes(b"source")
WRITERS = ("attention_output", "mlp_down")
PENALTIES = {"penalties": (1e-6, 1e-4, 0.01, 0.1), "map_penalties": (1e-6, 1e-4, 0.01)}

NativeOf = Callable[[str], Native]
CopyOf = Callable[[Native, Callable[[Any], Any]], LoadedBase]

ALL_LLAMA = copies.chain(copies.rescaled_llama, copies.rotated_llama, copies.neurons_permuted, copies.heads_permuted)
COPIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "llama itself": ("llama", copies.renamed),
    "gpt2 itself": ("gpt2", copies.renamed),
    "gemma3 itself": ("gemma3", copies.renamed),
    "llama turned, permuted and stretched": ("llama", ALL_LLAMA),
    "llama with its depth doubled by idle blocks": ("llama", copies.chain(copies.rotated_llama, copies.doubled)),
    "llama with fused modules": ("llama", copies.chain(copies.rotated_llama, copies.fused)),
    "gpt2 turned and permuted": ("gpt2", copies.other_gpt2),
    "gpt2 shifted, turned and permuted": ("gpt2", copies.chain(copies.shifted_gpt2, copies.other_gpt2)),
    "gemma3 folded, signed and permuted": (
        "gemma3",
        copies.chain(copies.folded_gemma, copies.signed_gemma, copies.neurons_permuted, copies.heads_permuted),
    ),
}


def carried(own: Native, target: LoadedBase, roles: tuple[str, ...]) -> Any:
    plan = make_plan(own.adapter.manifest, target.config)
    options = ResidualOptions(roles=roles, reach=1, **PENALTIES)  # type: ignore[arg-type]
    return run_residual(own.adapter, plan, own.loaded, target, CALIBRATION, source_digest=SOURCE, options=options)


@pytest.mark.parametrize("name", COPIES)
def test_an_adapter_of_writing_modules_reaches_a_copy_whole(name: str, native: NativeOf, copy_of: CopyOf) -> None:
    family, copy = COPIES[name]
    own = trained(native(family), WRITERS)
    target = copy_of(own, copy)
    result = carried(own, target, WRITERS)
    assert own.recovered(target, result.adapter) == pytest.approx(1.0, abs=0.02)
    assert result.report.energy_share > 0.99
    assert own.recovered(target, sign_flipped(result.adapter)) < -0.1
    at_random = [own.recovered(target, random_same_norm(result.adapter, seed)) for seed in range(3)]
    assert abs(sum(at_random) / 3) < 0.3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_one_module_per_layer_is_enough_for_an_adapter_of_that_module(
    family: str, native: NativeOf, copy_of: CopyOf
) -> None:
    own = trained(native(family), ("mlp_down",))
    copy = {"llama": ALL_LLAMA, "gpt2": copies.other_gpt2, "gemma3": copies.signed_gemma}[family]
    target = copy_of(own, copy)
    assert own.recovered(target, carried(own, target, ("mlp_down",)).adapter) == pytest.approx(1.0, abs=0.02)


PARTS: list[tuple[str, tuple[str, ...], float, float]] = [
    ("llama", WRITERS, 0.81, 0.75),
    ("gpt2", ("mlp_down",), 0.95, 0.87),
    ("gemma3", WRITERS, 0.78, 0.9),
]
PARTS += [
    ("llama", ("mlp_down",), 0.78, 0.7),
    ("gpt2", WRITERS, 0.95, 0.86),
    ("gemma3", ("mlp_down",), 0.28, 0.68),
] * IS_WHOLE
"""Family, roles, least share of the gain and of the energy."""


@pytest.mark.parametrize("case", PARTS, ids=lambda case: f"{case[0]} {'+'.join(case[1])}")
def test_of_an_adapter_of_all_modules_a_part_is_lost(
    case: tuple[str, tuple[str, ...], float, float], native: NativeOf, copy_of: CopyOf
) -> None:
    family, roles, least, least_share = case
    own = native(family)
    copy = {"llama": ALL_LLAMA, "gpt2": copies.other_gpt2, "gemma3": copies.signed_gemma}[family]
    target = copy_of(own, copy)
    result = carried(own, target, roles)
    assert own.recovered(target, result.adapter) > least
    assert result.report.energy_share > least_share


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_source_itself_gets_the_adapter_unchanged(family: str, native: NativeOf) -> None:
    own = native(family)
    plan = make_plan(own.adapter.manifest, own.loaded.config)
    result = run_residual(own.adapter, plan, own.loaded, own.loaded, [], source_digest=SOURCE)
    assert result.report.warnings == ("the target is the source: every entry is kept as it is",)
    assert {name: tensor.to_bytes() for name, tensor in result.adapter.tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in own.adapter.tensors.items()
    }
    assert own.recovered(own.loaded, result.adapter) == pytest.approx(1.0, abs=1e-6)
