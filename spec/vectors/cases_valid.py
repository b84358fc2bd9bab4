"""Files that every reader must take."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from spec.vectors.cases_blocks import block_files
from spec.vectors.craft import (
    ALL_DTYPES,
    Case,
    File,
    Tensor,
    case,
    digest,
    entry,
    floats,
    gpt2_base,
    legal,
    llama_base,
    neox_base,
    plain,
    t5_base,
    zeros,
)

__all__ = ["extra", "fused_gpt2", "fused_neox", "router", "valid_cases"]

_FACTOR_DTYPES = ("F16", "BF16", "F32", "F64")


def valid_cases() -> Iterator[Case]:
    """Yield every case whose file is legal."""
    rows = [*_dtypes(), *_layouts(), *_parts(), *_records(), *_edges(), *_remarks()]
    rows += [(name, description, file, ()) for name, description, file in block_files()]
    for name, description, file, warnings in rows:
        remarks = [{"code": code, "place": place} for code, place in warnings]
        yield case(f"valid-{name}", description, file.bytes(), {"valid": True, "faults": [], "warnings": remarks})


Row = tuple[str, str, File, tuple[tuple[str, str], ...]]


def extra(file: File, **tensors: Tensor) -> File:
    """Add extra tensors by the names they came under; a dot is written as two underscores."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    rows = [{"tensor": f"extra.{name}", "name": name} for name in sorted(named)]
    features = sorted({*file.manifest.get("features", []), "extra-tensors"})
    manifest = {**file.manifest, "extra": rows, "features": features}
    return File(manifest, {**file.tensors, **{f"extra.{name}": tensor for name, tensor in named.items()}})


def _dtypes() -> Iterator[Row]:
    for dtype in ALL_DTYPES:
        low = dtype.lower().replace("_", "-")
        if dtype in _FACTOR_DTYPES:
            file = legal(llama_base(), [entry("mlp_up", 4, 6)], dtype=dtype)
            yield f"factors-{low}", f"Factors may be stored as {dtype}.", file, ()
        yield f"extra-{low}", f"A tensor without a role may be {dtype}.", extra(plain(), w=zeros(dtype, 3)), ()


def _simple(architecture: str, *, bert: bool = False, gate: bool = True) -> File:
    prefix = "encoder.layer.0." if bert else "model.layers.0."
    names = (
        ("attention.self.key", "attention.output.dense", "attention.self.query", "attention.self.value")
        if bert
        else ("self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj")
    )
    heads = 4 if bert else 2
    entries = [
        entry("attention_key", 4, heads, source=prefix + names[0]),
        entry("attention_output", 4, 4, source=prefix + names[1]),
        entry("attention_query", 4, 4, source=prefix + names[2]),
        entry("attention_value", 4, heads, source=prefix + names[3]),
        entry("mlp_down", 6, 4, source=prefix + ("output.dense" if bert else "mlp.down_proj")),
        *([entry("mlp_gate", 4, 6, source=prefix + "mlp.gate_proj")] if gate else []),
        entry("mlp_up", 4, 6, source=prefix + ("intermediate.dense" if bert else "mlp.up_proj")),
    ]
    base = llama_base(architecture=architecture, model_type=architecture)
    if bert:
        base["stacks"][0]["num_key_value_heads"] = 2
    return legal(base, entries)


def fused_gpt2() -> File:
    """Return three contiguous slices of one fused module that share its lora_A."""
    shared = {"lora_A": "layers.0.attention_query.lora_A", "source": "transformer.h.0.attn.c_attn"}
    rows = {"attention_query": 0, "attention_key": 4, "attention_value": 8}
    return legal(
        gpt2_base(),
        [
            entry(role, 4, 4, **shared, slice={"offset": rows[role], "block": 4, "stride": 4, "count": 1})
            for role in sorted(rows)
        ],
    )


def fused_neox() -> File:
    """Return three per-head slices of one fused module that share its lora_A."""
    shared = {
        "lora_A": "layers.0.attention_query.lora_A",
        "source": "gpt_neox.layers.0.attention.query_key_value",
    }
    rows = {"attention_query": 0, "attention_key": 2, "attention_value": 4}
    return legal(
        neox_base(),
        [
            entry(role, 4, 4, **shared, slice={"offset": rows[role], "block": 2, "stride": 6, "count": 2})
            for role in sorted(rows)
        ],
    )


