"""Binder documents applied to small configs: which path fills which slots, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spec.vectors.craft import Case

__all__ = ["binder_cases"]

_SHIPPED = Path(__file__).resolve().parents[2] / "ual_registry" / "binders" / "data"

Json = dict[str, Any]
Slot = tuple[str, int | None, int, int]
Expected = dict[str, Json | list[Json] | None]


def binder_cases() -> Iterator[Case]:
    """Yield every case of the operation ``resolve``."""
    yield from _shipped_plain()
    yield from _shipped_fused()
    yield from _shipped_t5()
    yield from _prefixes()
    yield from _numbers()
    yield from _conditions()
    yield from _fusions()
    yield from _paths()
    yield from _refused()


def _shipped(architecture: str) -> Json:
    document: Json = json.loads((_SHIPPED / f"{architecture}.json").read_text(encoding="utf-8"))
    return document


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _resolve(
    name: str,
    description: str,
    binder: Any,
    config: Any,
    slots: Json | str,
    *,
    modules: tuple[str, ...] = (),
    model_class: str | None = None,
) -> Case:
    """Return a case; ``slots`` is what is expected, or the code of a refusal."""
    refused = isinstance(slots, str)
    request = {"binder": "binder.json", "config": "config.json", "modules": list(modules or slots)}
    return Case(
        name=f"binder-{name}",
        description=description,
        operation="resolve",
        input={**request, **({"model_class": model_class} if model_class else {})},
        expected={"code": slots} if refused else {"slots": slots},
        files={
            "binder.json": binder if isinstance(binder, bytes) else _text(binder),
            "config.json": config if isinstance(config, bytes) else _text(config),
        },
    )


def _slot(
    role: str,
    layer: int | None,
    in_features: int,
    out_features: int,
    *,
    stack: str | None = None,
    rows: tuple[int, int, int, int] | None = None,
) -> Json:
    numbers = None if rows is None else dict(zip(("offset", "block", "stride", "count"), rows, strict=True))
    return {
        "stack": stack,
        "layer": layer,
        "role": role,
        "in_features": in_features,
        "out_features": out_features,
        "rows": numbers,
    }


_LLAMA: Json = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 16,
}


def _decoder_slots(layer: int, hidden: int, query: int, key: int, mlp: int) -> Json:
    block = f"model.layers.{layer}."
    return {
        f"{block}self_attn.q_proj": [_slot("attention_query", layer, hidden, query)],
        f"{block}self_attn.k_proj": [_slot("attention_key", layer, hidden, key)],
        f"{block}self_attn.v_proj": [_slot("attention_value", layer, hidden, key)],
        f"{block}self_attn.o_proj": [_slot("attention_output", layer, query, hidden)],
        f"{block}mlp.up_proj": [_slot("mlp_up", layer, hidden, mlp)],
        f"{block}mlp.down_proj": [_slot("mlp_down", layer, mlp, hidden)],
        f"{block}mlp.gate_proj": [_slot("mlp_gate", layer, hidden, mlp)],
    }


def _shipped_plain() -> Iterator[Case]:
    outer = {
        "model.embed_tokens": [_slot("token_embedding", None, 16, 8)],
        "lm_head": [_slot("lm_head", None, 8, 16)],
        "score": None,
    }
    slots = {**_decoder_slots(1, 8, 8, 4, 12), **outer}
    yield _resolve("llama", "The modules of a Llama.", _shipped("llama"), _LLAMA, slots)
    qwen = {**_LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 1}
    slots = {**_decoder_slots(0, 8, 8, 2, 12), **outer}
    yield _resolve("qwen2", "The modules of a Qwen 2.", _shipped("qwen2"), qwen, slots)
    gemma = {**_LLAMA, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 6}
    slots = {**_decoder_slots(0, 8, 24, 12, 12), **outer}
    yield _resolve(
        "gemma3-text", "Heads that are wider than the hidden size says.", _shipped("gemma3_text"), gemma, slots
    )
    bare = {key: value for key, value in gemma.items() if key not in ("head_dim", "num_key_value_heads")}
    slots = {**_decoder_slots(0, 8, 4 * 256, 4 * 256, 12)}
    yield _resolve("gemma3-text-defaults", "Numbers that stand in the binder.", _shipped("gemma3_text"), bare, slots)
    for name, class_, head in (
        ("bert", "BertForMaskedLM", "cls.predictions.decoder"),
        ("roberta", "RobertaForMaskedLM", "lm_head.decoder"),
    ):
        yield from _bert(name, class_, head)


def _bert(name: str, class_: str, head: str) -> Iterator[Case]:
    config = {
        "architectures": [class_],
        "model_type": name,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "vocab_size": 16,
    }
    block = f"{name}.encoder.layer.1."
    slots: Json = {
        f"{block}attention.self.query": [_slot("attention_query", 1, 8, 8)],
        f"{block}attention.self.key": [_slot("attention_key", 1, 8, 8)],
        f"{block}attention.self.value": [_slot("attention_value", 1, 8, 8)],
        f"{block}attention.output.dense": [_slot("attention_output", 1, 8, 8)],
        f"{block}intermediate.dense": [_slot("mlp_up", 1, 8, 12)],
        f"{block}output.dense": [_slot("mlp_down", 1, 12, 8)],
        f"{name}.embeddings.word_embeddings": [_slot("token_embedding", None, 16, 8)],
        f"{name}.pooler.dense": None,
        head: [_slot("lm_head", None, 8, 16)],
        f"{block}crossattention.self.key": None,
    }
    yield _resolve(name, f"The modules of a {name}.", _shipped(name), config, slots)
    crossed = {
        f"{block}crossattention.self.query": [_slot("cross_attention_query", 1, 8, 8)],
        f"{block}crossattention.self.key": [_slot("cross_attention_key", 1, 8, 8)],
        f"{block}crossattention.self.value": [_slot("cross_attention_value", 1, 8, 8)],
        f"{block}crossattention.output.dense": [_slot("cross_attention_output", 1, 8, 8)],
    }
    decoder = {**config, "is_decoder": True, "add_cross_attention": True}
    yield _resolve(f"{name}-cross-attention", "Modules that exist in a decoder.", _shipped(name), decoder, crossed)


_GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 8,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 16,
}
_NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 16,
}


def _shipped_fused() -> Iterator[Case]:
    block = "transformer.h.1."
    slots: Json = {
        f"{block}attn.c_attn": [
            _slot("attention_query", 1, 8, 8, rows=(0, 8, 8, 1)),
            _slot("attention_key", 1, 8, 8, rows=(8, 8, 8, 1)),
            _slot("attention_value", 1, 8, 8, rows=(16, 8, 8, 1)),
        ],
        f"{block}attn.c_proj": [_slot("attention_output", 1, 8, 8)],
        f"{block}mlp.c_fc": [_slot("mlp_up", 1, 8, 32)],
        f"{block}mlp.c_proj": [_slot("mlp_down", 1, 32, 8)],
        "transformer.wte": [_slot("token_embedding", None, 16, 8)],
        "transformer.wpe": None,
        "lm_head": [_slot("lm_head", None, 8, 16)],
    }
    yield _resolve("gpt2", "A fused module with one block of rows for each role.", _shipped("gpt2"), _GPT2, slots)
    crossed: Json = {
        f"{block}crossattention.q_attn": [_slot("cross_attention_query", 1, 8, 8)],
        f"{block}crossattention.c_attn": [
            _slot("cross_attention_key", 1, 8, 8, rows=(0, 8, 8, 1)),
            _slot("cross_attention_value", 1, 8, 8, rows=(8, 8, 8, 1)),
        ],
        f"{block}crossattention.c_proj": [_slot("cross_attention_output", 1, 8, 8)],
        f"{block}mlp.c_fc": [_slot("mlp_up", 1, 8, 20)],
    }
    config = {**_GPT2, "add_cross_attention": True, "n_inner": 20}
    yield _resolve("gpt2-cross-attention", "A fused module of two roles.", _shipped("gpt2"), config, crossed)
    block = "gpt_neox.layers.0."
    slots = {
        f"{block}attention.query_key_value": [
            _slot("attention_query", 0, 8, 8, rows=(0, 4, 12, 2)),
            _slot("attention_key", 0, 8, 8, rows=(4, 4, 12, 2)),
            _slot("attention_value", 0, 8, 8, rows=(8, 4, 12, 2)),
        ],
        f"{block}attention.dense": [_slot("attention_output", 0, 8, 8)],
        f"{block}mlp.dense_h_to_4h": [_slot("mlp_up", 0, 8, 12)],
        f"{block}mlp.dense_4h_to_h": [_slot("mlp_down", 0, 12, 8)],
        "gpt_neox.embed_in": [_slot("token_embedding", None, 16, 8)],
        "lm_head": [_slot("lm_head", None, 8, 16)],
        "embed_out": None,
    }
    yield _resolve("gpt-neox", "A fused module with a block of rows for each head.", _shipped("gpt_neox"), _NEOX, slots)


_T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "d_model": 8,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "d_kv": 3,
    "d_ff": 12,
    "vocab_size": 16,
    "feed_forward_proj": "relu",
}


def _shipped_t5() -> Iterator[Case]:
    slots: Json = {
        "encoder.block.1.layer.0.SelfAttention.q": [_slot("attention_query", 1, 8, 6, stack="encoder")],
        "encoder.block.1.layer.0.SelfAttention.o": [_slot("attention_output", 1, 6, 8, stack="encoder")],
        "encoder.block.1.layer.1.DenseReluDense.wi": [_slot("mlp_up", 1, 8, 12, stack="encoder")],
        "encoder.block.1.layer.1.DenseReluDense.wo": [_slot("mlp_down", 1, 12, 8, stack="encoder")],
        "encoder.block.1.layer.1.DenseReluDense.wi_0": None,
        "decoder.block.0.layer.0.SelfAttention.k": [_slot("attention_key", 0, 8, 6, stack="decoder")],
        "decoder.block.0.layer.1.EncDecAttention.q": [_slot("cross_attention_query", 0, 8, 6, stack="decoder")],
        "decoder.block.0.layer.1.EncDecAttention.k": [_slot("cross_attention_key", 0, 8, 6, stack="decoder")],
        "decoder.block.0.layer.1.EncDecAttention.v": [_slot("cross_attention_value", 0, 8, 6, stack="decoder")],
        "decoder.block.0.layer.1.EncDecAttention.o": [_slot("cross_attention_output", 0, 6, 8, stack="decoder")],
        "decoder.block.0.layer.2.DenseReluDense.wi": [_slot("mlp_up", 0, 8, 12, stack="decoder")],
        "decoder.block.1.layer.0.SelfAttention.q": None,
        "shared": [_slot("token_embedding", None, 16, 8, stack="encoder")],
        "lm_head": [_slot("lm_head", None, 8, 16, stack="decoder")],
        "encoder.embed_tokens": None,
    }
    yield _resolve("t5", "Two stacks of different depth.", _shipped("t5"), _T5, slots)
    gated = {**_T5, "feed_forward_proj": "gated-gelu"}
    del gated["num_decoder_layers"], gated["d_kv"]
    slots = {
        "encoder.block.0.layer.1.DenseReluDense.wi": None,
        "encoder.block.0.layer.1.DenseReluDense.wi_0": [_slot("mlp_gate", 0, 8, 12, stack="encoder")],
        "encoder.block.0.layer.1.DenseReluDense.wi_1": [_slot("mlp_up", 0, 8, 12, stack="encoder")],
        "decoder.block.1.layer.2.DenseReluDense.wi_1": [_slot("mlp_up", 1, 8, 12, stack="decoder")],
        "decoder.block.1.layer.0.SelfAttention.v": [_slot("attention_value", 1, 8, 128, stack="decoder")],
    }
    yield _resolve(
        "t5-gated", "Modules that exist in a gated MLP, and numbers that default.", _shipped("t5"), gated, slots
    )


def _prefixes() -> Iterator[Case]:
    binder, query = _shipped("llama"), [_slot("attention_query", 0, 8, 8)]
    bare, inside, other = (
        "layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.q_proj",
        "transformer.layers.0.self_attn.q_proj",
    )
    rows = (
        ("by-config", "The class that the config names.", {"architectures": ["LlamaModel"]}, None, bare),
        (
            "by-request",
            "The class that the request names comes first.",
            {"architectures": ["LlamaModel"]},
            "LlamaForQuestionAnswering",
            other,
        ),
        (
            "by-second-class",
            "The first class of the config that the binder knows.",
            {"architectures": ["MyLlama", "LlamaModel"]},
            None,
            bare,
        ),
        (
            "by-default",
            "The binder's default class, where the config names none.",
            {"architectures": None},
            None,
            inside,
        ),
        (
            "unknown-class",
            "A class that the binder does not know is passed over.",
            {"architectures": ["MyLlama"]},
            "HisLlama",
            inside,
        ),
        ("no-list", "architectures that is no list names no class.", {"architectures": "LlamaModel"}, None, inside),
        (
            "odd-list",
            "What is no text in architectures is passed over.",
            {"architectures": [1, None, "LlamaModel"]},
            None,
            bare,
        ),
    )
    for name, description, change, model_class, path in rows:
        slots: Json = dict.fromkeys((bare, inside, other)) | {path: query}
        config = {**_LLAMA, **change}
        yield _resolve(f"prefix-{name}", description, binder, config, slots, model_class=model_class)
    later = {**_own(), "classes": {"AModel": "a.", "BModel": "b."}, "default_class": "BModel"}
    slots = {"b.b.0.up": [_slot("mlp_up", 0, 4, 6)], "a.b.0.up": None}
    yield _resolve("prefix-default-is-named", "The default class need not be the first.", later, _CONFIG, slots)
    slots = {
        "lm_head": [_slot("lm_head", None, 8, 16)],
        "embed_tokens": [_slot("token_embedding", None, 16, 8)],
        "model.lm_head": None,
    }
    config = {**_LLAMA, "architectures": ["LlamaModel"]}
    yield _resolve("prefix-of-outer", "A module within the model stands without the prefix.", binder, config, slots)


def _own(**changes: Any) -> Json:
    """Return a binder of its own with one plain module; ``changes`` replace dimensions."""
    dimensions = {
        "hidden_size": ["width"],
        "num_layers": ["depth"],
        "num_attention_heads": ["heads"],
        "num_key_value_heads": ["heads"],
        "head_dim": [2],
        "intermediate_size": ["mlp"],
    }
    modules = [{"path": "up", "roles": ["mlp_up"]}]
    return {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": ["own", "own2"],
        "classes": {"OwnModel": ""},
        "default_class": "OwnModel",
        "vocab_size": ["vocab"],
        "rotary": {"style": "none"},
        "stacks": [{"path": "b.{layer}.", "dimensions": {**dimensions, **changes}, "modules": modules}],
        "outer": [],
        "without_role": [],
    }


_CONFIG: Json = {"model_type": "own", "width": 4, "depth": 1, "heads": 2, "mlp": 6, "vocab": 5}


def _numbers() -> Iterator[Case]:
    """Every case asks for the width of the MLP, found in another way."""
    rows: list[tuple[str, str, list[Any], Json, int]] = [
        ("field", "A field.", ["mlp"], {}, 6),
        ("number", "A number.", [7], {}, 7),
        ("second", "The second way, where the first is absent.", ["ffn", "mlp"], {}, 6),
        ("first-of-two", "The first way, where both are there.", ["ffn", "mlp"], {"ffn": 9}, 9),
        ("null", "A field that is null is absent.", ["ffn", "mlp"], {"ffn": None}, 6),
        ("text", "A field that is text is absent.", ["ffn", "mlp"], {"ffn": "9"}, 6),
        ("boolean", "A field that is true is absent.", ["ffn", "mlp"], {"ffn": True}, 6),
        ("list", "A field that is a list is absent.", ["ffn", "mlp"], {"ffn": [9]}, 6),
        ("zero", "A field that is 0 is passed over.", ["ffn", "mlp"], {"ffn": 0}, 6),
        ("negative", "A field below 0 is passed over.", ["ffn", "mlp"], {"ffn": -1}, 6),
        ("dotted", "A field inside an object.", ["text.mlp.width"], {"text": {"mlp": {"width": 11}}}, 11),
        ("dotted-broken", "What is no object on the way makes a field absent.", ["text.mlp", "mlp"], {"text": 3}, 6),
        ("dotted-name", "A name that holds a dot cannot be reached.", ["text.mlp", "mlp"], {"text.mlp": 3}, 6),
        ("quotient", "One field by another.", [{"quotient": ["mlp", "heads"]}], {}, 3),
        ("quotient-by-number", "A field by a number.", [{"quotient": ["mlp", 3]}], {}, 2),
        ("quotient-of-number", "A number by a field.", [{"quotient": [12, "mlp"]}], {}, 2),
        ("quotient-by-zero", "A quotient by 0 is passed over.", [{"quotient": ["mlp", "none"]}, 5], {"none": 0}, 5),
        ("quotient-absent", "A quotient of an absent field is passed over.", [{"quotient": ["ffn", 2]}, "mlp"], {}, 6),
        ("product", "A field times a number.", [{"product": ["width", 4]}], {}, 16),
        ("product-of-fields", "A field times a field.", [{"product": ["width", "mlp"]}], {}, 24),
        ("product-absent", "A product with an absent field is passed over.", [{"product": ["ffn", 4]}, "mlp"], {}, 6),
        (
            "product-of-fraction",
            "A product may be whole where a factor is not.",
            [{"product": ["ratio", 4]}],
            {"ratio": 2.5},
            10,
        ),
        ("whole-fraction", "6.0 is a whole number.", ["mlp"], {"mlp": 6.0}, 6),
        ("largest", "The largest size.", ["mlp"], {"mlp": 2147483647}, 2147483647),
    ]
    for name, description, ways, change, width in rows:
        slots = {"b.0.up": [_slot("mlp_up", 0, 4, width)]}
        yield _resolve(f"way-{name}", description, _own(intermediate_size=ways), {**_CONFIG, **change}, slots)
    bad: list[tuple[str, str, Json, Json]] = [
        ("none", "No way yields a number.", {"intermediate_size": ["ffn", "dim"]}, {}),
        ("none-positive", "No way yields a number above 0.", {}, {"mlp": 0}),
        ("fraction", "A size that is not whole.", {}, {"mlp": 6.5}),
        (
            "fraction-first",
            "A size that is not whole is not passed over.",
            {"intermediate_size": ["ffn", "mlp"]},
            {"ffn": 6.5},
        ),
        (
            "quotient-fraction",
            "Heads that do not divide the width.",
            {"head_dim": [{"quotient": ["width", "heads"]}]},
            {"heads": 3},
        ),
        ("too-large", "A size over the limit.", {}, {"mlp": 2147483648}),
        ("too-many-layers", "More than 10000 layers.", {}, {"depth": 10001}),
        ("no-vocabulary", "A vocabulary that cannot be found.", {}, {"vocab": None}),
        ("unused-dimension", "A dimension that no module needs must be there all the same.", {}, {"heads": None}),
    ]
    for name, description, ways, change in bad:
        yield _resolve(
            f"way-refused-{name}", description, _own(**ways), {**_CONFIG, **change}, "binder-data", modules=("b.0.up",)
        )


def _with_modules(*modules: Json) -> Json:
    binder = _own()
    binder["stacks"][0]["modules"] = list(modules)
    return binder


def _conditions() -> Iterator[Case]:
    up = [_slot("mlp_up", 0, 4, 6)]
    both = {
        "path": "up",
        "roles": ["mlp_up"],
        "when": {"field": "gated", "values": [True]},
        "unless": {"field": "act", "values": ["silu"]},
    }
    rows: list[tuple[str, str, Json, Json, bool]] = [
        (
            "when-holds",
            "A module exists where its condition holds.",
            {"when": {"field": "act", "values": ["gelu", "silu"]}},
            {"act": "silu"},
            True,
        ),
        (
            "when-fails",
            "A module does not exist where its condition does not hold.",
            {"when": {"field": "act", "values": ["gelu"]}},
            {"act": "silu"},
            False,
        ),
        (
            "when-absent",
            "A field that is absent is none of the values.",
            {"when": {"field": "act", "values": ["gelu"]}},
            {},
            False,
        ),
        ("when-null", "A field that is absent counts as null.", {"when": {"field": "act", "values": [None]}}, {}, True),
        ("when-number", "Numbers are equal by value.", {"when": {"field": "act", "values": [2]}}, {"act": 2.0}, True),
        (
            "when-text-of-number",
            "A text is not a number.",
            {"when": {"field": "act", "values": [2]}},
            {"act": "2"},
            False,
        ),
        (
            "when-case",
            "Texts are compared exactly.",
            {"when": {"field": "act", "values": ["gelu"]}},
            {"act": "GELU"},
            False,
        ),
        (
            "when-dotted",
            "A field inside an object.",
            {"when": {"field": "text.act", "values": ["gelu"]}},
            {"text": {"act": "gelu"}},
            True,
        ),
        (
            "unless-holds",
            "A module does not exist where its exception holds.",
            {"unless": {"field": "act", "values": ["silu"]}},
            {"act": "silu"},
            False,
        ),
        (
            "unless-fails",
            "A module exists where its exception does not hold.",
            {"unless": {"field": "act", "values": ["silu"]}},
            {"act": "gelu"},
            True,
        ),
        (
            "unless-absent",
            "An exception on an absent field does not hold.",
            {"unless": {"field": "act", "values": ["silu"]}},
            {},
            True,
        ),
        (
            "both",
            "Both conditions are kept.",
            {"when": both["when"], "unless": both["unless"]},
            {"gated": True, "act": "gelu"},
            True,
        ),
        (
            "both-excepted",
            "The exception wins.",
            {"when": both["when"], "unless": both["unless"]},
            {"gated": True, "act": "silu"},
            False,
        ),
    ]
    for name, description, condition, change, exists in rows:
        binder = _with_modules({"path": "up", "roles": ["mlp_up"], **condition})
        slots = {"b.0.up": up if exists else None}
        yield _resolve(f"condition-{name}", description, binder, {**_CONFIG, **change}, slots)


def _fusions() -> Iterator[Case]:
    grouped = _with_modules(
        {"path": "qkv", "roles": ["attention_query", "attention_key", "attention_value"], "layout": "contiguous"}
    )
    grouped["stacks"][0]["dimensions"]["num_key_value_heads"] = ["kv"]
    slots: Json = {
        "b.0.qkv": [
            _slot("attention_query", 0, 4, 8, rows=(0, 8, 8, 1)),
            _slot("attention_key", 0, 4, 4, rows=(8, 4, 4, 1)),
            _slot("attention_value", 0, 4, 4, rows=(12, 4, 4, 1)),
        ]
    }
    yield _resolve("fused-grouped", "Blocks of different length.", grouped, {**_CONFIG, "heads": 4, "kv": 2}, slots)
    mlp = _with_modules(
        {"path": "gate_up", "roles": ["mlp_gate", "mlp_up"], "layout": "contiguous", "weight": "conv1d"}
    )
    slots = {
        "b.0.gate_up": [_slot("mlp_gate", 0, 4, 6, rows=(0, 6, 6, 1)), _slot("mlp_up", 0, 4, 6, rows=(6, 6, 6, 1))]
    }
    yield _resolve("fused-mlp", "Rows are those of (out, in), however the weight is stored.", mlp, _CONFIG, slots)
    heads = _with_modules({"path": "vk", "roles": ["attention_value", "attention_key"], "layout": "per_head"})
    slots = {
        "b.0.vk": [
            _slot("attention_value", 0, 4, 6, rows=(0, 2, 4, 3)),
            _slot("attention_key", 0, 4, 6, rows=(2, 2, 4, 3)),
        ]
    }
    yield _resolve("fused-per-head", "Slots stand in the order of the rows.", heads, {**_CONFIG, "heads": 3}, slots)
    queries = _with_modules(
        {"path": "qq", "roles": ["attention_query", "cross_attention_query"], "layout": "per_head"},
        {"path": "k", "roles": ["attention_key"]},
    )
    queries["stacks"][0]["dimensions"]["num_key_value_heads"] = ["kv"]
    slots = {
        "b.0.qq": [
            _slot("attention_query", 0, 4, 8, rows=(0, 2, 4, 4)),
            _slot("cross_attention_query", 0, 4, 8, rows=(2, 2, 4, 4)),
        ],
        "b.0.k": [_slot("attention_key", 0, 4, 4)],
    }
    config = {**_CONFIG, "heads": 4, "kv": 2}
    yield _resolve("fused-query-heads", "There is a block for each query head.", queries, config, slots)
    lone = _with_modules({"path": "q", "roles": ["attention_query"], "layout": "per_head"})
    yield _resolve(
        "fused-alone",
        "A layout has no effect on one role.",
        lone,
        _CONFIG,
        {"b.0.q": [_slot("attention_query", 0, 4, 4)]},
    )


def _paths() -> Iterator[Case]:
    binder, block = _shipped("llama"), "model.layers."
    near = (
        "model.layers.2.self_attn.q_proj",
        "model.layers.00.self_attn.q_proj",
        "model.layers.-1.self_attn.q_proj",
        "model.layers.0.self_attn.q_proj.lora_A",
        "model.layers.0.self_attn.Q_proj",
        "model.layers.0.q_proj",
        "q_proj",
        "base_model.model.model.layers.0.self_attn.q_proj",
        "",
    )
    slots: Json = dict.fromkeys(near)
    yield _resolve("path-exact", "A path is looked up exactly, never by a part of it.", binder, _LLAMA, slots)
    slots = {f"{block}0.mlp.up_proj": [_slot("mlp_up", 0, 8, 12)]}
    yield _resolve(
        "path-twice",
        "A path that is asked for twice is answered once.",
        binder,
        _LLAMA,
        slots,
        modules=tuple(slots) * 2,
    )
    yield _resolve("path-none", "No path at all.", _own(), _CONFIG, {})
    second = _own()
    second["outer"] = [
        {"path": "emb", "role": "token_embedding", "within": "backbone", "stack": "encoder"},
        {"path": "out", "role": "lm_head", "within": "model"},
    ]
    slots = {"emb": [_slot("token_embedding", None, 5, 4)], "out": [_slot("lm_head", None, 4, 5)]}
    yield _resolve("path-outer-stack", "Where there is no such stack, the first is meant.", second, _CONFIG, slots)
    yield _two_stacks()
    twelve = {**_CONFIG, "depth": 12, "model_type": "own2"}
    slots = {"b.11.up": [_slot("mlp_up", 11, 4, 6)], "b.12.up": None}
    yield _resolve(
        "path-two-digits", "A layer of two digits, and another model type of the binder.", _own(), twelve, slots
    )


def _two_stacks() -> Case:
    """Return a case whose encoder is wider than its decoder."""
    binder = _own()
    (stack,) = binder["stacks"]
    encoder = {**stack, "name": "encoder", "path": "e.{layer}."}
    encoder["dimensions"] = {**stack["dimensions"], "hidden_size": ["wide"]}
    roles = ("cross_attention_query", "cross_attention_key", "cross_attention_value", "cross_attention_output")
    modules = [{"path": role, "roles": [role]} for role in roles]
    decoder = {**stack, "name": "decoder", "path": "d.{layer}.", "modules": modules}
    binder["stacks"] = [encoder, decoder]
    slots: Json = {
        "e.0.up": [_slot("mlp_up", 0, 8, 6, stack="encoder")],
        "d.0.cross_attention_query": [_slot("cross_attention_query", 0, 4, 4, stack="decoder")],
        "d.0.cross_attention_key": [_slot("cross_attention_key", 0, 8, 4, stack="decoder")],
        "d.0.cross_attention_value": [_slot("cross_attention_value", 0, 8, 4, stack="decoder")],
        "d.0.cross_attention_output": [_slot("cross_attention_output", 0, 4, 4, stack="decoder")],
    }
    return _resolve(
        "path-two-stacks", "Cross attention reads the encoder's width.", binder, {**_CONFIG, "wide": 8}, slots
    )


def _refused() -> Iterator[Case]:
    other = {**_CONFIG, "model_type": "foreign"}
    case_ = {**_CONFIG, "model_type": "Own"}
    yield _resolve(
        "refused-model-type",
        "A model type that the binder does not list.",
        _own(),
        other,
        "unknown-architecture",
        modules=("b.0.up",),
    )
    yield _resolve(
        "refused-model-type-case",
        "A model type is compared exactly.",
        _own(),
        case_,
        "unknown-architecture",
        modules=("b.0.up",),
    )
    configs: list[tuple[str, str, Any]] = [
        (
            "no-model-type",
            "A config without model_type.",
            {key: value for key, value in _CONFIG.items() if key != "model_type"},
        ),
        ("model-type-number", "A model_type that is no text.", {**_CONFIG, "model_type": 1}),
        ("config-list", "A config that is a list.", b"[]"),
        ("config-no-json", "A config that is no JSON.", b"{"),
        ("config-repeated", "A config with a name that stands twice.", b'{"model_type":"own","model_type":"own"}'),
        ("config-nan", "A config that holds NaN.", b'{"model_type":"own","width":NaN}'),
    ]
    for name, description, config in configs:
        yield _resolve(f"refused-{name}", description, _own(), config, "binder-data", modules=("b.0.up",))
    for name, description, binder in _bad_binders():
        yield _resolve(f"refused-{name}", description, binder, _CONFIG, "binder-data", modules=("b.0.up",))
    yield _resolve(
        "refused-binder-first",
        "A binder that is wrong is told before a config that is.",
        b"{}",
        b"{",
        "binder-data",
        modules=("b.0.up",),
    )


def _bad_binders() -> Iterator[tuple[str, str, Any]]:
    yield "binder-no-json", "A binder that is no JSON.", b"{"
    yield (
        "binder-repeated",
        "A binder with a name that stands twice.",
        b'{"binder_version":"1.0","binder_version":"1.0"}',
    )

    def changed(**fields: Any) -> Json:
        return {**copy.deepcopy(_own()), **fields}

    yield "binder-version", "A binder of another version.", changed(binder_version="2.0")
    yield "binder-unknown-field", "A field that a binder does not have.", changed(colour="red")
    yield "binder-no-classes", "A binder without a class.", changed(classes={})
    yield "binder-default-class", "A default class that the binder does not have.", changed(default_class="OtherModel")
    nameless = _own()
    del nameless["default_class"]
    yield "binder-no-default-class", "A binder without a default class.", nameless
    yield "binder-prefix", "A prefix that does not end in a dot.", changed(classes={"OwnModel": "model"})
    yield "binder-no-ways", "A number without a way.", _own(head_dim=[])
    yield "binder-negative", "A number that is negative.", _own(head_dim=[-2])
    yield (
        "binder-two-operators",
        "A way that is a quotient and a product.",
        _own(head_dim=[{"quotient": ["a", 2], "product": ["a", 2]}]),
    )
    yield "binder-three-operands", "A quotient of three.", _own(head_dim=[{"quotient": ["a", 2, 3]}])
    yield "binder-role", "A role that is not in the table.", _with_modules({"path": "up", "roles": ["mlp"]})
    fused = {"path": "qk", "roles": ["attention_query", "attention_key"]}
    yield "binder-fused-without-layout", "A fused module without a layout.", _with_modules(fused)
    yield "binder-layout", "A layout that is not known.", _with_modules({**fused, "layout": "striped"})
    yield (
        "binder-no-values",
        "A condition without a value.",
        _with_modules({**fused, "layout": "per_head", "when": {"field": "a", "values": []}}),
    )
    missing = _own()
    del missing["stacks"][0]["dimensions"]["head_dim"]
    yield "binder-no-head-dim", "A binder that does not say the width of a head.", missing
    path = _own()
    path["stacks"][0]["path"] = "b."
    yield "binder-path", "A path without a layer.", path
