"""Tiny models whose attention or MLP is often one fused module, and their relatives."""

from __future__ import annotations

from tests.model_types.kind import TinyType

_HEADS = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_SHORT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
_HALF_ROTATED = {"rope_theta": 100.0, "partial_rotary_factor": 0.5}

TYPES: dict[str, TinyType] = {
    "gpt2": TinyType(
        config="GPT2Config",
        settings={**_SHORT, "n_inner": 40},
        inputs="encoded",
        variants={"crossed": {"add_cross_attention": True}, "plain_inner": {"n_inner": None}},
    ),
    "openai-gpt": TinyType(config="OpenAIGPTConfig", settings=_SHORT, module="openai"),
    "imagegpt": TinyType(config="ImageGPTConfig", settings={**_SHORT, "n_inner": 40}),
    "gpt_neo": TinyType(
        config="GPTNeoConfig",
        settings={
            "vocab_size": 64,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 40,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 32,
        },
        variants={"plain_inner": {"intermediate_size": None}},
    ),
    "gpt_neox": TinyType(
        config="GPTNeoXConfig",
        settings={
            **_HEADS,
            "intermediate_size": 40,
            "rope_parameters": _HALF_ROTATED,
        },
        variants={"one_after_the_other": {"use_parallel_residual": False}, "tied": {"tie_word_embeddings": True}},
    ),
    "gpt_neox_japanese": TinyType(
        config="GPTNeoXJapaneseConfig",
        settings={**_HEADS, "intermediate_multiple_size": 3, "max_position_embeddings": 32},
        variants={"part_rotated": {"rope_parameters": _HALF_ROTATED}},
    ),
    "gptj": TinyType(config="GPTJConfig", settings={**_SHORT, "n_inner": 40, "rotary_dim": 4}),
    "opt": TinyType(
        config="OPTConfig",
        settings={**_HEADS, "ffn_dim": 40, "max_position_embeddings": 32, "word_embed_proj_dim": 32},
        variants={"narrow": {"word_embed_proj_dim": 24}, "post_norm": {"do_layer_norm_before": False}},
    ),
    "xglm": TinyType(
        config="XGLMConfig",
        settings={
            "vocab_size": 64,
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 40,
            "max_position_embeddings": 32,
        },
        inputs="encoded",
        variants={"crossed": {"add_cross_attention": True}},
    ),
    "biogpt": TinyType(
        config="BioGptConfig", settings={**_HEADS, "intermediate_size": 40, "max_position_embeddings": 32}
    ),
    "bloom": TinyType(config="BloomConfig", settings={"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": TinyType(
        config="FalconConfig",
        settings={**_HEADS, "ffn_hidden_size": 40},
        variants={
            "grouped": {"new_decoder_architecture": True, "num_kv_heads": 2},
            "grouped_one_norm": {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
            "every_head": {"multi_query": False, "alibi": True},
            "one_after_the_other": {"parallel_attn": False, "ffn_hidden_size": None, "bias": True},
        },
    ),
    "mpt": TinyType(
        config="MptConfig",
        settings={
            "vocab_size": 64,
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "max_seq_len": 32,
            "expansion_ratio": 3,
        },
    ),
    "gpt_bigcode": TinyType(
        config="GPTBigCodeConfig",
        settings={**_SHORT, "n_inner": 40},
        variants={"every_head": {"multi_query": False, "n_inner": None}},
    ),
    "phi3": TinyType(
        config="Phi3Config",
        settings={**_HEADS, "num_key_value_heads": 2, "intermediate_size": 40, "pad_token_id": 0},
        variants={
            "part_rotated": {"rope_parameters": _HALF_ROTATED},
            "every_head": {"num_key_value_heads": None},
        },
    ),
    "glm": TinyType(
        config="GlmConfig",
        settings={**_HEADS, "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 40, "pad_token_id": 0},
    ),
    "glm4": TinyType(
        config="Glm4Config",
        settings={**_HEADS, "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 40, "pad_token_id": 0},
    ),
    "persimmon": TinyType(
        config="PersimmonConfig",
        settings={**_HEADS, "intermediate_size": 40},
        variants={"no_norm_of_heads": {"qk_layernorm": False}},
    ),
    "ctrl": TinyType(config="CTRLConfig", settings={**_SHORT, "dff": 40}),
    "qwen": TinyType(
        config="QWenConfig",
        settings={**_HEADS, "kv_channels": 8, "intermediate_size": 80, "rotary_emb_base": 3.0},
        variants={"part_rotated": {"rotary_pct": 0.5}},
        module="tests.reference.qwen",
    ),
    "internlm2": TinyType(
        config="InternLM2Config",
        settings={**_HEADS, "num_key_value_heads": 2, "intermediate_size": 40, "rope_theta": 3.0},
        variants={"every_head": {"num_key_value_heads": None, "bias": False}},
        module="tests.reference.internlm2",
    ),
}
"""By model type; hidden_size is heads * head_dim in most of them, which they demand."""