def _t5() -> File:
    return legal(
        t5_base(),
        [
            entry("attention_query", 4, 4, stack="decoder", source="decoder.block.0.layer.0.SelfAttention.q"),
            entry("cross_attention_key", 8, 4, stack="decoder", source="decoder.block.0.layer.1.EncDecAttention.k"),
            entry("cross_attention_output", 4, 4, stack="decoder", source="decoder.block.0.layer.1.EncDecAttention.o"),
            entry("cross_attention_query", 4, 4, stack="decoder", source="decoder.block.0.layer.1.EncDecAttention.q"),
            entry("cross_attention_value", 8, 4, stack="decoder", source="decoder.block.0.layer.1.EncDecAttention.v"),
            entry("attention_query", 8, 4, stack="encoder", source="encoder.block.0.layer.0.SelfAttention.q"),
            entry("mlp_up", 8, 6, layer=1, stack="encoder", source="encoder.block.1.layer.1.DenseReluDense.wi"),
        ],
    )


def _layouts() -> Iterator[Row]:
    for name in ("llama", "gemma3_text", "qwen2"):
        low = name.replace("_", "-")
        yield f"layout-{low}", f"The seven modules of a {name} block.", _simple(name), ()
    for name in ("bert", "roberta"):
        yield f"layout-{name}", f"The six modules of a {name} block.", _simple(name, bert=True, gate=False), ()
    yield "layout-gpt2", "Three roles of one fused module, one block of rows each.", fused_gpt2(), ()
    yield "layout-gpt-neox", "Three roles of one fused module, a block of rows for each head.", fused_neox(), ()
    yield "layout-t5", "Two stacks; cross attention reads what the encoder writes.", _t5(), ()
    outer = [entry("lm_head", 4, 5, layer=None), entry("token_embedding", 5, 4, layer=None)]
    yield "outer-roles", "Roles outside the blocks have no layer.", legal(llama_base(), outer), ()
    before = [*outer, entry("mlp_up", 4, 6)]
    yield "outer-roles-come-first", "Entries without a layer stand before layer 0.", legal(llama_base(), before), ()
    deep = legal(llama_base(), [entry("mlp_up", 4, 6, layer=0), entry("attention_key", 4, 2, layer=1)])
    yield "layer-before-role", "Entries are sorted by layer first, then by role.", deep, ()
    partial = fused_neox()
    del partial.manifest["entries"][2], partial.tensors["layers.0.attention_value.lora_B"]
    yield "fused-in-part", "The slices of a fused module need not cover its rows.", partial, ()
    lone = legal(
        gpt2_base(),
        [entry("attention_key", 4, 4, source="c_attn", slice={"offset": 4, "block": 4, "stride": 1, "count": 1})],
    )
    yield "slice-of-one-block", "With one block the stride has no effect.", lone, ()
    yield (
        "fused-in-two-layers",
        "Slices of two modules may be the same rows.",
        _same_rows(gpt2_base(), (0, 1), None),
        (),
    )
    both = _same_rows(t5_base(), (0,), "decoder", "encoder")
    yield "fused-in-two-stacks", "Slices of two stacks may be the same rows, under one name.", both, ()
    gone = fused_gpt2()
    del gone.manifest["entries"][1], gone.tensors["layers.0.attention_query.lora_B"]
    yield "fused-named-after-absent", "A shared lora_A may be named after a role that has no entry.", gone, ()
    one = {"source": "c_attn", "slice": {"offset": 3, "block": 4, "stride": 4, "count": 1}}
    named = legal(gpt2_base(), [entry("attention_key", 4, 4, lora_A="layers.0.mlp_up.lora_A", **one)])
    yield "slice-named-after-any-role", "The name may be any role of the table that is per layer.", named, ()
    own = fused_gpt2()
    for item in own.manifest["entries"]:
        item["lora_A"] = f"layers.0.{item['role']}.lora_A"
        own.tensors[item["lora_A"]] = floats(2, 4)
    yield "fused-with-own-factors", "Slices of one fused module need not share their lora_A.", own, ()


def _same_rows(base: dict[str, Any], layers: tuple[int, ...], *stacks: str | None) -> File:
    """Return slices of the same rows in several layers or stacks."""
    rows = {"offset": 0, "block": 4, "stride": 4, "count": 1}
    widths = {stack.get("name"): stack["hidden_size"] for stack in base["stacks"]}
    entries = [
        entry(
            "attention_query",
            widths[stack],
            4,
            layer=layer,
            source=f"{layer}.c_attn",
            slice=rows,
            **({"stack": stack} if stack else {}),
        )
        for stack in stacks
        for layer in layers
    ]
    return legal(base, entries)


