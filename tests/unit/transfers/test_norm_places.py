"""Norms around modules are found by running a model, whatever its class calls them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import GEMMA3, save, strong_model
from tests.unit.transfers.bases import gpt2
from ual_registry.models.loaded import load_base_model
from ual_registry.transfers.norm_places import find_norms

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made


def assert_gain(found: Any, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.gain, expected.double(), rtol=1e-3, atol=1e-3)  # norms add a small number


def test_gemma_has_norms_before_readers_and_behind_writers_with_weights_around_one(tmp_path: Path) -> None:
    base = load_base_model(save(strong_model("Gemma3ForCausalLM", GEMMA3), tmp_path / "gemma"))
    found = find_norms(base, list(base.binding.modules), [1, 2, 3])
    readers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
    writers = ("self_attn.o_proj", "mlp.down_proj")
    blocks = [f"model.layers.{layer}" for layer in (0, 1)]
    before, behind = (
        {path for path in paths if path.startswith("model.layers")} for paths in (found.before, found.behind)
    )
    assert before == {f"{block}.{name}" for block in blocks for name in readers}
    assert behind == {f"{block}.{name}" for block in blocks for name in writers}
    for block in blocks:
        layer = base.module(block)
        assert_gain(found.before[f"{block}.self_attn.k_proj"], 1.0 + layer.input_layernorm.weight)
        assert_gain(found.before[f"{block}.mlp.up_proj"], 1.0 + layer.pre_feedforward_layernorm.weight)
        assert_gain(found.behind[f"{block}.self_attn.o_proj"], 1.0 + layer.post_attention_layernorm.weight)
        assert_gain(found.behind[f"{block}.mlp.down_proj"], 1.0 + layer.post_feedforward_layernorm.weight)
    assert found.final is not None
    assert_gain(found.final, 1.0 + base.model.model.norm.weight)
    assert not found.final.is_centred


def test_gpt2_has_norms_before_readers_alone_and_takes_out_the_mean(tmp_path: Path) -> None:
    base = gpt2(tmp_path)
    found = find_norms(base, list(base.binding.modules), [1, 2, 3])
    assert found.behind == {}
    for layer, block in enumerate(base.model.transformer.h):
        assert_gain(found.before[f"transformer.h.{layer}.attn.c_attn"], block.ln_1.weight)
        assert_gain(found.before[f"transformer.h.{layer}.mlp.c_fc"], block.ln_2.weight)
        assert f"transformer.h.{layer}.mlp.c_proj" not in found.before
    assert found.final is not None
    assert found.final.is_centred
    assert_gain(found.final, base.model.transformer.ln_f.weight)


class HeadNorms(torch.nn.Module):
    """Norms every head by itself right before the output, as gated linear attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(4, 6)
        self.norm = torch.nn.RMSNorm(3)
        self.out = torch.nn.Linear(6, 6)

    @property
    def base_model(self) -> torch.nn.Module:
        return self

    def forward(self, *, input_ids: torch.Tensor, use_cache: bool) -> Any:
        del use_cache
        heads = self.norm(self.embedding(input_ids).unflatten(2, (2, 3)))
        return SimpleNamespace(last_hidden_state=self.out(heads.flatten(2)))


def test_a_norm_of_single_heads_is_no_norm_of_the_stream() -> None:
    model = HeadNorms()
    base: Any = SimpleNamespace(model=model, device=torch.device("cpu"), module=model.get_submodule)
    found = find_norms(base, ["out"], [1, 2])
    assert (found.before, found.behind, found.final) == ({}, {}, None)
