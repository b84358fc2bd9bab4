"""Tiny models with experts, with latent attention, or with state-space blocks."""

from __future__ import annotations

from typing import Any

from tests.model_types.kind import TinyType

__all__ = ["TYPES"]

_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEADS = {**_SIZES, "head_dim": 12}
_LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
_ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "n_shared_experts": 3,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LATENT = {
    **_SIZES,
    "intermediate_size": 36,
    "num_key_value_heads": 4,
    "q_lora_rank": 22,
    "kv_lora_rank": 18,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
_INDEXER = {"index_topk": 32, "index_head_dim": 16, "index_n_heads": 3}
_DIRECT_QUERY = {"direct_query": {"q_lora_rank": None}}

_QWEN = {**_HEADS, **_EXPERTS, "moe_intermediate_size": 20, "mlp_only_layers": [0]}
_QWEN_VARIANTS: dict[str, dict[str, Any]] = {
    "sparse": {"mlp_only_layers": []},
    "step": {"mlp_only_layers": [], "decoder_sparse_step": 2},
}

_LLAMA4 = {**_HEADS, **_LOCAL, "intermediate_size_mlp": 44, "interleave_moe_layer_step": 2}

_MAMBA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "state_size": 6,
    "num_hidden_layers": 2,
    "expand": 2,
    "time_step_rank": 10,
    "use_cache": False,
}
_MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_n_groups": 1,
    "mamba_d_state": 6,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}