def _ten_layers() -> File:
    base = llama_base()
    base["stacks"][0]["num_layers"] = 11
    return legal(base, [entry("mlp_up", 4, 6, layer=layer) for layer in (2, 10)])


def _parts() -> Iterator[Row]:
    yield "plain", "Two entries and nothing else.", plain(), ()
    dora = entry("mlp_up", 4, 6, magnitude="layers.0.mlp_up.magnitude")
    bias = entry("mlp_up", 4, 6, bias="layers.0.mlp_up.bias")
    both = {**dora, **bias}
    yield "dora", "An entry with a magnitude declares 'dora'.", legal(llama_base(), [dora], features=["dora"]), ()
    file = legal(llama_base(), [bias], features=["lora-bias"])
    yield "lora-bias", "An entry with a bias declares 'lora-bias'.", file, ()
    file = extra(legal(llama_base(), [both], features=["dora", "lora-bias"]), score__weight=floats(3))
    yield "every-feature", "All three features, sorted.", file, ()
    mixed = [entry("attention_query", 4, 4), dora]
    yield "dora-in-part", "Some entries have a magnitude.", legal(llama_base(), mixed, features=["dora"]), ()
    yield "extra-scalar", "An extra tensor may have no axis.", extra(plain(), temperature=floats()), ()
    yield "extra-empty", "An extra tensor may have no element.", extra(plain(), none=zeros("F32", 0, 4)), ()
    two = extra(plain(), a=zeros("F32", 0), b=zeros("F32", 0), c=zeros("F32", 1))
    yield "extra-two-empty", "Empty tensors at one place stand in the order of their names.", two, ()
    widths = extra(plain(), a=zeros("U8", 0), b=zeros("F64", 0), c=zeros("F32", 0, 2), d=zeros("I64", 0))
    yield "extra-empty-of-many-widths", "Empty tensors of several widths, each where its width belongs.", widths, ()
    last = extra(plain(), a=zeros("U8", 0), z=zeros("F32", 0))
    yield "extra-two-empty-at-the-end", "Two empty tensors at one place whose widths differ.", last, ()
    yield "extra-16-axes", "A tensor may have sixteen axes.", extra(plain(), deep=zeros("U8", *[1] * 16)), ()
    yield (
        "extra-long-name",
        "A tensor's name may have 1024 characters.",
        extra(plain(), **{"n" * 1018: zeros("U8", 1)}),
        (),
    )
    wide = extra(plain(), **{"😀": zeros("U8", 1), "\uff5e": zeros("U8", 2)})
    yield (
        "extra-name-order",
        "Header keys are ordered by UTF-16 code units, tensor data by code points; the two orders differ here.",
        wide,
        (),
    )
    odd = extra(plain(), bytes=zeros("U8", 3), words=zeros("I64", 1))
    yield "extra-mixed-widths", "Tensors with wider elements stand first.", odd, ()
    nan = extra(plain(), w=Tensor("F32", (2,), struct.pack("<2f", math.nan, math.inf)))
    yield "extra-not-finite", "Only the tensors of entries must be finite.", nan, ()
    huge = plain().with_tensors(layers__0__mlp_up__lora_B=Tensor("F32", (6, 2), struct.pack("<I", 0x7F7FFFFF) * 12))
    yield "largest-number", "The largest finite number is finite.", huge, ()
    for dtype, pattern in (("F16", "ff7b"), ("BF16", "7f7f"), ("F64", "ffffffffffffef7f")):
        most = legal(llama_base(), [entry("mlp_up", 4, 6)], dtype=dtype)
        most.tensors["layers.0.mlp_up.lora_B"] = Tensor(dtype, (6, 2), bytes.fromhex(pattern) * 12)
        yield f"largest-number-{dtype.lower()}", f"The largest finite {dtype} is finite.", most, ()
    zero = extra(plain(), none=Tensor("U8", (2**31, 2**31, 0), b""))
    yield "extra-large-before-zero", "A product within 63 bits before a zero.", zero, ()
    ranks = legal(llama_base(), [entry("attention_query", 4, 4, rank=3), entry("mlp_up", 4, 6, rank=1)])
    yield "ranks-differ", "Every entry has its own rank.", ranks, ()
    for name, number in (
        ("zero", 0),
        ("negative", -0.5),
        ("fraction", 0.1),
        ("small", 0.000001),
        ("smaller", 0.0000001),
        ("large", 123456789),
        ("larger", 1.5e21),
    ):
        file = legal(llama_base(), [entry("mlp_up", 4, 6, scaling=number)])
        yield f"scaling-{name}", f"The scaling may be {number}.", file, ()
    yield "layers-sort-as-numbers", "Layer 2 stands before layer 10.", _ten_layers(), ()


