"""Tiny decoders with separate linear modules for query, key, value and output, and for gate, up and down."""

from __future__ import annotations

from typing import Any

from tests.model_types.kind import TinyType

_FITTED: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 32,
}
"""Sizes of classes whose heads share out the hidden states: 8 features each."""

_FREE: dict[str, Any] = {**_FITTED, "hidden_size": 24, "head_dim": 8}
"""Sizes of classes whose heads have a width of their own."""

_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 2.0,
    "original_max_position_embeddings": 16,
    "llama_4_scaling_beta": 0.1,
}
_WHOLE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}}
_HALF = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
_BOTH_RANGES = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")}
_SECTIONS = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
_QWEN_EYES = {"depth": 1, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
_EYES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 16,
    "patch_size": 4,
}
_CROSSED = {**_FITTED, "cross_attention_layers": [1], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
_MLLAMA_EYES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_global_layers": 1,
    "attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 16,
    "patch_size": 4,
    "vision_output_dim": 32,
    "intermediate_layers_indices": [0],
    "supported_aspect_ratios": [[1, 1]],
}

TYPES: dict[str, TinyType] = {
    "apertus": TinyType(config="ApertusConfig", settings=_FITTED),
    "arcee": TinyType(config="ArceeConfig", settings=_FREE),
    "bitnet": TinyType(config="BitNetConfig", settings={**_FITTED, "tie_word_embeddings": True}),
    "cohere": TinyType(config="CohereConfig", settings=_FITTED, variants={"normed": {"use_qk_norm": True}}),
    "cohere2": TinyType(config="Cohere2Config", settings=_FREE),
    "cohere_compass_text": TinyType(
        config="CohereCompassTextConfig",
        settings={**_FREE, "rope_parameters": _BOTH_RANGES},
        module="cohere_compass",
    ),
    "cwm": TinyType(config="CwmConfig", settings=_FREE),
    "ernie4_5": TinyType(config="Ernie4_5Config", settings=_FREE),
    "exaone4": TinyType(config="Exaone4Config", settings=_FITTED),
    "gemma": TinyType(config="GemmaConfig", settings=_FREE),
    "gemma2": TinyType(config="Gemma2Config", settings=_FREE),
    "gemma3": TinyType(
        config="Gemma3Config",
        settings={"text_config": _FREE, "vision_config": _EYES, "mm_tokens_per_image": 4, "image_token_index": 60},
    ),
    "gemma3_text": TinyType(config="Gemma3TextConfig", settings=_FREE, module="gemma3"),
    "granite": TinyType(config="GraniteConfig", settings=_FITTED),
    "granite_swa": TinyType(config="GraniteSWAConfig", settings=_FITTED),
    "helium": TinyType(config="HeliumConfig", settings={**_FITTED, "head_dim": 8}),
    "hunyuan_v1_dense": TinyType(config="HunYuanDenseV1Config", settings=_FREE),
    "hyperclovax": TinyType(config="HyperCLOVAXConfig", settings=_FREE),
    "internlm3": TinyType(config="InternLM3Config", settings=_FREE, module="llama"),
    "iquestcoder": TinyType(config="IQuestCoderConfig", settings=_FREE, module="llama"),
    "jais2": TinyType(config="Jais2Config", settings=_FREE),
    "llama": TinyType(config="LlamaConfig", settings=_FREE, variants={"fitted": {"head_dim": None, "hidden_size": 32}}),
    "ministral": TinyType(config="MinistralConfig", settings=_FREE),
    "ministral3": TinyType(config="Ministral3Config", settings={**_FREE, "rope_parameters": _YARN}),
    "mistral": TinyType(config="MistralConfig", settings=_FREE),
    "mllama": TinyType(
        config="MllamaConfig",
        settings={"text_config": _CROSSED, "vision_config": _MLLAMA_EYES},
        inputs="cross_states",
    ),
    "mllama_text_model": TinyType(config="MllamaTextConfig", settings=_CROSSED, inputs="cross_states", module="mllama"),
    "nanochat": TinyType(config="NanoChatConfig", settings=_FITTED),
    "nemotron": TinyType(config="NemotronConfig", settings=_FREE),
    "olmo": TinyType(config="OlmoConfig", settings=_FITTED),
    "olmo2": TinyType(config="Olmo2Config", settings=_FITTED),
    "olmo3": TinyType(config="Olmo3Config", settings=_FITTED),
    "phi": TinyType(config="PhiConfig", settings=_FITTED, variants={"whole": _WHOLE}),
    "qwen2": TinyType(config="Qwen2Config", settings=_FITTED),
    "qwen2_5_vl": TinyType(
        config="Qwen2_5_VLConfig",
        settings={
            "text_config": {**_FITTED, **_SECTIONS},
            "vision_config": {**_QWEN_EYES, "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 12},
        },
    ),
    "qwen2_5_vl_text": TinyType(config="Qwen2_5_VLTextConfig", settings={**_FITTED, **_SECTIONS}, module="qwen2_5_vl"),
    "qwen2_vl": TinyType(
        config="Qwen2VLConfig",
        settings={
            "text_config": {**_FITTED, **_SECTIONS},
            "vision_config": {**_QWEN_EYES, "embed_dim": 16, "hidden_size": 32},
        },
    ),
    "qwen2_vl_text": TinyType(config="Qwen2VLTextConfig", settings={**_FITTED, **_SECTIONS}, module="qwen2_vl"),
    "qwen3": TinyType(config="Qwen3Config", settings=_FREE),
    "qwen3_vl": TinyType(
        config="Qwen3VLConfig",
        settings={
            "text_config": {**_FREE, **_SECTIONS},
            "vision_config": {
                **_QWEN_EYES,
                "hidden_size": 16,
                "out_hidden_size": 24,
                "intermediate_size": 12,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
        },
    ),
    "qwen3_vl_text": TinyType(config="Qwen3VLTextConfig", settings={**_FREE, **_SECTIONS}, module="qwen3_vl"),
    "seed_oss": TinyType(config="SeedOssConfig", settings=_FREE),
    "smollm3": TinyType(
        config="SmolLM3Config", settings=_FITTED, variants={"part_rotated": {"no_rope_layers": [1, 0]}}
    ),
    "stablelm": TinyType(config="StableLmConfig", settings={**_FITTED, **_HALF}),
    "starcoder2": TinyType(config="Starcoder2Config", settings=_FITTED),
    "vaultgemma": TinyType(config="VaultGemmaConfig", settings=_FREE),
}
