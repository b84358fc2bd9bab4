"""How fast loaded models turn the pairs of their heads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ground_truth.materials import GEMMA3, GPT2, LLAMA, save, strong_model
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.transfers.rotary_speeds import rotary_speeds

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

ROPE = {"rope_type": "default", "rope_theta": 10_000.0}


def loaded(folder: Path, name: str, **settings: object) -> LoadedBase:
    return load_base_model(save(strong_model(name, settings), folder / name))


def falling(theta: float, pairs: int) -> list[float]:
    return [theta ** (-at / pairs) for at in range(pairs)]


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_speeds_fall_from_one_by_the_base_frequency(tmp_path: Path, theta: float) -> None:
    base = loaded(tmp_path, "LlamaForCausalLM", **LLAMA, rope_parameters={**ROPE, "rope_theta": theta})
    assert rotary_speeds(base, 0, 4) == pytest.approx(falling(theta, 4), rel=1e-6)


def test_a_model_may_turn_at_another_speed_in_other_blocks(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    ropes = {kind: {**ROPE, "rope_theta": theta} for kind, theta in zip(kinds, (10_000.0, 1_000_000.0), strict=True)}
    base = loaded(tmp_path, "Gemma3ForCausalLM", **GEMMA3, layer_types=kinds, rope_parameters=ropes)
    assert rotary_speeds(base, 0, 4) == pytest.approx(falling(10_000.0, 4), rel=1e-6)
    assert rotary_speeds(base, 1, 4) == pytest.approx(falling(1_000_000.0, 4), rel=1e-6)


def test_where_a_model_does_not_tell_nothing_is_said(tmp_path: Path) -> None:
    assert rotary_speeds(loaded(tmp_path, "GPT2LMHeadModel", **GPT2), 0, 4) == ()
    assert rotary_speeds(loaded(tmp_path, "LlamaForCausalLM", **LLAMA), 0, 3) == ()
