"""Factors on a target: fresh ones change nothing, started ones are the adapter, and the target comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.peft_folders import PeftFolders
from ual_registry.air.adapter import Adapter
from ual_registry.binders.base import load_base
from ual_registry.binders.bind import bind
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.trainee import module_ranks, start_factors, trainee
from ual_registry.errors import TrainingError
from ual_registry.interop.from_peft import from_peft
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

IDS = torch.arange(2, 14).reshape(2, 6)

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def test_fresh_factors_change_nothing_and_leave_nothing_behind(source: LoadedBase) -> None:
    before, names = logits(source.model), [name for name, _ in source.model.named_modules()]
    recipe = Recipe(rank=3)
    with trainee(source, recipe, module_ranks(source.binding, recipe, {})) as student:
        assert torch.equal(logits(student.model), before)
        assert len(student.parameters()) == 28
        assert all(factor.requires_grad for factor in student.parameters().values())
    assert [name for name, _ in source.model.named_modules()] == names
    assert torch.equal(logits(source.model), before)
    assert not any(parameter.requires_grad for parameter in source.model.parameters())


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_a_warm_start_is_the_adapter(source: LoadedBase, adapter: Named, rank: int) -> None:
    recipe = Recipe(rank=rank, alpha=6.0)
    factors = start_factors(adapter.adapter, source.binding)
    with attach(source.model, adapter.adapter):
        expected = logits(source.model)
    ranks = module_ranks(source.binding, recipe, factors)
    assert set(ranks.values()) == {max(rank, 4)}
    with trainee(source, recipe, ranks) as student:
        student.start(factors)
        torch.testing.assert_close(logits(student.model), expected, rtol=1e-4, atol=1e-4)  # float32
        entries, tensors = student.entries()
        parameters = student.parameters()
        sizes = {name: float(factor.detach().norm()) for name, factor in parameters.items()}
    assert {entry.scaling for entry in entries} == {6.0 / rank}
    if rank <= 4:  # all directions are used, so that both factors are of one size
        assert all(sizes[f"{path}.lora_A"] == pytest.approx(sizes[f"{path}.lora_B"], rel=1e-3) for path in ranks)
    again = Adapter(replace(adapter.adapter.manifest, entries=entries), tensors)
    with attach(source.model, again):
        torch.testing.assert_close(logits(source.model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma3_text"])
def test_fused_and_transposed_modules_start_as_the_adapter_has_them(
    architecture: str, peft_folders: PeftFolders
) -> None:
    folder = peft_folders.get(architecture, "plain")
    config = load_base(folder.base)
    model = folder.base_model()
    binding = bind(config, folder.class_name)
    target = LoadedBase(
        model=model.requires_grad_(False), tokenizer=None, base=binding.base, config=config, binding=binding
    )
    recipe = Recipe(rank=2)
    with from_peft(folder.path, config) as adapter:
        kept = tuple(entry for entry in adapter.entries if entry.layer is not None)
        inner = replace(adapter, manifest=replace(adapter.manifest, entries=kept))
        factors = start_factors(inner, binding)
        with attach(model, inner):
            expected = logits(model)
        with trainee(target, recipe, module_ranks(binding, recipe, factors)) as student:
            student.start(factors)
            torch.testing.assert_close(logits(student.model), expected, rtol=1e-4, atol=1e-4)
            entries, tensors = student.entries()
        assert {entry.key for entry in entries} == {entry.key for entry in kept}
        with attach(model, Adapter(replace(inner.manifest, entries=entries), tensors)):
            torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)


def test_modules_that_the_adapter_leaves_out_start_fresh_and_are_trained(source: LoadedBase, adapter: Named) -> None:
    kept = tuple(entry for entry in adapter.adapter.entries if entry.role == "mlp_down")
    partial = replace(adapter.adapter, manifest=replace(adapter.adapter.manifest, entries=kept))
    factors = start_factors(partial, source.binding)
    recipe = Recipe(rank=2)
    ranks = module_ranks(source.binding, recipe, factors)
    assert {path.rpartition(".")[2]: rank for path, rank in ranks.items()} == {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"), 2),
        "down_proj": 4,
    }
    with attach(source.model, partial):
        expected = logits(source.model)
    with trainee(source, recipe, ranks) as student:
        student.start(factors)
        torch.testing.assert_close(logits(student.model), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_started_from_is_refused_with_the_reason(
    source: LoadedBase, target: LoadedBase, adapter: Named, peft_folders: PeftFolders, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError) as caught:
        start_factors(adapter.adapter, target.binding)
    message = "cannot start from this adapter: layers.0.attention_key has no place in target"
    assert (caught.value.message, caught.value.problem_code) == (message, "warm-start")
    folder = peft_folders.get("llama", "dora")
    with from_peft(folder.path, load_base(folder.base)) as dora, pytest.raises(TrainingError) as caught:
        start_factors(dora, source.binding)
    assert caught.value.message == "cannot start from this adapter: it holds more than plain factors"


def test_a_target_without_the_roles_is_refused(source: LoadedBase) -> None:
    with pytest.raises(TrainingError) as caught:
        module_ranks(source.binding, Recipe(roles=("moe_router",)), {})
    assert caught.value.message == "source: has no module of the roles moe_router that factors can be put on"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roles": ("query",)}, "recipe.roles: expected role names, got query"),
        ({"roles": ()}, "recipe.roles: expected role names, got none"),
        ({"steps": None}, "recipe.steps: expected a budget in steps or in seconds, got neither"),
        ({"steps": 0}, "recipe.steps: expected 1 or more, got 0"),
        ({"token_share": 0.0}, "recipe.token_share: expected above 0, at most 1, got 0"),
        ({"held_out_share": 1.5}, "recipe.held_out_share: expected above 0, at most 1, got 1.5"),
        ({"learning_rate": float("nan")}, "recipe.learning_rate: expected above 0, got nan"),
        ({"alm_weight": -1}, "recipe.alm_weight: expected 0 or more, got -1"),
    ],
)
def test_a_recipe_that_nothing_can_be_trained_by_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        Recipe(**changes)  # type: ignore[arg-type]
    assert (caught.value.message, caught.value.problem_code) == (message, "recipe")
