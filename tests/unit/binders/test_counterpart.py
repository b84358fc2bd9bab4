"""Which roles of one base model have a counterpart in another, and the reason of each that has none."""

from __future__ import annotations

from typing import Any

import pytest

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.counterpart import Counterpart, Place, counterparts
from ual_registry.digest import Digest

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "vocab_size": 64,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **SIZES},
    "bert": {"model_type": "bert", **SIZES},
    "bert with cross attention": {"model_type": "bert", "add_cross_attention": True, **SIZES},
    "albert": {"model_type": "albert", "embedding_size": 8, **SIZES},
    "albert of four": {"model_type": "albert", "embedding_size": 8, **SIZES, "num_hidden_layers": 4},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 64},
    "deepseek": {
        "model_type": "deepseek_v3",
        "q_lora_rank": 6,
        "kv_lora_rank": 5,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 2,
        "v_head_dim": 3,
        "n_routed_experts": 3,
        "moe_intermediate_size": 7,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        **SIZES,
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 3, **SIZES},
    "mixtral of four": {"model_type": "mixtral", "num_local_experts": 4, **SIZES},
    "qwen2_moe": {
        "model_type": "qwen2_moe",
        "num_experts": 3,
        "moe_intermediate_size": 7,
        "shared_expert_intermediate_size": 9,
        "decoder_sparse_step": 1,
        **SIZES,
    },
    "llama4": {
        "model_type": "llama4_text",
        "num_key_value_heads": 2,
        "intermediate_size_mlp": 24,
        "num_local_experts": 3,
        "interleave_moe_layer_step": 1,
        **SIZES,
    },
    "t5": {"model_type": "t5", "d_model": 16, "num_layers": 2, "num_heads": 4, "d_kv": 4, "d_ff": 20, "vocab_size": 64},
    "gated t5": {
        "model_type": "t5",
        "d_model": 16,
        "num_layers": 2,
        "num_heads": 4,
        "d_kv": 4,
        "d_ff": 20,
        "vocab_size": 64,
        "feed_forward_proj": "gated-gelu",
    },
    "mamba": {"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 64},
}


def binding(name: str) -> Binding:
    return bind(BaseConfig(label=name, document=CONFIGS[name], digest=Digest.of_bytes(b"")))


def found(source: str, target: str) -> tuple[Counterpart, ...]:
    one, other = binding(source), binding(target)
    return counterparts(
        one.base,
        (slot for module in one.modules.values() for slot in module.slots),
        other.base,
        (slot for module in other.modules.values() for slot in module.slots),
    )


def label(place: Place) -> str:
    return f"{place.stack}{'.' if place.stack else ''}{place.role}{' of experts' if place.has_expert else ''}"


ATTENTION = tuple(f"attention_{part}" for part in ("key", "output", "query", "value"))
MLP = ("mlp_down", "mlp_gate", "mlp_up")
OUTER = ("lm_head", "token_embedding")
EXPERTS = tuple(f"{role} of experts" for role in MLP)
SHARED = tuple(f"shared_mlp_{part}" for part in ("down", "gate", "up"))
LATENT = tuple(f"latent_{part}" for part in ("key_rotary", "key_up", "key_value_down"))
LATENT += ("latent_query_down", "latent_query_up", "latent_value_up")
STATE_SPACE = tuple(f"state_space_{part}" for part in ("gate", "in", "input", "out", "output", "step_down", "step_up"))


def none_of(roles: tuple[str, ...], reason: str | None) -> dict[str, str | None]:
    return dict.fromkeys(roles, reason)


def outside(roles: tuple[str, ...], place: str) -> dict[str, str | None]:
    return {role: f"the target has {role.removesuffix(' of experts')} {place} its experts" for role in roles}


SAME = None
TWO_STACKS = "the target has two stacks"
OTHER_MIXTURE = "the experts of two different mixtures do not correspond"
NO_SHARED = "the target has no shared expert"


def shared_blocks(source: str, target: str) -> dict[str, str | None]:
    reason = f"shared blocks: the source applies each block {source}, the target {target}"
    return {**none_of((*ATTENTION, "mlp_down", "mlp_up"), reason), **none_of(OUTER, SAME)}