_BUILDER = {"name": "example", "version": "1.0"}
_MATERIAL = {"name": "source adapter", "digest": digest("source"), "uri": "https://example.org/source"}
_RESULT = {"metric": "accuracy", "value": 0.5, "n": 200, "data_digest": digest("data"), "arm": "adapter"}
_STATEMENTS: dict[str, dict[str, Any]] = {
    "projection": {
        "parameters": {
            "method": "svd",
            "layer_map": "relative",
            "layers": {"0": [0], "1": []},
            "rotary": "drop",
            "rank": 2,
            "seed": 0,
        },
        "materials": [_MATERIAL],
        "byproducts": {
            "kept": 0,
            "projected": 2,
            "dropped": 1,
            "dropped_because": {"no counterpart": 1},
            "energy_share": 0.25,
            "entries": {
                "layers.0.mlp_up": {
                    "source": "layers.0.mlp_up",
                    "energy_kept": 0.5,
                    "norm_ratio": 0.75,
                    "effective_rank": 1.5,
                }
            },
        },
    },
    "training": {
        "parameters": {"steps": 100, "batch_size": 4, "learning_rate": 0.001, "seed": -1, "max_length": 64},
        "byproducts": {"train_loss": 1.5, "tokens": 9000, "curve": [{"step": 0, "loss": 2.5}]},
    },
    "evaluation": {"byproducts": {"results": [_RESULT], "label": "works"}},
    "conversion": {
        "parameters": {"from_format": "peft", "to_format": "air"},
        "byproducts": {"lost": ["the optimiser's state"]},
    },
    "merge": {"parameters": {"method": "linear", "weights": [0.5, 0.5]}, "byproducts": {"energy_share": 1}},
    "distillation": {
        "parameters": {"method": "kl", "texts": 10, "steps": 5, "seed": 7, "warm_start": digest("warm")},
        "byproducts": {"held_out_loss": 0.25},
    },
}
_RELATIONS = ("trained_from", "converted_from", "projected_from", "distilled_from", "merged_from", "quantized_from")


def _records() -> Iterator[Row]:
    statements = [{"type": kind, "builder": _BUILDER, **body} for kind, body in _STATEMENTS.items()]
    for statement in statements:
        kind = statement["type"]
        yield f"provenance-{kind}", f"A provenance statement of type {kind}.", plain(provenance=[statement]), ()
    dated = {**statements[3], "created_at": "2026-01-02T03:04:05Z", "annotations": {"org.example.note": [1, None]}}
    yield "provenance-with-time", "A statement may have a time and annotations.", plain(provenance=[dated]), ()
    yield "provenance-of-every-type", "Six statements, in the order of events.", plain(provenance=statements), ()
    for relation in _RELATIONS:
        parents = [{"digest": digest("parent"), "relation": relation}]
        name = f"lineage-{relation.replace('_', '-')}"
        yield name, f"A parent by the relation {relation}.", plain(lineage={"parents": parents}), ()
    many = [{"digest": digest(str(index)), "relation": "merged_from"} for index in range(3)]
    yield "lineage-of-three", "Three parents.", plain(lineage={"parents": many}), ()
    origin = {
        "format": "peft",
        "config": {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "up_proj"], "lora_bias": None},
        "metadata": {"format": "pt"},
    }
    yield "origin", "The original configuration is kept as it came.", plain(origin=origin), ()
    labels = {
        "name": "triage",
        "description": "Sorts letters.\nBy urgency.",
        "domain": "medical",
        "license": "Apache-2.0",
        "languages": ["en", "de-AT"],
        "created_at": "2026-01-02T03:04:05.678Z",
        "tags": ["a", "stage=test"],
    }
    yield "labels", "Every label that a manifest may carry.", plain(**labels), ()
    names = {"name": "Ärzte-Übung 医療 😀", "description": 'quotes " \\ / and \u0001 \u007f \u2028'}
    yield "unicode-labels", "Labels may hold any text.", plain(**names), ()
    notes = {"org.example.note": {"b": [1, 2.5, True, None], "a": "text"}, "com.example.x_1.y-2": 0}
    yield "annotations", "Annotations may hold any value.", plain(annotations=notes), ()
    nested: Any = 1
    for _ in range(62):
        nested = [nested]
    yield (
        "deepest-annotation",
        "A manifest may be nested 64 levels deep.",
        plain(annotations={"org.example.deep": nested}),
        (),
    )
    keys = {"org.example.keys": {"\ue000": 1, "😀": 2, "a": 3, "Z": 4}}
    yield "annotation-key-order", "Keys are sorted by UTF-16 code units.", plain(annotations=keys), ()
    yield "router", "A router with two domains, one of them served by the base model.", router(), ()
    labelled = router()
    labelled.manifest |= {"name": "front desk", "annotations": {"org.example.note": 1}}
    labelled.manifest["domains"][0]["min_probability"] = 0.75
    yield "router-with-labels", "A router with labels and a threshold of a domain's own.", labelled, ()
    half = router(dtype="F16")
    yield "router-f16", "A router whose numbers are F16.", half, ()


