"""Tiny models of multimodal types: what is proved is their text tower, called with tokens alone."""

from __future__ import annotations

from typing import Any

from tests.model_types.kind import TinyType

__all__ = ["TYPES"]

_TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_WIDE = {"head_dim": 12}
_ENCODER = {"hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = _ENCODER | {"image_size": 16, "patch_size": 8}
_CLIP = _VISION | {"model_type": "clip_vision_model", "projection_dim": 16}
_SIGLIP = _VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
_PIXTRAL = _VISION | {"model_type": "pixtral", "head_dim": 12}
_PERCEIVER = {
    "hidden_size": 32,
    "resampler_n_latents": 2,
    "resampler_depth": 1,
    "resampler_n_heads": 2,
    "resampler_head_dim": 8,
    "num_key_value_heads": 1,
}
_QWEN2_AUDIO = {
    "model_type": "qwen2_audio_encoder",
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 28,
    "num_mel_bins": 8,
    "max_source_positions": 16,
}
_VOXTRAL = _ENCODER | {
    "model_type": "voxtral_encoder",
    "intermediate_size": 96,
    "num_mel_bins": 8,
    "max_source_positions": 16,
}
_SAM = {
    "hidden_size": 24,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "mlp_dim": 28,
    "window_size": 2,
    "global_attn_indexes": [1],
}


def _multimodal(config: str, text: str, **more: Any) -> TinyType:
    """Return a model whose text tower is of another model type; its head is as wide as that one allows."""
    wide = {} if text in ("qwen2", "cohere2") else _WIDE
    return TinyType(config=config, settings={"text_config": _TEXT | wide | {"model_type": text}, **more})


TYPES: dict[str, TinyType] = {
    "cohere2_vision": _multimodal("Cohere2VisionConfig", "cohere2", vision_config=_SIGLIP, image_token_id=60),
    "deepseek_vl": _multimodal("DeepseekVLConfig", "llama", vision_config=_SIGLIP, image_token_id=60),
    "got_ocr2": _multimodal("GotOcr2Config", "qwen2", vision_config=_SAM, image_token_index=60),
    "internvl": _multimodal(
        "InternVLConfig", "qwen2", vision_config=_ENCODER | {"image_size": [16, 16], "patch_size": [8, 8]}
    ),
    "ovis2": _multimodal(
        "Ovis2Config",
        "qwen2",
        vision_config=_VISION | {"vocab_size": 32},
        image_token_id=60,
        hidden_size=32,
        vocab_size=64,
    ),
    "aya_vision": _multimodal("AyaVisionConfig", "cohere2", vision_config=_SIGLIP, image_token_index=60),
    "idefics2": _multimodal(
        "Idefics2Config", "mistral", vision_config=_VISION, perceiver_config=_PERCEIVER, image_token_id=60
    ),
    "idefics3": _multimodal("Idefics3Config", "llama", vision_config=_VISION, image_token_id=60),
    "llava": _multimodal("LlavaConfig", "llama", vision_config=_CLIP, image_token_index=60),
    "llava_next": _multimodal("LlavaNextConfig", "mistral", vision_config=_CLIP, image_token_index=60),
    "llava_next_video": _multimodal(
        "LlavaNextVideoConfig", "llama", vision_config=_CLIP, image_token_index=60, video_token_index=61
    ),
    "llava_onevision": _multimodal(
        "LlavaOnevisionConfig", "qwen2", vision_config=_SIGLIP, image_token_index=60, video_token_index=61
    ),
    "mistral3": _multimodal("Mistral3Config", "mistral", vision_config=_PIXTRAL, image_token_index=60),
    "paligemma": _multimodal(
        "PaliGemmaConfig",
        "gemma",
        vision_config=_SIGLIP,
        projection_dim=32,
        hidden_size=32,
        vocab_size=64,
        image_token_index=60,
    ),
    "qwen2_audio": _multimodal("Qwen2AudioConfig", "qwen2", audio_config=_QWEN2_AUDIO, audio_token_index=60),
    "smolvlm": _multimodal("SmolVLMConfig", "llama", vision_config=_VISION, image_token_id=60),
    "video_llava": _multimodal(
        "VideoLlavaConfig", "llama", vision_config=_CLIP, image_token_index=60, video_token_index=61
    ),
    "vipllava": _multimodal(
        "VipLlavaConfig", "llama", vision_config=_CLIP, image_token_index=60, vision_feature_layer=(-1, -2)
    ),
    "voxtral": _multimodal("VoxtralConfig", "llama", audio_config=_VOXTRAL, audio_token_id=60),
}