CASES: dict[tuple[str, str], dict[str, str | None]] = {
    ("llama", "llama"): none_of((*ATTENTION, *MLP, *OUTER), SAME),
    ("llama", "gpt2"): {
        **none_of((*ATTENTION, *MLP, *OUTER), SAME),
        "mlp_gate": "the target's MLP has no gate",
    },
    ("gpt2", "llama"): none_of((*ATTENTION, "mlp_down", "mlp_up", *OUTER), SAME),
    ("albert", "bert"): shared_blocks("2 times", "once"),
    ("bert", "albert"): shared_blocks("once", "2 times"),
    ("albert", "albert of four"): shared_blocks("2 times", "4 times"),
    ("llama", "deepseek"): {
        **none_of(("attention_output", *MLP, *OUTER), SAME),
        **{
            f"attention_{part}": f"the target has latent attention, which compresses what attention_{part} would write"
            for part in ("key", "query", "value")
        },
    },
    ("deepseek", "llama"): {
        **none_of(("attention_output", *MLP, *OUTER), SAME),
        **none_of(LATENT, "the target has no latent attention"),
        **outside(EXPERTS, "outside"),
        **none_of(SHARED, NO_SHARED),
    },
    ("llama", "mixtral"): {**none_of((*ATTENTION, *OUTER), SAME), **outside(MLP, "only inside")},
    ("mixtral", "llama"): {**none_of((*ATTENTION, *OUTER), SAME), **outside(EXPERTS, "outside")},
    ("mixtral", "mixtral"): none_of((*ATTENTION, *OUTER, *EXPERTS), SAME),
    ("mixtral", "mixtral of four"): {**none_of((*ATTENTION, *OUTER), SAME), **none_of(EXPERTS, OTHER_MIXTURE)},
    ("mixtral", "mamba"): {
        **{role: f"the target has no {role}" for role in ATTENTION},
        **none_of(OUTER, SAME),
        **none_of(EXPERTS, "the target has no experts"),
    },
    ("qwen2_moe", "mixtral"): {
        **none_of((*ATTENTION, *OUTER), SAME),
        **none_of(EXPERTS, OTHER_MIXTURE),
        **none_of((*SHARED, "shared_mlp_router"), NO_SHARED),
    },
    ("llama4", "llama"): {
        **none_of((*ATTENTION, *OUTER), SAME),
        **outside(EXPERTS, "outside"),
        **none_of(SHARED, NO_SHARED),
        "moe_router": "the target has no experts to route to",
    },
    ("bert with cross attention", "bert"): {
        **none_of((*ATTENTION, "mlp_down", "mlp_up", *OUTER), SAME),
        **none_of(
            tuple(f"cross_attention_{part}" for part in ("key", "output", "query", "value")),
            "the target has no cross attention",
        ),
    },
    ("bert", "t5"): none_of((*ATTENTION, "mlp_down", "mlp_up", *OUTER), TWO_STACKS),
    ("t5", "bert"): {
        f"{stack}.{role}": f"the target has no stack {stack!r}"
        for stack, roles in {
            "encoder": (*ATTENTION, "mlp_down", "mlp_up", "token_embedding"),
            "decoder": (
                *ATTENTION,
                *(f"cross_{role}" for role in ATTENTION),
                *("mlp_down", "mlp_up"),
                *OUTER,
            ),
        }.items()
        for role in roles
    },
    ("gated t5", "t5"): {
        **{f"encoder.{role}": SAME for role in (*ATTENTION, "mlp_down", "mlp_up", "token_embedding")},
        **{f"decoder.{role}": SAME for role in (*ATTENTION, "mlp_down", "mlp_up", *OUTER)},
        **{f"decoder.cross_{role}": SAME for role in ATTENTION},
        **{f"{stack}.mlp_gate": "the target's MLP has no gate" for stack in ("encoder", "decoder")},
    },
    ("mamba", "llama"): {
        **none_of(OUTER, SAME),
        **{role: f"the target has no {role}" for role in STATE_SPACE},
    },
}


@pytest.mark.parametrize(("source", "target"), CASES, ids=" to ".join)
def test_every_place_has_its_counterpart_or_the_reason_why_not(source: str, target: str) -> None:
    listed = found(source, target)

    assert {label(item.place): item.obstacle for item in listed} == CASES[source, target]
    assert [item.place for item in listed] == sorted(item.place for item in listed)
