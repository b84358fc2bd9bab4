"""Targets follow from the binder: all linear modules of the blocks, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proof.cases import CASES, Case
from ual_registry.air.roles import ROLES
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import bind
from ual_registry.binders.load import known_model_types
from ual_registry.digest import Digest
from ual_registry.errors import TrainingError, UninferableArchitectureError
from ual_registry.training.inferred import known_architecture
from ual_registry.training.target_choice import TargetGroup
from ual_registry.training.targets import choose_targets

pytestmark = pytest.mark.filterwarnings("ignore")

ROUTERS = {"moe_router", "shared_mlp_router"}
TIED = "tied weight: embedding and head are one"


def groups_of(case: Case, **asked: Any) -> list[tuple[str, bool, str, int, str]]:
    choice = choose_targets(case.binding(), config=case.base(), **asked)
    return [(own.path, own.is_included, own.reason, own.count, own.layers) for own in choice.groups()]


def linear_of(case: Case) -> list[str]:
    """Return the paths of all linear modules of the default class."""
    modules = case.empty_modules(case.kind.default_class)
    return [path for path, module in modules.items() if type(module).__name__ == "Linear"]


LLAMA = [
    ("model.layers.*.self_attn.q_proj", True, "attention_query", 2, "0-1"),
    ("model.layers.*.self_attn.k_proj", True, "attention_key", 2, "0-1"),
    ("model.layers.*.self_attn.v_proj", True, "attention_value", 2, "0-1"),
    ("model.layers.*.self_attn.o_proj", True, "attention_output", 2, "0-1"),
    ("model.layers.*.mlp.gate_proj", True, "mlp_gate", 2, "0-1"),
    ("model.layers.*.mlp.up_proj", True, "mlp_up", 2, "0-1"),
    ("model.layers.*.mlp.down_proj", True, "mlp_down", 2, "0-1"),
]


def test_llama_trains_seven_modules_a_layer_and_neither_head_nor_embedding() -> None:
    case = Case("llama")
    assert groups_of(case) == [
        *LLAMA,
        ("model.embed_tokens", False, "outside the blocks", 1, ""),
        ("lm_head", False, "head", 1, ""),
    ]
    choice = choose_targets(case.binding())
    assert choice.reasons["model.layers.1.self_attn.q_proj"] == "attention_query of layer 1"
    assert choice.roles == tuple(reason for _, _, reason, _, _ in LLAMA)
    assert choice.parameters == ()


def test_gemma3_ties_its_head_to_its_embedding() -> None:
    assert groups_of(Case("gemma3_text")) == [
        *LLAMA,
        ("model.embed_tokens", False, TIED, 1, ""),
        ("lm_head", False, TIED, 1, ""),
    ]


def test_gpt2_trains_its_fused_conv1d_as_one_module() -> None:
    assert groups_of(Case("gpt2")) == [
        ("transformer.h.*.attn.c_attn", True, "attention_query, attention_key, attention_value", 2, "0-1"),
        ("transformer.h.*.attn.c_proj", True, "attention_output", 2, "0-1"),
        ("transformer.h.*.mlp.c_fc", True, "mlp_up", 2, "0-1"),
        ("transformer.h.*.mlp.c_proj", True, "mlp_down", 2, "0-1"),
        ("transformer.wte", False, TIED, 1, ""),
        ("lm_head", False, TIED, 1, ""),
    ]


def test_a_fused_module_that_holds_a_wanted_role_trains_the_others_too_and_says_so() -> None:
    choice = choose_targets(Case("gpt2").binding(), roles=["attention_query"], layers=[1])
    assert choice.modules == ("transformer.h.1.attn.c_attn",)
    assert choice.reasons["transformer.h.1.attn.c_attn"] == (
        "attention_query, attention_key, attention_value of layer 1; "
        "attention_key, attention_value stand in the same module"
    )
    assert choice.reasons["transformer.h.0.attn.c_attn"] == "not asked for"


def test_t5_trains_both_stacks_and_says_which() -> None:
    reasons = [(path, reason, layers) for path, is_in, reason, _, layers in groups_of(Case("t5")) if is_in]
    assert reasons == [
        *(
            (f"encoder.block.*.layer.0.SelfAttention.{name}", f"encoder attention_{role}", "0-2")
            for name, role in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
        ),
        ("encoder.block.*.layer.1.DenseReluDense.wi", "encoder mlp_up", "0-2"),
        ("encoder.block.*.layer.1.DenseReluDense.wo", "encoder mlp_down", "0-2"),
        *(
            (f"decoder.block.*.layer.{place}.{module}.{name}", f"decoder {cross}attention_{role}", "0-1")
            for place, module, cross in ((0, "SelfAttention", ""), (1, "EncDecAttention", "cross_"))
            for name, role in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
        ),
        ("decoder.block.*.layer.2.DenseReluDense.wi", "decoder mlp_up", "0-1"),
        ("decoder.block.*.layer.2.DenseReluDense.wo", "decoder mlp_down", "0-1"),
    ]


def test_bert_names_the_linear_modules_that_stand_outside_its_blocks() -> None:
    case = Case("bert")
    choice = choose_targets(case.binding(), config=case.base(), linear=linear_of(case))
    assert [own.path for own in choice.groups() if own.is_included] == [
        f"bert.encoder.layer.*.{name}"
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        )
    ]
    assert {own.path: own.reason for own in choice.excluded} == {
        "bert.embeddings.word_embeddings": TIED,
        "cls.predictions.decoder": TIED,
        "cls.predictions.transform.dense": "outside the blocks",
    }


def test_experts_that_are_one_parameter_are_told_from_modules() -> None:
    choice = choose_targets(Case("mixtral").binding())
    assert choice.parameters == tuple(
        f"model.layers.{layer}.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj") for layer in (0, 1)
    )
    assert len(choice.modules) == 8


def test_a_router_gate_is_left_out_unless_it_is_asked_for() -> None:
    case = next(case for case in CASES if any(_routers(case)))
    left_out = [own.path for own in choose_targets(case.binding()).excluded if own.reason == "router gate"]
    assert left_out == list(_routers(case))
    role = next(role for role in ROUTERS if any(role in own.roles for own in choose_targets(case.binding()).targets))
    assert set(choose_targets(case.binding(), roles=[role]).modules) <= set(left_out)


def _routers(case: Case) -> list[str]:
    modules = case.binding().modules
    return [path for path, module in modules.items() if {slot.role for slot in module.slots} <= ROUTERS]


def test_roles_layers_and_exclusions_narrow_the_choice() -> None:
    binding = Case("llama").binding()
    choice = choose_targets(
        binding, roles=["attention_query", "attention_value"], layers=[1], exclude=["model.layers.1.self_attn.v_proj"]
    )
    assert choice.modules == ("model.layers.1.self_attn.q_proj",)
    assert choice.reasons["model.layers.1.self_attn.v_proj"] == "excluded"
    assert choice.reasons["lm_head"] == "not asked for"
    assert choice.groups()[:2] == (
        TargetGroup(
            path="model.layers.0.self_attn.q_proj", is_included=False, reason="not asked for", count=1, layers="0"
        ),
        TargetGroup(
            path="model.layers.1.self_attn.q_proj", is_included=True, reason="attention_query", count=1, layers="1"
        ),
    )
    assert choice.document()[1] == {
        "path": "model.layers.1.self_attn.q_proj",
        "included": True,
        "reason": "attention_query",
        "count": 1,
        "layers": "1",
    }


def test_a_dense_module_that_peft_takes_for_an_expert_is_left_out() -> None:
    choice = choose_targets(Case("qwen3_moe").binding())
    assert {own.path: own.reason for own in choice.excluded if own.layer == 0} == {
        f"model.layers.0.mlp.{name}": "PEFT takes it for an expert of an older layout"
        for name in ("gate_proj", "up_proj", "down_proj")
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"roles": ["moe_router"]},
            (
                "role 'moe_router': tiny has no module with it (it has attention_key, attention_output, "
                "attention_query, attention_value, lm_head, mlp_down, mlp_gate, mlp_up, token_embedding)"
            ),
        ),
        ({"layers": [0, 7, 2]}, "layer 2: tiny has layers 0 to 1"),
        ({"exclude": ["nothing"]}, "exclude 'nothing': tiny has neither such a role nor a module with a role there"),
        ({"layers": []}, "no module of tiny is left to train"),
        ({"exclude": list(ROLES)[:7]}, "no module of tiny is left to train"),
    ],
)
def test_what_the_base_model_does_not_have_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        choose_targets(Case("llama").binding(), **asked)
    assert (caught.value.message, caught.value.problem_code) == (message, "targets")


def unknown_base(model_type: str) -> BaseConfig:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.AutoConfig.for_model(model_type, **sizes, intermediate_size=48, vocab_size=64)
    text = config.to_json_string(use_diff=False)
    return BaseConfig(label=model_type, document=json.loads(text), digest=Digest.of_bytes(text.encode()))


def test_an_architecture_without_a_binder_is_inferred_and_forgotten_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UAL_BINDERS", raising=False)
    base = unknown_base("doge")
    with known_architecture(base, tmp_path / "binder.json") as found:
        assert found is not None
        choice = choose_targets(bind(base), config=base)
        groups = [(own.path, own.is_included, own.reason, own.count, own.layers) for own in choice.groups()]
    assert groups[:7] == LLAMA
    assert [own[1] for own in groups[7:]] == [False, False]
    assert json.loads((tmp_path / "binder.json").read_text()) == found.document
    assert "doge" not in known_model_types()


def test_an_architecture_with_a_binder_is_not_inferred(tmp_path: Path) -> None:
    with known_architecture(Case("llama").base(), tmp_path / "binder.json") as found:
        assert found is None
    assert list(tmp_path.iterdir()) == []


def test_an_architecture_that_cannot_be_inferred_is_refused(tmp_path: Path) -> None:
    base = BaseConfig(label="odd", document={"model_type": "nobody_knows"}, digest=Digest.of_bytes(b""))
    with pytest.raises(UninferableArchitectureError), known_architecture(base, tmp_path / "binder.json"):
        pass
    assert list(tmp_path.iterdir()) == []
