"""The grammar of tensor names."""

from __future__ import annotations

import pytest

from ual_registry.air.names import TensorName, extra_name
from ual_registry.errors import RuleError


@pytest.mark.parametrize(
    ("text", "stack", "layer", "role", "factor"),
    [
        ("layers.3.attention_query.lora_A", None, 3, "attention_query", "lora_A"),
        ("decoder.layers.0.cross_attention_value.lora_B", "decoder", 0, "cross_attention_value", "lora_B"),
        ("encoder.token_embedding.magnitude", "encoder", None, "token_embedding", "magnitude"),
        ("lm_head.bias", None, None, "lm_head", "bias"),
        ("layers.999999999.mlp_up.bias", None, 999999999, "mlp_up", "bias"),
        ("experts.bias", None, None, "experts", "bias"),
    ],
)
def test_a_name_has_its_parts(text: str, stack: str | None, layer: int | None, role: str, factor: str) -> None:
    name = TensorName(stack=stack, layer=layer, role=role, factor=factor)
    assert TensorName.parse(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("layers.3.mlp_up.experts.5.lora_A", TensorName(layer=3, role="mlp_up", expert=5, factor="lora_A")),
        (
            "decoder.layers.0.mlp_gate.experts.999999999.bias",
            TensorName(stack="decoder", layer=0, role="mlp_gate", expert=999999999, factor="bias"),
        ),
        ("encoder.experts.0.lora_B", TensorName(role="encoder", expert=0, factor="lora_B")),
        ("experts.experts.0.lora_B", TensorName(role="experts", expert=0, factor="lora_B")),
    ],
)
def test_a_name_of_an_expert_has_its_index(text: str, name: TensorName) -> None:
    assert (TensorName.parse(text), str(name)) == (name, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "layers.03.mlp_up.lora_A",
        "layers.-1.mlp_up.lora_A",
        "layers.1000000000.mlp_up.lora_A",
        "layers.\u0663.mlp_up.lora_A",
        "layers.3.mlp_up.lora_C",
        "layers.3.mlp_up.lora_A\n",
        "Layers.3.mlp_up.lora_A",
        "layers.3.MLP.lora_A",
        "layers.3..lora_A",
        "layers.3.mlp_up.experts.05.lora_A",
        "layers.3.mlp_up.experts.1000000000.lora_A",
        "layers.3.mlp_up.experts.\u0663.lora_A",
        "layers.3.mlp_up.experts.lora_A",
        "layers.3.mlp_up.5.lora_A",
        "layers.3.experts.5.lora_A",
        "layers.3.experts.5.mlp_up.lora_A",
        "cross.layers.3.mlp_up.lora_A",
        "layers.mlp_up.lora_A",
        "lora_A",
        "extra.base_model.model.score.weight",
    ],
)
def test_a_name_against_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(RuleError) as caught:
        TensorName.parse(text)
    assert caught.value.problem_code == "tensor-name"
    assert caught.value.message == f"tensor name {text!r} does not follow the grammar"
    assert caught.value.context == {"tensor": text}


def test_an_extra_tensor_keeps_the_name_it_came_under() -> None:
    assert extra_name("base_model.model.score.weight") == "extra.base_model.model.score.weight"
