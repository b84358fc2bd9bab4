"""Which names a shared lora_A may have."""

from __future__ import annotations

import pytest

from ual_registry.air.names import TensorName
from ual_registry.air.rules import _is_sibling

OWN = TensorName(layer=1, role="attention_value", factor="lora_A")


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("layers.1.attention_query.lora_A", True),
        ("layers.1.attention_value.lora_A", True),
        ("layers.2.attention_query.lora_A", False),
        ("encoder.layers.1.attention_query.lora_A", False),
        ("layers.1.attention_query.lora_B", False),
        ("layers.1.unheard_of.lora_A", False),
        ("layers.1.lm_head.lora_A", False),
        ("layers.1.attention_query.experts.0.lora_A", False),
    ],
)
def test_a_shared_factor_has_the_name_of_another_role_of_its_block(name: str, may: bool) -> None:
    assert _is_sibling(TensorName.parse(name), OWN) is may


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("layers.1.mlp_gate.experts.3.lora_A", True),
        ("layers.1.mlp_gate.experts.2.lora_A", False),
        ("layers.1.mlp_gate.lora_A", False),
        ("layers.1.attention_query.experts.3.lora_A", False),
        ("layers.1.unheard_of.experts.3.lora_A", False),
    ],
)
def test_a_shared_factor_of_an_expert_has_the_name_of_that_expert(name: str, may: bool) -> None:
    own = TensorName(layer=1, role="mlp_up", expert=3, factor="lora_A")
    assert _is_sibling(TensorName.parse(name), own) is may
