"""What a base model is told to be: dimensions and rotary structure, number for number.

``tests/proof`` holds every binder against the real classes; here stand the numbers themselves.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.peft_folders import model_module, tiny_config
from ual_registry.air.model import Stack
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.describe import RotaryStructure, describe_base, rotary_structure
from ual_registry.binders.load import binder_for
from ual_registry.digest import Digest

pytestmark = pytest.mark.filterwarnings("ignore")


def base_of(config: Any) -> BaseConfig:
    """Return the config as its ``config.json`` says it."""
    text = config.to_json_string()
    return BaseConfig(label="tiny", document=json.loads(text), digest=Digest.of_bytes(text.encode()))


ONE: dict[str, Any] = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "intermediate_size": 24,
}
DIMENSIONS: dict[str, list[dict[str, Any]]] = {
    "llama": [{**ONE, "num_key_value_heads": 2, "head_dim": 8}],
    "gemma3_text": [{**ONE, "num_key_value_heads": 2, "head_dim": 8}],
    "qwen2": [{**ONE, "num_key_value_heads": 2}],
    "gpt2": [{**ONE, "intermediate_size": 64}],
    "gpt_neox": [ONE],
    "bert": [ONE],
    "roberta": [ONE],
    "t5": [{**ONE, "name": "encoder", "head_dim": 8}, {**ONE, "name": "decoder", "num_layers": 3, "head_dim": 8}],
}


@pytest.mark.parametrize("model_type", DIMENSIONS)
def test_the_dimensions_of_a_base_model_are_read_from_its_config(model_type: str) -> None:
    base = describe_base(base_of(tiny_config(model_type)), id="org/tiny", revision="abc")

    assert base.stacks == tuple(Stack(**sizes) for sizes in DIMENSIONS[model_type])
    assert (base.id, base.revision, base.vocab_size) == ("org/tiny", "abc", 32)
    assert (base.architecture, base.model_type) == (binder_for(model_type).architecture, model_type)


@pytest.mark.parametrize(
    ("model_type", "changes", "rotated"),
    [
        ("llama", {}, 8),
        ("gemma3_text", {}, 8),
        ("qwen2", {}, 4),
        ("gpt_neox", {}, 1),
        ("gpt_neox", {"rotary_pct": 0.5}, 2),
    ],
)
def test_the_rotary_structure_is_that_of_the_real_model(model_type: str, changes: dict[str, Any], rotated: int) -> None:
    config = tiny_config(model_type, **changes)
    found = rotary_structure(describe_base(base_of(config)), base_of(config))

    assert found == RotaryStructure(style="half", head_dim=DIMENSIONS[model_type][0]["head_dim"], rotated=rotated)
    model = getattr(model_module(model_type), binder_for(model_type).model_types[model_type].default_class)(config)
    frequencies = next(buffer for name, buffer in model.named_buffers() if name.endswith("inv_freq"))
    assert len(frequencies) == (rotated + 1) // 2


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "roberta", "t5"])
def test_a_model_without_rotary_positions_has_no_rotated_features(model_type: str) -> None:
    head_dim = DIMENSIONS[model_type][0]["head_dim"]
    found = rotary_structure(describe_base(base_of(tiny_config(model_type))))
    assert found == RotaryStructure(style="none", head_dim=head_dim, rotated=0)