def router(dtype: str = "F32") -> File:
    """Return a legal router of three clusters, two prototypes and two domains over embeddings of four numbers."""
    manifest = {
        "air_version": "1.0",
        "kind": "router",
        "encoder": {"id": "example/encoder", "config_digest": digest("encoder"), "dimension": 4, "is_normalized": True},
        "domains": [
            {"name": "law", "adapter": digest("law"), "examples": 20},
            {"name": "other", "examples": 40},
        ],
        "temperature": 1.5,
        "thresholds": {"max_distance": 0.75, "min_probability": 0.5, "min_margin": 0.125},
    }
    tensors = {
        "classifier.weight": floats(3, 4, dtype=dtype),
        "classifier.bias": floats(3, dtype=dtype),
        "classifier.domain": Tensor("I32", (3,), struct.pack("<3i", 0, 1, 1)),
        "prototypes.vector": floats(2, 4, dtype=dtype),
        "prototypes.domain": Tensor("I32", (2,), struct.pack("<2i", 0, 1)),
    }
    return File(manifest, tensors)


def _edges() -> Iterator[Row]:
    for rest in (0, 1, 63):
        file = _padded(rest)
        yield f"padding-{rest}", f"A header that is padded with {rest} spaces.", file, ()
    smallest = legal(llama_base(), [entry("mlp_up", 4, 6, rank=1)])
    for name in ("task_type",):
        del smallest.manifest["method"][name]
    yield "only-what-is-required", "No optional field at all but the base model's revision.", smallest, ()
    big = legal(llama_base(), [entry("mlp_up", 4, 6)])
    big.manifest["base_model"]["stacks"][0].update(num_attention_heads=2**31 - 1, num_layers=2**31 - 1)
    yield "largest-size", "A size may be 2147483647.", big, ()
    method = {"dropout": 0.05, "bias": "lora_only", "scaling_rule": "alpha/sqrt(rank)", "alpha": -1.5}
    file = plain()
    file.manifest["method"].update(method)
    yield "method", "How the adapter was trained is a record and changes nothing.", file, ()


def _padded(rest: int) -> File:
    """Return a file whose header needs exactly ``rest`` spaces."""
    for length in range(1, 65):
        file = plain(name="n" * length)
        raw = file.bytes()
        header = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
        if len(header) - len(header.rstrip(b" ")) == rest:
            return file
    raise AssertionError("64 lengths give every padding")


_NEWER = ("newer-version", "manifest.air_version")
_UNPINNED = ("unpinned-base", "manifest.base_model.revision")
_RESIZED = (("dimension", "lm_head"), ("dimension", "token_embedding"))


def _remarks() -> Iterator[Row]:
    free = plain()
    del free.manifest["base_model"]["revision"]
    yield "unpinned-base", "A base model without a commit is legal, and worth a remark.", free, (_UNPINNED,)
    yield "newer-minor", "A higher minor version is read, with a remark.", plain(air_version="1.1"), (_NEWER,)
    fields = plain(air_version="1.7", colour="red")
    fields.manifest["entries"][0]["shade"] = 3
    fields.manifest["base_model"]["stacks"][0]["window"] = {"size": 4}
    yield "newer-minor-fields", "A higher minor may bring fields.", fields, (_NEWER,)
    far = router()
    far.manifest |= {"air_version": "1.999999999", "mood": "calm"}
    yield "newer-minor-router", "A router of a higher minor is read, too.", far, (_NEWER,)
    resized = [entry("lm_head", 4, 9, layer=None), entry("token_embedding", 9, 4, layer=None)]
    yield "resized-vocabulary", "A vocabulary may have been resized.", legal(llama_base(), resized), _RESIZED
    all_three = legal(llama_base(), resized, air_version="1.2")
    del all_three.manifest["base_model"]["revision"]
    yield "three-remarks", "Remarks do not hide one another.", all_three, (_NEWER, *_RESIZED, _UNPINNED)