TYPES: dict[str, TinyType] = {
    "mixtral": TinyType(
        config="MixtralConfig", settings={**_HEADS, **_LOCAL}, variants={"tied": {"tie_word_embeddings": True}}
    ),
    "qwen2_moe": TinyType(
        config="Qwen2MoeConfig", settings={**_QWEN, "shared_expert_intermediate_size": 28}, variants=_QWEN_VARIANTS
    ),
    "qwen3_moe": TinyType(config="Qwen3MoeConfig", settings=_QWEN, variants=_QWEN_VARIANTS),
    "olmoe": TinyType(config="OlmoeConfig", settings={**_SIZES, **_EXPERTS}),
    "phimoe": TinyType(
        config="PhimoeConfig",
        settings={**_HEADS, **_LOCAL, "rope_parameters": {"rope_type": "default", "rope_theta": 10.0}},
    ),
    "flex_olmo": TinyType(config="FlexOlmoConfig", settings={**_HEADS, **_EXPERTS}),
    "glm4_moe": TinyType(
        config="Glm4MoeConfig",
        settings={**_SIZES, **_ROUTED, "moe_intermediate_size": 22, "head_dim": 20},
        variants={"query_key_norm": {"use_qk_norm": True}},
    ),
    "dots1": TinyType(config="Dots1Config", settings={**_HEADS, **_ROUTED}),
    "ernie4_5_moe": TinyType(
        config="Ernie4_5_MoeConfig",
        settings={**_HEADS, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 20, "moe_num_shared_experts": 3},
        variants={
            "alone": {"moe_num_shared_experts": 0, "tie_word_embeddings": False},
            "interval": {"num_hidden_layers": 4, "moe_layer_interval": 2},
            "bounds": {"num_hidden_layers": 4, "moe_layer_end_index": 2},
        },
    ),
    "hunyuan_v1_moe": TinyType(config="HunYuanMoEV1Config", settings={**_HEADS, "num_experts": 4, "moe_topk": 2}),
    "minimax_m2": TinyType(
        config="MiniMaxM2Config",
        settings={**_HEADS, **_LOCAL},
        variants={
            "partial": {
                "head_dim": 20,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
            },
        },
    ),
    "solar_open": TinyType(
        config="SolarOpenConfig",
        settings={
            name: value
            for name, value in {**_HEADS, **_ROUTED}.items()
            if name not in {"intermediate_size", "first_k_dense_replace"}
        },
    ),
    "mellum": TinyType(
        config="MellumConfig",
        settings={**_HEADS, **_EXPERTS, "moe_intermediate_size": 20, "mlp_layer_types": ["dense", "sparse"]},
        variants={"sparse": {"mlp_layer_types": None}},
    ),
    "exaone_moe": TinyType(
        config="ExaoneMoeConfig",
        settings={**_HEADS, **_EXPERTS, "moe_intermediate_size": 20, "num_shared_experts": 3},
        variants={"listed": {"mlp_layer_types": ["sparse", "dense"]}},
    ),
    "hy_v3": TinyType(
        config="HYV3Config",
        settings={**_HEADS, **_EXPERTS, "moe_intermediate_size": 20, "num_shared_experts": 3},
        variants={"listed": {"mlp_layer_types": ["sparse", "dense"]}},
    ),
    "gpt_oss": TinyType(config="GptOssConfig", settings={**_HEADS, **_LOCAL}),
    "granitemoe": TinyType(config="GraniteMoeConfig", settings={**_HEADS, **_LOCAL}),
    "granitemoeshared": TinyType(
        config="GraniteMoeSharedConfig",
        settings={**_HEADS, **_LOCAL, "shared_intermediate_size": 28},
        variants={"alone": {"shared_intermediate_size": 0}},
    ),
    "granitemoe_swa": TinyType(
        config="GraniteMoeSWAConfig", settings={**_HEADS, **_LOCAL, "shared_intermediate_size": 28}
    ),
    "llama4_text": TinyType(
        module="llama4", config="Llama4TextConfig", settings=_LLAMA4, variants={"sparse": {"moe_layers": [0, 1]}}
    ),
    "llama4": TinyType(
        config="Llama4Config",
        settings={
            "text_config": _LLAMA4,
            "vision_config": {
                "hidden_size": 24,
                "intermediate_size": 52,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 8,
                "patch_size": 4,
                "vision_output_dim": 36,
                "projector_input_dim": 36,
                "projector_output_dim": 36,
            },
            "image_token_index": 63,
            "boi_token_index": 61,
            "eoi_token_index": 62,
        },
    ),
    "minimax": TinyType(
        config="MiniMaxConfig",
        settings={
            **_HEADS,
            **_LOCAL,
            "block_size": 4,
            "intermediate_size": 42,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "deepseek_v2": TinyType(
        config="DeepseekV2Config",
        settings={**_LATENT, **_ROUTED, "n_group": None, "topk_group": None},
        variants=_DIRECT_QUERY,
    ),
    "deepseek_v3": TinyType(config="DeepseekV3Config", settings={**_LATENT, **_ROUTED}, variants=_DIRECT_QUERY),
    "glm4_moe_lite": TinyType(
        config="Glm4MoeLiteConfig",
        settings={name: value for name, value in {**_LATENT, **_ROUTED}.items() if name != "first_k_dense_replace"},
        variants={"dense": {"mlp_layer_types": ["dense", "dense"]}},
    ),
    "deepseek_v32": TinyType(
        config="DeepseekV32Config",
        settings={**_LATENT, **_ROUTED, **_INDEXER},
        variants={"listed": {"mlp_layer_types": ["sparse", "dense"]}},
    ),
    "glm_moe_dsa": TinyType(
        config="GlmMoeDsaConfig",
        settings={**_LATENT, **_ROUTED, **_INDEXER, "indexer_types": ["full", "shared"]},
    ),
    "minicpm3": TinyType(config="MiniCPM3Config", settings={**_LATENT, "scale_emb": 1}, variants=_DIRECT_QUERY),
    "youtu": TinyType(config="YoutuConfig", settings=_LATENT, variants=_DIRECT_QUERY),
    "mamba": TinyType(config="MambaConfig", settings=_MAMBA),
    "falcon_mamba": TinyType(config="FalconMambaConfig", settings=_MAMBA),
    "jamba": TinyType(
        config="JambaConfig",
        settings={
            **_HEADS,
            **_EXPERTS,
            "num_hidden_layers": 6,
            "mamba_d_state": 6,
            "mamba_dt_rank": 10,
        },
        variants={"dense": {"num_experts": 1, "num_experts_per_tok": 1}},
    ),
    "bamba": TinyType(config="BambaConfig", settings={**_SIZES, **_MAMBA2, "head_dim": 20, "attn_layer_indices": [1]}),
    "falcon_h1": TinyType(config="FalconH1Config", settings={**_HEADS, **_MAMBA2, "mamba_d_ssm": 56}),
    "recurrent_gemma": TinyType(
        config="RecurrentGemmaConfig",
        settings={
            **{name: value for name, value in _SIZES.items() if name != "max_position_embeddings"},
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "lru_width": 36,
            "attention_window_size": 16,
        },
    ),
    "lfm2_moe": TinyType(
        config="Lfm2MoeConfig",
        settings={
            **_HEADS,
            **_EXPERTS,
            "moe_intermediate_size": 20,
            "num_dense_layers": 1,
            "layer_types": ["conv", "full_attention"],
        },
    ),
}
