"""Tiny models of encoder-decoder types."""

from __future__ import annotations

from typing import Any

from tests.model_types.kind import TinyType

__all__ = ["TYPES"]

_T5 = {
    "vocab_size": 64,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
}
_GATED = {"feed_forward_proj": "gated-gelu"}
_UNGATED = {"feed_forward_proj": "relu"}

_POSITIONS = {"max_position_embeddings": 64}
_SPEECH = {"max_source_positions": 16, "max_target_positions": 16}
_BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "scale_embedding": False,
    "activation_function": "silu",
}
_FSMT = {key: value for key, value in _BART.items() if key != "vocab_size"} | _POSITIONS

_T5GEMMA_ENCODER = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "hidden_activation": "silu",
    "query_pre_attn_scalar": 1024,
}
_T5GEMMA_DECODER = _T5GEMMA_ENCODER | {
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}

_DAVIT = {
    "model_type": "florence_vision",
    "embed_dim": [8, 16],
    "depths": [1, 1],
    "num_heads": [2, 2],
    "num_groups": [2, 2],
    "patch_size": [3, 3],
    "patch_stride": [2, 2],
    "patch_padding": [1, 1],
    "patch_prenorm": [False, True],
    "window_size": 2,
    "projection_dim": 32,
    "max_temporal_embeddings": 8,
    "max_position_embeddings": 8,
}


def _t5(config: str, **variants: dict[str, Any]) -> TinyType:
    return TinyType(config=config, settings=_T5, inputs="seq2seq", variants=variants)


def _bart(config: str, *, module: str | None = None, **more: Any) -> TinyType:
    settings = _BART | _POSITIONS | more
    return TinyType(config=config, settings=settings, inputs="seq2seq", module=module)


TYPES: dict[str, TinyType] = {
    "t5": _t5("T5Config", gated=_GATED),
    "mt5": _t5("MT5Config", ungated=_UNGATED),
    "umt5": _t5("UMT5Config", ungated=_UNGATED),
    "longt5": _t5(
        "LongT5Config", transient_global=_GATED | {"encoder_attention_type": "transient-global", "global_block_size": 2}
    ),
    "pop2piano": TinyType(config="Pop2PianoConfig", settings=_T5 | {"dense_act_fn": "silu"}, inputs="seq2seq"),
    "bart": _bart("BartConfig"),
    "mbart": _bart("MBartConfig"),
    "pegasus": _bart("PegasusConfig"),
    "pegasus_x": _bart("PegasusXConfig", block_size=4, num_global_tokens=4),
    "blenderbot": _bart("BlenderbotConfig"),
    "blenderbot-small": _bart("BlenderbotSmallConfig", module="blenderbot_small"),
    "marian": TinyType(
        config="MarianConfig",
        settings=_BART | _POSITIONS,
        inputs="seq2seq",
        variants={
            "two_vocabularies": {
                "share_encoder_decoder_embeddings": False,
                "decoder_vocab_size": 64,
                "tie_word_embeddings": False,
            }
        },
    ),
    "m2m_100": _bart("M2M100Config"),
    "plbart": _bart("PLBartConfig"),
    "mvp": TinyType(
        config="MvpConfig",
        settings=_BART | _POSITIONS,
        inputs="seq2seq",
        variants={"prompt": {"use_prompt": True, "prompt_length": 3, "prompt_mid_dim": 20}},
    ),
    "bigbird_pegasus": _bart("BigBirdPegasusConfig", attention_type="original_full", use_bias=True),
    "led": TinyType(
        config="LEDConfig",
        settings=_BART
        | {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 4},
        inputs="seq2seq",
    ),
    "fsmt": TinyType(
        config="FSMTConfig",
        settings=_FSMT | {"src_vocab_size": 60, "tgt_vocab_size": 64},
        inputs="seq2seq",
        variants={"tied": {"src_vocab_size": 64, "tie_word_embeddings": True}},
    ),
    "speech_to_text": TinyType(
        config="Speech2TextConfig",
        settings=_BART | _SPEECH | {"conv_channels": 20, "input_feat_per_channel": 10},
        inputs="speech_frames",
    ),
    "whisper": TinyType(
        config="WhisperConfig",
        settings=_BART | _SPEECH | {"num_mel_bins": 10, "classifier_proj_size": 20, "decoder_attention_heads": 4},
        inputs="log_mel",
    ),
    "florence2": TinyType(
        config="Florence2Config",
        settings={
            "text_config": _BART | _POSITIONS | {"model_type": "bart"},
            "vision_config": _DAVIT,
            "image_token_id": 60,
        },
        inputs="seq2seq",
    ),
    "prophetnet": TinyType(
        config="ProphetNetConfig",
        settings={
            "vocab_size": 64,
            "hidden_size": 32,
            "encoder_ffn_dim": 40,
            "decoder_ffn_dim": 48,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 2,
            "num_buckets": 8,
            **_POSITIONS,
        },
        inputs="seq2seq",
    ),
    "moonshine": TinyType(
        config="MoonshineConfig",
        settings={
            "vocab_size": 64,
            "hidden_size": 48,
            "intermediate_size": 40,
            "encoder_num_hidden_layers": 3,
            "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            **_POSITIONS,
        },
        inputs="samples",
    ),
    "trocr": TinyType(
        config="TrOCRConfig",
        settings={
            "vocab_size": 64,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 40,
            **_POSITIONS,
        },
        inputs="encoded",
        variants={"sinusoidal": {"use_learned_position_embeddings": False}},
    ),
    "t5gemma": TinyType(
        config="T5GemmaConfig",
        settings={"encoder": _T5GEMMA_ENCODER, "decoder": _T5GEMMA_DECODER, "vocab_size": 64},
        inputs="seq2seq",
        classes={"T5GemmaEncoderModel": {"is_encoder_decoder": False}},
    ),
}
