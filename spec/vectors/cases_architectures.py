"""Documents that the package ships, applied to small configs of real architectures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spec.vectors.craft import Case
from spec.vectors.craft_binders import Json, resolve, shipped, slot

__all__ = ["architecture_cases"]

_HIDDEN = {"hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12, "vocab_size": 16}
_GROUPED = {**_HIDDEN, "num_attention_heads": 4, "num_key_value_heads": 2}
_HEADS = {**_HIDDEN, "num_attention_heads": 2}

Rows = tuple[int, int, int, int]


def architecture_cases() -> Iterator[Case]:
    """Yield every case of a shipped document."""
    yield from _llamas()
    yield from _inner_configs()
    yield from _encoders()
    yield from _fused()
    yield from _falcons()
    yield from _one_key_head()
    yield from _mixtures()
    yield from _latent()
    yield from _two_stacks()
    yield from _t5()
    yield _state_space()
    yield from _cross_layers()


def _of(architecture: str, model_type: str, class_: str, fields: Json) -> tuple[Json, Json]:
    """Return a shipped binder, and a config of a class."""
    return shipped(architecture, model_type), {"architectures": [class_], "model_type": model_type, **fields}


def _qkv(layer: int, *rows: Rows, query: int = 8, key: int = 8) -> list[Json]:
    roles = (("attention_query", query), ("attention_key", key), ("attention_value", key))
    return [slot(role, layer, 8, width, rows=of) for (role, width), of in zip(roles, rows, strict=True)]


def _gated(layer: int, width: int, *, experts: int | None = None, taking_turns: bool = False) -> list[Json]:
    """Return the slots of gate and up in one module, of each expert where there are several."""
    gate, up = (
        ((0, 1, 2, width), (1, 1, 2, width)) if taking_turns else ((0, width, width, 1), (width, width, width, 1))
    )
    return [
        slot(role, layer, 8, width, expert=index, rows=rows)
        for index in (range(experts) if experts else (None,))
        for role, rows in (("mlp_gate", gate), ("mlp_up", up))
    ]


def _downs(layer: int, width: int, experts: int) -> list[Json]:
    return [slot("mlp_down", layer, width, 8, expert=index) for index in range(experts)]


def _decoder(layer: int, query: int, key: int, *, before: str = "model.") -> Json:
    block = f"{before}layers.{layer}."
    return {
        f"{block}self_attn.q_proj": [slot("attention_query", layer, 8, query)],
        f"{block}self_attn.k_proj": [slot("attention_key", layer, 8, key)],
        f"{block}self_attn.v_proj": [slot("attention_value", layer, 8, key)],
        f"{block}self_attn.o_proj": [slot("attention_output", layer, query, 8)],
        f"{block}mlp.up_proj": [slot("mlp_up", layer, 8, 12)],
        f"{block}mlp.down_proj": [slot("mlp_down", layer, 12, 8)],
        f"{block}mlp.gate_proj": [slot("mlp_gate", layer, 8, 12)],
    }


def _vocabulary(embedding: str, head: str, width: int = 8) -> Json:
    return {embedding: [slot("token_embedding", None, 16, width)], head: [slot("lm_head", None, width, 16)]}


def _llamas() -> Iterator[Case]:
    """The model types of one layout differ in their classes and defaults: a head is 2 wide unless it is said."""
    outer = _vocabulary("model.embed_tokens", "lm_head")
    few = {name: value for name, value in _GROUPED.items() if name != "num_key_value_heads"}
    rows: list[tuple[str, str, str, str, Json, Json]] = [
        (
            "llama",
            "llama",
            "LlamaForCausalLM",
            "The modules of a Llama.",
            _GROUPED,
            {**_decoder(1, 8, 4), "score": None},
        ),
        (
            "qwen2",
            "qwen2",
            "Qwen2ForCausalLM",
            "The modules of a Qwen 2.",
            {**_GROUPED, "num_key_value_heads": 1},
            _decoder(0, 8, 2),
        ),
        (
            "mistral",
            "mistral",
            "MistralForCausalLM",
            "A Mistral that does not say its key heads has 8.",
            few,
            _decoder(0, 8, 16),
        ),
        (
            "mistral-null",
            "mistral",
            "MistralForCausalLM",
            "A Mistral whose key heads are null has one for each query head.",
            {**few, "num_key_value_heads": None},
            _decoder(0, 8, 8),
        ),
        (
            "gemma2",
            "gemma2",
            "Gemma2ForCausalLM",
            "The modules of a Gemma 2.",
            {**_GROUPED, "head_dim": 3},
            _decoder(0, 12, 6),
        ),
        (
            "gemma3-text",
            "gemma3_text",
            "Gemma3ForCausalLM",
            "Heads that are wider than the hidden size says.",
            {**_GROUPED, "head_dim": 6},
            _decoder(0, 24, 12),
        ),
        (
            "gemma3-text-defaults",
            "gemma3_text",
            "Gemma3ForCausalLM",
            "4 key heads, 256 wide, where the config does not say.",
            {**few, "num_attention_heads": 2},
            _decoder(0, 512, 1024),
        ),
    ]
    for name, model_type, class_, description, fields, slots in rows:
        binder, config = _of("llama", model_type, class_, fields)
        yield resolve(name, description, binder, config, {**slots, **outer})


def _inner_configs() -> Iterator[Case]:
    before = "model.language_model."
    outer = _vocabulary(f"{before}embed_tokens", "lm_head")
    text = {**_GROUPED, "head_dim": 3}
    binder, config = _of("llama", "gemma3", "Gemma3ForConditionalGeneration", {"text_config": text, "hidden_size": 99})
    slots = {**_decoder(0, 12, 6, before=before), **outer}
    yield resolve("gemma3", "A language model inside another, and its object in the config.", binder, config, slots)
    few = {name: value for name, value in _GROUPED.items() if name != "num_key_value_heads"}
    binder, config = _of("llama", "qwen2_vl", "Qwen2VLForConditionalGeneration", {"text_config": few})
    slots = {**_decoder(0, 8, 16, before=before), **outer}
    yield resolve("qwen2-vl", "A default for a field of an inner object.", binder, config, slots)


def _encoders() -> Iterator[Case]:
    yield from _bert("bert", "BertForMaskedLM", "cls.predictions.decoder", "lm_head.decoder")
    yield from _bert("roberta", "RobertaForMaskedLM", "lm_head.decoder", "cls.predictions.decoder")
    fields = {**_HEADS, "embedding_size": 4, "num_hidden_layers": 6, "num_hidden_groups": 2}
    binder, config = _of("albert", "albert", "AlbertForMaskedLM", fields)
    groups = "albert.encoder.albert_layer_groups."
    slots: Json = {
        f"{groups}1.albert_layers.0.attention.query": [slot("attention_query", 1, 8, 8)],
        f"{groups}1.albert_layers.0.attention.dense": [slot("attention_output", 1, 8, 8)],
        f"{groups}1.albert_layers.0.ffn": [slot("mlp_up", 1, 8, 12)],
        f"{groups}1.albert_layers.0.ffn_output": [slot("mlp_down", 1, 12, 8)],
        f"{groups}2.albert_layers.0.ffn": None,
        f"{groups}1.albert_layers.1.ffn": None,
        **_vocabulary("albert.embeddings.word_embeddings", "predictions.decoder", 4),
        "albert.encoder.embedding_hidden_mapping_in": None,
    }
    yield resolve("albert", "Blocks that run several times, and a narrow embedding.", binder, config, slots)
    odd = {**config, "num_hidden_layers": 5}
    yield resolve("albert-refused", "Groups that do not divide the layers.", binder, odd, "binder-data")
    inner = {**config, "inner_group_num": 2}
    yield resolve("albert-unknown", "Groups of several blocks are not known.", binder, inner, "binder-data")
    binder, config = _of("modernbert", "modernbert", "ModernBertForMaskedLM", _HEADS)
    slots = {
        "model.layers.1.attn.Wqkv": _qkv(1, (0, 8, 8, 1), (8, 8, 8, 1), (16, 8, 8, 1)),
        "model.layers.1.attn.q_proj": None,
        "model.layers.1.attn.Wo": [slot("attention_output", 1, 8, 8)],
        "model.layers.1.mlp.Wi": _gated(1, 12),
        "model.layers.1.mlp.Wo": [slot("mlp_down", 1, 12, 8)],
        **_vocabulary("model.embeddings.tok_embeddings", "decoder"),
        "head.dense": None,
    }
    yield resolve("modernbert", "Fused attention, and gate and up in one.", binder, config, slots)


def _bert(name: str, class_: str, head: str, other: str) -> Iterator[Case]:
    binder, config = _of("bert", name, class_, _HEADS)
    block = f"{name}.encoder.layer.1."
    slots: Json = {
        f"{block}attention.self.query": [slot("attention_query", 1, 8, 8)],
        f"{block}attention.self.key": [slot("attention_key", 1, 8, 8)],
        f"{block}attention.self.value": [slot("attention_value", 1, 8, 8)],
        f"{block}attention.output.dense": [slot("attention_output", 1, 8, 8)],
        f"{block}intermediate.dense": [slot("mlp_up", 1, 8, 12)],
        f"{block}output.dense": [slot("mlp_down", 1, 12, 8)],
        **_vocabulary(f"{name}.embeddings.word_embeddings", head),
        f"{name}.pooler.dense": None,
        f"{block}crossattention.self.key": None,
        other: None,
    }
    yield resolve(name, f"The modules of a {name}.", binder, config, slots)
    crossed = {
        f"{block}crossattention.self.query": [slot("cross_attention_query", 1, 8, 8)],
        f"{block}crossattention.self.key": [slot("cross_attention_key", 1, 8, 8)],
        f"{block}crossattention.self.value": [slot("cross_attention_value", 1, 8, 8)],
        f"{block}crossattention.output.dense": [slot("cross_attention_output", 1, 8, 8)],
    }
    decoder = {**config, "is_decoder": True, "add_cross_attention": True}
    yield resolve(f"{name}-cross-attention", "Modules that exist in a decoder.", binder, decoder, crossed)


def _fused() -> Iterator[Case]:
    fields = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 16}
    binder, config = _of("gpt2", "gpt2", "GPT2LMHeadModel", fields)
    block = "transformer.h.1."
    slots: Json = {
        f"{block}attn.c_attn": _qkv(1, (0, 8, 8, 1), (8, 8, 8, 1), (16, 8, 8, 1)),
        f"{block}attn.c_proj": [slot("attention_output", 1, 8, 8)],
        f"{block}mlp.c_fc": [slot("mlp_up", 1, 8, 32)],
        f"{block}mlp.c_proj": [slot("mlp_down", 1, 32, 8)],
        **_vocabulary("transformer.wte", "lm_head"),
        "transformer.wpe": None,
    }
    yield resolve("gpt2", "A fused module with one block of rows for each role.", binder, config, slots)
    slots = {
        f"{block}crossattention.q_attn": [slot("cross_attention_query", 1, 8, 8)],
        f"{block}crossattention.c_attn": [
            slot("cross_attention_key", 1, 8, 8, rows=(0, 8, 8, 1)),
            slot("cross_attention_value", 1, 8, 8, rows=(8, 8, 8, 1)),
        ],
        f"{block}crossattention.c_proj": [slot("cross_attention_output", 1, 8, 8)],
        f"{block}mlp.c_fc": [slot("mlp_up", 1, 8, 20)],
    }
    crossed = {**config, "add_cross_attention": True, "n_inner": 20}
    yield resolve("gpt2-cross-attention", "A fused module of two roles.", binder, crossed, slots)
    binder, config = _of("gpt_neox", "gpt_neox", "GPTNeoXForCausalLM", _HEADS)
    block = "gpt_neox.layers.0."
    slots = {
        f"{block}attention.query_key_value": _qkv(0, (0, 4, 12, 2), (4, 4, 12, 2), (8, 4, 12, 2)),
        f"{block}attention.dense": [slot("attention_output", 0, 8, 8)],
        f"{block}mlp.dense_h_to_4h": [slot("mlp_up", 0, 8, 12)],
        f"{block}mlp.dense_4h_to_h": [slot("mlp_down", 0, 12, 8)],
        **_vocabulary("gpt_neox.embed_in", "lm_head"),
        "embed_out": None,
    }
    yield resolve("gpt-neox", "A fused module with a block of rows for each head.", binder, config, slots)
    binder, config = _of("phi3", "phi3", "Phi3ForCausalLM", _GROUPED)
    block = "model.layers.1."
    slots = {
        f"{block}self_attn.qkv_proj": _qkv(1, (0, 8, 8, 1), (8, 4, 4, 1), (12, 4, 4, 1), key=4),
        f"{block}self_attn.q_proj": None,
        f"{block}self_attn.o_proj": [slot("attention_output", 1, 8, 8)],
        f"{block}mlp.gate_up_proj": _gated(1, 12),
        f"{block}mlp.down_proj": [slot("mlp_down", 1, 12, 8)],
        **_vocabulary("model.embed_tokens", "lm_head"),
    }
    yield resolve("phi3", "Fused modules with grouped-query attention.", binder, config, slots)


def _falcons() -> Iterator[Case]:
    fields = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 16}
    one = _qkv(0, (0, 8, 12, 1), (8, 2, 12, 1), (10, 2, 12, 1), key=2)
    each = _qkv(0, (0, 2, 6, 4), (2, 2, 6, 4), (4, 2, 6, 4))
    two = _qkv(0, (0, 4, 8, 2), (4, 2, 8, 2), (6, 2, 8, 2), key=4)
    rows: list[tuple[str, str, Json, list[Json]]] = [
        ("falcon-one-key-head", "The form of 7B: one key head, as the defaults say.", {}, one),
        ("falcon-grouped", "The form of 40B: groups.", {"new_decoder_architecture": True, "num_kv_heads": 2}, two),
        ("falcon-grouped-default", "Groups that are not counted.", {"new_decoder_architecture": True}, each),
        ("falcon-per-head", "The form of RW: a key for each query.", {"multi_query": False, "alibi": True}, each),
        ("falcon-ignored-groups", "Groups in a form without.", {"num_kv_heads": 2}, one),
    ]
    block = "transformer.h.0."
    for name, description, change, fused in rows:
        binder, config = _of("bloom", "falcon", "FalconForCausalLM", {**fields, **change})
        slots = {
            f"{block}self_attention.query_key_value": fused,
            f"{block}self_attention.dense": [slot("attention_output", 0, 8, 8)],
            f"{block}mlp.dense_h_to_4h": [slot("mlp_up", 0, 8, 32)],
            f"{block}mlp.dense_4h_to_h": [slot("mlp_down", 0, 32, 8)],
            **_vocabulary("transformer.word_embeddings", "lm_head"),
        }
        yield resolve(name, description, binder, config, slots)


def _one_key_head() -> Iterator[Case]:
    fields = {"n_embd": 8, "n_layer": 1, "n_head": 4, "vocab_size": 16}
    one = _qkv(0, (0, 8, 12, 1), (8, 2, 12, 1), (10, 2, 12, 1), key=2)
    each = _qkv(0, (0, 2, 6, 4), (2, 2, 6, 4), (4, 2, 6, 4))
    for name, description, change, fused in (
        ("gpt-bigcode", "One key head, as the defaults say.", {}, one),
        ("gpt-bigcode-per-head", "A key head for each query head.", {"multi_query": False}, each),
    ):
        binder, config = _of("gpt_bigcode", "gpt_bigcode", "GPTBigCodeForCausalLM", {**fields, **change})
        slots = {
            "transformer.h.0.attn.c_attn": fused,
            "transformer.h.0.attn.c_proj": [slot("attention_output", 0, 8, 8)],
            "transformer.h.0.mlp.c_fc": [slot("mlp_up", 0, 8, 32)],
            **_vocabulary("transformer.wte", "lm_head"),
        }
        yield resolve(name, description, binder, config, slots)
    crossed = {**config, "add_cross_attention": True}
    description = "Cross attention is not known of this layout."
    yield resolve("gpt-bigcode-unknown", description, binder, crossed, "binder-data")


def _mixtures() -> Iterator[Case]:
    binder, config = _of("mixtral", "mixtral", "MixtralForCausalLM", {**_GROUPED, "num_local_experts": 2})
    block = "model.layers.1."
    slots: Json = {
        f"{block}self_attn.q_proj": [slot("attention_query", 1, 8, 8)],
        f"{block}mlp.experts.gate_up_proj": _gated(1, 12, experts=2),
        f"{block}mlp.experts.down_proj": _downs(1, 12, 2),
        f"{block}mlp.experts": None,
        f"{block}mlp.gate_proj": None,
    }
    yield resolve("mixtral", "A mixture of experts in every block.", binder, config, slots)
    sizes = {"num_experts": 2, "moe_intermediate_size": 5, "num_hidden_layers": 4}
    sparse = {"decoder_sparse_step": 2, "mlp_only_layers": [3]}
    binder, config = _of("mixtral", "qwen3_moe", "Qwen3MoeForCausalLM", {**_GROUPED, **sizes, **sparse})
    slots = {}
    for layer in range(4):
        block, is_sparse = f"model.layers.{layer}.mlp.", layer == 1
        slots |= {
            f"{block}experts.gate_up_proj": _gated(layer, 5, experts=2) if is_sparse else None,
            f"{block}experts.down_proj": _downs(layer, 5, 2) if is_sparse else None,
            f"{block}gate_proj": None if is_sparse else [slot("mlp_gate", layer, 8, 12)],
            f"{block}down_proj": None if is_sparse else [slot("mlp_down", layer, 12, 8)],
        }
    yield resolve("qwen3-moe", "Every second block is sparse, but for one that is excepted.", binder, config, slots)
    fields = {**_GROUPED, "intermediate_size": 6, "head_dim": 3, "num_local_experts": 2}
    binder, config = _of("gpt_oss", "gpt_oss", "GptOssForCausalLM", fields)
    block = "model.layers.0."
    slots = {
        f"{block}self_attn.q_proj": [slot("attention_query", 0, 8, 12)],
        f"{block}self_attn.k_proj": [slot("attention_key", 0, 8, 6)],
        f"{block}self_attn.o_proj": [slot("attention_output", 0, 12, 8)],
        f"{block}mlp.experts.gate_up_proj": _gated(0, 6, experts=2, taking_turns=True),
        f"{block}mlp.experts.down_proj": _downs(0, 6, 2),
    }
    yield resolve("gpt-oss", "Gate and up take turns, in a parameter of all experts.", binder, config, slots)


_LATENT: Json = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 16,
    "first_k_dense_replace": 1,
    "n_routed_experts": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 5,
    "q_lora_rank": 6,
    "kv_lora_rank": 7,
    "qk_nope_head_dim": 3,
    "qk_rope_head_dim": 2,
    "v_head_dim": 4,
}


def _latent() -> Iterator[Case]:
    binder, config = _of("deepseek_v3", "deepseek_v3", "DeepseekV3ForCausalLM", _LATENT)
    block = "model.layers.1.self_attn."
    latent: Json = {
        f"{block}kv_a_proj_with_mqa": [
            slot("latent_key_value_down", 1, 8, 7, rows=(0, 7, 7, 1)),
            slot("latent_key_rotary", 1, 8, 2, rows=(7, 2, 2, 1)),
        ],
        f"{block}kv_b_proj": [
            slot("latent_key_up", 1, 7, 6, rows=(0, 3, 7, 2)),
            slot("latent_value_up", 1, 7, 8, rows=(3, 4, 7, 2)),
        ],
        f"{block}o_proj": [slot("attention_output", 1, 8, 8)],
    }
    query = {
        f"{block}q_a_proj": [slot("latent_query_down", 1, 8, 6)],
        f"{block}q_b_proj": [slot("latent_query_up", 1, 6, 10)],
        f"{block}q_proj": None,
    }
    slots = {**latent, **query, **_sparse_block(1), **_dense_block(0)}
    yield resolve("deepseek-v3", "Latent attention, a dense block and a sparse one.", binder, config, slots)
    slots = {
        **latent,
        f"{block}q_a_proj": None,
        f"{block}q_b_proj": None,
        f"{block}q_proj": [slot("attention_query", 1, 8, 10)],
    }
    plain = {**config, "q_lora_rank": None}
    yield resolve("deepseek-v3-plain-query", "A query that is not compressed.", binder, plain, slots)
    typed = {**config, "mlp_layer_types": ["sparse", "dense"]}
    slots = {**_sparse_block(0), **_dense_block(1)}
    yield resolve("deepseek-v3-layer-types", "The kind of each block is in a list.", binder, typed, slots)
    halves = {**config, "rope_interleave": False}
    description = "A form of rotation that the layout is not right for."
    yield resolve("deepseek-v3-unknown", description, binder, halves, "binder-data")


def _sparse_block(layer: int) -> Json:
    mlp = f"model.layers.{layer}.mlp."
    return {
        f"{mlp}experts.gate_up_proj": _gated(layer, 5, experts=2),
        f"{mlp}experts.down_proj": _downs(layer, 5, 2),
        f"{mlp}shared_experts.gate_proj": [slot("shared_mlp_gate", layer, 8, 10)],
        f"{mlp}shared_experts.down_proj": [slot("shared_mlp_down", layer, 10, 8)],
        f"{mlp}up_proj": None,
    }


def _dense_block(layer: int) -> Json:
    mlp = f"model.layers.{layer}.mlp."
    return {
        f"{mlp}up_proj": [slot("mlp_up", layer, 8, 12)],
        f"{mlp}experts.gate_up_proj": None,
        f"{mlp}shared_experts.gate_proj": None,
    }


_BART: Json = {
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 10,
    "vocab_size": 16,
}


def _two_stacks() -> Iterator[Case]:
    binder, config = _of("bart", "bart", "BartForConditionalGeneration", _BART)
    encoder, decoder = "model.encoder.layers.1.", "model.decoder.layers.0."
    decoding: Json = {
        f"{decoder}self_attn.q_proj": [slot("attention_query", 0, 8, 8, stack="decoder")],
        f"{decoder}encoder_attn.k_proj": [slot("cross_attention_key", 0, 8, 8, stack="decoder")],
        f"{decoder}fc1": [slot("mlp_up", 0, 8, 10, stack="decoder")],
        "model.decoder.embed_tokens": [slot("token_embedding", None, 16, 8, stack="decoder")],
        "lm_head": [slot("lm_head", None, 8, 16, stack="decoder")],
    }
    encoding: Json = {
        f"{encoder}self_attn.out_proj": [slot("attention_output", 1, 8, 8, stack="encoder")],
        f"{encoder}fc1": [slot("mlp_up", 1, 8, 12, stack="encoder")],
        "model.shared": [slot("token_embedding", None, 16, 8, stack="encoder")],
    }
    slots = {**encoding, **decoding, "model.encoder.embed_tokens": None}
    yield resolve("bart", "Two stacks that differ.", binder, config, slots)
    slots = {**dict.fromkeys(encoding), **decoding}
    description = "A class that holds the decoder alone."
    yield resolve("bart-decoder", description, binder, config, slots, model_class="BartForCausalLM")


_T5: Json = {
    "d_model": 8,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "d_kv": 3,
    "d_ff": 12,
    "vocab_size": 16,
    "feed_forward_proj": "relu",
}


def _t5() -> Iterator[Case]:
    encoder, decoder = "encoder.block.1.layer.", "decoder.block.0.layer."
    encoding: Json = {
        f"{encoder}0.SelfAttention.q": [slot("attention_query", 1, 8, 6, stack="encoder")],
        f"{encoder}0.SelfAttention.o": [slot("attention_output", 1, 6, 8, stack="encoder")],
        f"{encoder}1.DenseReluDense.wi": [slot("mlp_up", 1, 8, 12, stack="encoder")],
        f"{encoder}1.DenseReluDense.wo": [slot("mlp_down", 1, 12, 8, stack="encoder")],
        "shared": [slot("token_embedding", None, 16, 8, stack="encoder")],
    }
    decoding: Json = {
        f"{decoder}0.SelfAttention.k": [slot("attention_key", 0, 8, 6, stack="decoder")],
        f"{decoder}1.EncDecAttention.q": [slot("cross_attention_query", 0, 8, 6, stack="decoder")],
        f"{decoder}1.EncDecAttention.v": [slot("cross_attention_value", 0, 8, 6, stack="decoder")],
        f"{decoder}1.EncDecAttention.o": [slot("cross_attention_output", 0, 6, 8, stack="decoder")],
        f"{decoder}2.DenseReluDense.wi": [slot("mlp_up", 0, 8, 12, stack="decoder")],
        "lm_head": [slot("lm_head", None, 8, 16, stack="decoder")],
    }
    nowhere = dict.fromkeys((f"{encoder}1.DenseReluDense.wi_0", "decoder.block.1.layer.0.SelfAttention.q"))
    binder, config = _of("t5", "t5", "T5ForConditionalGeneration", _T5)
    yield resolve("t5", "Two stacks of different depth.", binder, config, {**encoding, **decoding, **nowhere})
    alone = {**config, "architectures": ["T5EncoderModel"]}
    slots = {**encoding, **dict.fromkeys(decoding), "decoder.embed_tokens": None}
    yield resolve("t5-encoder", "A class that holds the encoder alone.", binder, alone, slots)
    slots = {f"transformer.{path}": found for path, found in encoding.items()}
    slots |= {f"transformer.{decoder}0.SelfAttention.k": None, **dict.fromkeys(encoding)}
    description = "A class that holds the encoder alone, in a place of its own."
    yield resolve("t5-encoder-inside", description, binder, config, slots, model_class="T5ForTokenClassification")
    gated = {name: value for name, value in config.items() if name not in ("num_decoder_layers", "d_kv")}
    slots = {
        "encoder.block.0.layer.1.DenseReluDense.wi": None,
        "encoder.block.0.layer.1.DenseReluDense.wi_0": [slot("mlp_gate", 0, 8, 12, stack="encoder")],
        "encoder.block.0.layer.1.DenseReluDense.wi_1": [slot("mlp_up", 0, 8, 12, stack="encoder")],
        "decoder.block.1.layer.2.DenseReluDense.wi_1": [slot("mlp_up", 1, 8, 12, stack="decoder")],
        "decoder.block.1.layer.0.SelfAttention.v": [slot("attention_value", 1, 8, 128, stack="decoder")],
    }
    description = "Modules that exist in a gated MLP, and numbers that default."
    yield resolve("t5-gated", description, binder, {**gated, "feed_forward_proj": "gated-gelu"}, slots)


def _state_space() -> Case:
    fields = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 3, "vocab_size": 16}
    binder, config = _of("mamba", "mamba", "MambaForCausalLM", fields)
    block = "backbone.layers.0.mixer."
    slots: dict[str, Any] = {
        f"{block}in_proj": [
            slot("state_space_in", 0, 32, 64, rows=(0, 64, 64, 1)),
            slot("state_space_gate", 0, 32, 64, rows=(64, 64, 64, 1)),
        ],
        f"{block}x_proj": [
            slot("state_space_step_down", 0, 64, 2, rows=(0, 2, 2, 1)),
            slot("state_space_input", 0, 64, 3, rows=(2, 3, 3, 1)),
            slot("state_space_output", 0, 64, 3, rows=(5, 3, 3, 1)),
        ],
        f"{block}dt_proj": [slot("state_space_step_up", 0, 2, 64)],
        f"{block}out_proj": [slot("state_space_out", 0, 64, 32)],
        f"{block}conv1d": None,
        "backbone.embeddings": [slot("token_embedding", None, 16, 32)],
    }
    return resolve("mamba", "Blocks without heads; a time step whose default is no number.", binder, config, slots)


def _cross_layers() -> Iterator[Case]:
    crossing: Json = {
        "cross_attn.q_proj": [slot("cross_attention_query", 1, 8, 8)],
        "cross_attn.k_proj": [slot("cross_attention_key", 1, 8, 4)],
        "cross_attn.v_proj": [slot("cross_attention_value", 1, 8, 4)],
        "cross_attn.o_proj": [slot("cross_attention_output", 1, 8, 8)],
        "self_attn.q_proj": None,
        "mlp.up_proj": [slot("mlp_up", 1, 8, 12)],
    }
    plain: Json = {"self_attn.k_proj": [slot("attention_key", 0, 8, 4)], "cross_attn.k_proj": None}
    places = [("1", crossing), ("0", plain)]
    text = {**_GROUPED, "cross_attention_layers": [1]}
    for name, model_type, class_, fields, before in (
        ("mllama", "mllama", "MllamaForConditionalGeneration", {"text_config": text}, "model.language_model."),
        ("mllama-text", "mllama_text_model", "MllamaForCausalLM", text, "model."),
    ):
        binder, config = _of("mllama", model_type, class_, fields)
        slots = {f"{before}layers.{layer}.{path}": of for layer, block in places for path, of in block.items()}
        slots |= {"lm_head": [slot("lm_head", None, 8, 16)], f"{before}embed_tokens": None}
        yield resolve(name, "Blocks of cross attention among others.", binder, config, slots)
    none = {**config, "cross_attention_layers": None, "num_hidden_layers": 4}
    slots = {
        "model.layers.3.self_attn.k_proj": [slot("attention_key", 3, 8, 4)],
        "model.layers.3.cross_attn.k_proj": None,
    }
    yield resolve("mllama-null", "null is a list of no blocks.", binder, none, slots)
    few = {key: value for key, value in none.items() if key != "cross_attention_layers"}
    slots = {
        "model.layers.3.cross_attn.k_proj": [slot("cross_attention_key", 3, 8, 4)],
        "model.layers.3.self_attn.k_proj": None,
    }
    yield resolve("mllama-default", "A list of blocks that is a default.", binder, few, slots)
