"""Tiny text encoders: BERT and what descends from it."""

from __future__ import annotations

from typing import Any

from tests.model_types.kind import TinyType

_TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
_BERT: dict[str, Any] = {**_TEXT, "type_vocab_size": 3}
_PADDED: dict[str, Any] = {**_TEXT, "pad_token_id": 0}
_CROSS: dict[str, Any] = {"is_decoder": True, "add_cross_attention": True}


def _decoding(config: str, **changes: Any) -> TinyType:
    """Return a type whose blocks can also hold cross-attention."""
    return TinyType(config=config, settings={**_BERT, **changes}, inputs="encoded", variants={"cross": _CROSS})


def _encoding(config: str, **changes: Any) -> TinyType:
    """Return a type that only reads."""
    return TinyType(config=config, settings={**_BERT, **changes})


_DEBERTA: dict[str, Any] = {**_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}

TYPES: dict[str, TinyType] = {
    "albert": TinyType(
        config="AlbertConfig",
        settings={**_BERT, "embedding_size": 24, "num_hidden_layers": 4, "num_hidden_groups": 2},
        variants={"one_group": {"num_hidden_groups": 1}},
    ),
    "bert": _decoding("BertConfig"),
    "bert-generation": TinyType(
        config="BertGenerationConfig",
        settings=_TEXT,
        inputs="encoded",
        variants={"cross": _CROSS},
        module="bert_generation",
    ),
    "big_bird": _decoding("BigBirdConfig", attention_type="original_full", use_cache=False),
    "bros": TinyType(config="BrosConfig", settings={**_BERT, "hidden_size": 64}, inputs="boxes"),
    "camembert": _decoding("CamembertConfig"),
    "data2vec-text": TinyType(
        config="Data2VecTextConfig",
        settings=_BERT,
        inputs="encoded",
        variants={"cross": _CROSS},
        module="transformers.models.data2vec.modeling_data2vec_text",
    ),
    "deberta": TinyType(
        config="DebertaConfig",
        settings={**_DEBERTA, "max_relative_positions": 10},
        variants={
            "absolute": {"relative_attention": False, "pos_att_type": None},
            "content_to_position": {"pos_att_type": ["c2p"]},
            "position_to_content": {"pos_att_type": "p2c", "embedding_size": 24},
            "current_head": {"legacy": False},
        },
    ),
    "deberta-v2": TinyType(
        config="DebertaV2Config",
        settings={**_DEBERTA, "position_buckets": 8},
        module="deberta_v2",
        variants={
            "absolute": {"relative_attention": False, "pos_att_type": None},
            "shared_keys": {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
            "content_to_position": {"pos_att_type": "c2p"},
            "position_to_content": {"pos_att_type": ["p2c"], "embedding_size": 24},
            "current_head": {"legacy": False, "conv_kernel_size": 3},
        },
    ),
    "distilbert": TinyType(
        config="DistilBertConfig",
        settings={
            "vocab_size": 64,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 40,
        },
    ),
    "dpr": _encoding("DPRConfig", projection_dim=12),
    "electra": _decoding("ElectraConfig", embedding_size=24),
    "ernie": _decoding("ErnieConfig", use_task_id=True, task_type_vocab_size=5),
    "esm": TinyType(
        config="EsmConfig",
        settings={**_BERT, "pad_token_id": 1, "mask_token_id": 2, "position_embedding_type": "rotary"},
    ),
    "eurobert": TinyType(config="EuroBertConfig", settings={**_PADDED, "num_key_value_heads": 2, "head_dim": 12}),
    "gte": _encoding("GteConfig"),
    "jina_embeddings_v3": _encoding("JinaEmbeddingsV3Config"),
    "layoutlm": _encoding("LayoutLMConfig"),
    "longformer": _encoding("LongformerConfig", attention_window=16),
    "markuplm": _encoding("MarkupLMConfig"),
    "megatron-bert": TinyType(
        config="MegatronBertConfig",
        settings=_BERT,
        inputs="encoded_alike",
        variants={"cross": _CROSS},
        module="megatron_bert",
    ),
    "modernbert": TinyType(
        config="ModernBertConfig", settings={**_PADDED, "num_hidden_layers": 3, "local_attention": 8}
    ),
    "modernbert-decoder": TinyType(
        config="ModernBertDecoderConfig", settings={**_PADDED, "local_attention": 8}, module="modernbert_decoder"
    ),
    "mpnet": TinyType(config="MPNetConfig", settings=_TEXT),
    "nomic_bert": _encoding("NomicBertConfig", head_dim=12),
    "nystromformer": _encoding("NystromformerConfig", num_landmarks=8, segment_means_seq_len=8, conv_kernel_size=5),
    "rembert": _decoding("RemBertConfig", input_embedding_size=20, output_embedding_size=28),
    "roberta": _decoding("RobertaConfig"),
    "roberta-prelayernorm": TinyType(
        config="RobertaPreLayerNormConfig",
        settings=_BERT,
        inputs="encoded",
        variants={"cross": _CROSS},
        module="roberta_prelayernorm",
    ),
    "roc_bert": _decoding(
        "RoCBertConfig",
        pronunciation_embed_dim=12,
        pronunciation_vocab_size=13,
        shape_embed_dim=14,
        shape_vocab_size=15,
    ),
    "roformer": TinyType(
        config="RoFormerConfig",
        settings={**_BERT, "intermediate_size": 40},
        inputs="encoded",
        variants={"cross": _CROSS, "narrow_embedding": {"embedding_size": 24}},
    ),
    "splinter": _encoding("SplinterConfig"),
    "tapas": TinyType(
        config="TapasConfig",
        settings={**_TEXT, "type_vocab_sizes": [3, 4, 4, 2, 4, 4, 4]},
        inputs="encoded_alike",
        variants={"cross": _CROSS},
    ),
    "ultrabert": TinyType(
        config="UltrabertConfig",
        settings={**_PADDED, "num_key_value_heads": 2, "head_dim": 12, "prediction_head_size": 20},
    ),
    "xlm-roberta": TinyType(
        config="XLMRobertaConfig", settings=_BERT, inputs="encoded", variants={"cross": _CROSS}, module="xlm_roberta"
    ),
    "xlm-roberta-xl": TinyType(
        config="XLMRobertaXLConfig",
        settings=_BERT,
        inputs="encoded",
        variants={"cross": _CROSS},
        module="xlm_roberta_xl",
    ),
}
