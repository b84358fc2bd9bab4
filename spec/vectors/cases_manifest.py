"""Files whose container is sound and whose manifest is not."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

from spec.vectors.cases_blocks import block_faults
from spec.vectors.cases_valid import extra, fused_gpt2, fused_neox, router
from spec.vectors.craft import (
    Case,
    File,
    Tensor,
    canonical,
    case,
    digest,
    entry,
    floats,
    legal,
    llama_base,
    plain,
    t5_base,
    zeros,
)

__all__ = ["manifest_cases"]

Row = tuple[str, str, bytes, str, str]
Change = Callable[[dict[str, Any]], Any]

_QUERY, _KEY, _UP = "layers.0.attention_query", "layers.0.attention_key", "layers.0.mlp_up"


def manifest_cases() -> Iterator[Case]:
    """Yield every case whose first fault is one of the manifest."""
    rows = [
        *_text(),
        *_versions(),
        *_digests(),
        *_schema(),
        *_tensors(),
        *_places(),
        *_shapes(),
        *_slices(),
        *_features(),
        *_routers(),
        *block_faults(),
    ]
    for name, description, data, code, place in rows:
        # Validators of JSON Schema differ in which fault they see first, and where.
        fault = {"code": code} if code == "schema" else {"code": code, "place": place}
        yield case(f"manifest-{name}", description, data, {"valid": False, "faults": [fault], "warnings": []})
    newer = {"code": "newer-version", "place": "manifest.air_version"}
    for name, description, change in _newer():
        expected = {"valid": False, "faults": [{"code": "schema"}], "warnings": [newer]}
        yield case(f"manifest-newer-{name}", description, plain(air_version="1.9").changed(change).bytes(), expected)


def _newer() -> Iterator[tuple[str, str, Change]]:
    """Yield what a higher minor version does not excuse; its remark comes first."""
    yield "role", "A higher minor may bring fields, not roles.", _set(1, role="mlp")
    yield "missing", "A higher minor does not take a field away.", lambda m: m.pop("method")
    yield "kind", "A higher minor with another kind.", lambda m: m.update(kind="Additional properties")


def _text() -> Iterator[Row]:
    file = plain()
    good = canonical(file.sealed())
    deep = "[" * 64 + "]" * 64
    rows = [
        ("empty", "A manifest of no characters.", "", "not-json"),
        ("unclosed", "A manifest that does not end.", good[:-1], "not-json"),
        ("nan", "NaN in a manifest.", good.replace('"alpha":4', '"alpha":NaN'), "not-json"),
        ("number-too-large", "A number beyond every double.", good.replace('"alpha":4', '"alpha":1e999'), "not-json"),
        ("lone-surrogate", "An escaped surrogate without its pair.", good.replace("CAUSAL_LM", "\\udc00"), "not-json"),
        (
            "repeated-name",
            "A field that stands twice.",
            good.replace('"rank":2,', '"rank":2,"rank":2,', 1),
            "repeated-key",
        ),
        (
            "repeated-by-escape",
            "A field and its escaped form are one field.",
            good.replace('"rank":2,', '"r\\u0061nk":3,"rank":2,', 1),
            "repeated-key",
        ),
        ("too-deep", "A manifest nested 65 levels deep.", f'{{"annotations":{deep}}}', "too-deep"),
        ("spaced", "A space between tokens.", good.replace('"rank":2', '"rank": 2', 1), "not-canonical"),
        ("space-after", "A space at the end.", good + " ", "not-canonical"),
        ("number-2.0", "A number written as 2.0.", good.replace('"rank":2', '"rank":2.0', 1), "not-canonical"),
        ("number-2e0", "A number written as 2e0.", good.replace('"rank":2', '"rank":2e0', 1), "not-canonical"),
        ("number-minus-zero", "A number written as -0.", good.replace('"dropout":0', '"dropout":-0'), "not-canonical"),
        (
            "escaped-slash",
            "A slash that is escaped.",
            good.replace("example/tiny", "example\\/tiny", 1),
            "not-canonical",
        ),
        ("escaped-letter", "A letter that is escaped.", good.replace("tiny", "t\\u0069ny", 1), "not-canonical"),
    ]
    for name, description, text, code in rows:
        assert text != good
        place = "manifest" if code == "not-canonical" else ""  # what cannot be read has no places
        yield name, description, file.bytes(text), code, place
    backwards = json.dumps(dict(sorted(file.sealed().items(), reverse=True)), separators=(",", ":"))
    yield "unsorted-keys", "A manifest whose keys are not sorted.", file.bytes(backwards), "not-canonical", "manifest"
    keyed = plain(annotations={"org.example.keys": {"\ue000": 1, "😀": 2}})
    by_points = json.dumps(keyed.sealed(), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert by_points != canonical(keyed.sealed())
    yield (
        "keys-by-code-points",
        "Keys are sorted by UTF-16 code units, not by code points.",
        keyed.bytes(by_points),
        "not-canonical",
        "manifest",
    )
    for name, text in (("array", "[]"), ("number", "1"), ("text", '"air"'), ("null", "null"), ("nothing", "{}")):
        yield f"is-{name}", f"A manifest that is {text}.", file.bytes(text), "schema", ""


def _versions() -> Iterator[Row]:
    place = "manifest.air_version"
    for name, version in (("2-0", "2.0"), ("0-9", "0.9"), ("10-0", "10.0")):
        yield f"version-{name}", f"Version {version}.", plain(air_version=version).bytes(), "unsupported-version", place
    unknown = plain(air_version="2.0", colour="red")
    yield (
        "version-before-fields",
        "Another major is refused before its fields are looked at.",
        unknown.bytes(),
        "unsupported-version",
        place,
    )
    yield (
        "router-version",
        "A router of another major.",
        File({**router().manifest, "air_version": "3.1"}, router().tensors).bytes(),
        "unsupported-version",
        place,
    )
    for name, text in (
        ("word", "one"),
        ("number", 1),
        ("major-only", "1"),
        ("three-parts", "1.0.0"),
        ("leading-zero", "1.00"),
        ("ten-digits", "1.1234567890"),
    ):
        yield f"version-{name}", "A version that is not major.minor.", plain(air_version=text).bytes(), "schema", place
    warp = plain(features=["warp"])
    yield (
        "unknown-feature",
        "A feature that this version does not know.",
        warp.bytes(),
        "unknown-feature",
        "manifest.features",
    )
    dora = legal(llama_base(), [entry("mlp_up", 4, 6, magnitude=f"{_UP}.magnitude")], features=["dora", "warp"])
    yield (
        "unknown-feature-beside-known",
        "An unknown feature beside one that is known.",
        dora.bytes(),
        "unknown-feature",
        "manifest.features",
    )


def _digests() -> Iterator[Row]:
    file = plain(name="triage")
    changed = canonical(file.sealed()).replace('"triage"', '"trials"')
    place = "manifest.manifest_digest"
    yield "changed", "A manifest that was changed after it was sealed.", file.bytes(changed), "manifest-digest", place
    wrong = canonical({**file.sealed(), "manifest_digest": digest("other")})
    yield "wrong-digest", "The digest of something else.", file.bytes(wrong), "manifest-digest", place
    claimed = plain(tensor_digest=digest("other"))
    yield (
        "wrong-tensor-digest",
        "The tensor digest of something else.",
        claimed.bytes(),
        "tensor-digest",
        "manifest.tensor_digest",
    )
    data = bytearray(plain().bytes())
    data[-1] ^= 1
    yield (
        "changed-tensor",
        "A tensor whose last bit was changed.",
        bytes(data),
        "tensor-digest",
        "manifest.tensor_digest",
    )
    for name, number in (("nan", math.nan), ("infinity", math.inf), ("minus-infinity", -math.inf)):
        bad = plain().with_tensors(
            layers__0__mlp_up__lora_B=Tensor("F32", (6, 2), struct.pack("<12f", *[1] * 11, number))
        )
        yield f"factor-{name}", f"A factor that holds {number}.", bad.bytes(), "non-finite", f"{_UP}.lora_B"
    for dtype, pattern in (("F16", b"\x00\x7c"), ("BF16", b"\x80\xff"), ("F64", b"\0\0\0\0\0\0\xf0\x7f")):
        file = legal(llama_base(), [entry("mlp_up", 4, 6)], dtype=dtype)
        whole = file.tensors[f"{_UP}.lora_A"]
        file.tensors[f"{_UP}.lora_A"] = Tensor(dtype, whole.shape, whole.data[: -len(pattern)] + pattern)
        yield (
            f"factor-infinity-{dtype.lower()}",
            f"An infinity in {dtype}.",
            file.bytes(),
            "non-finite",
            f"{_UP}.lora_A",
        )
    dora = legal(llama_base(), [entry("mlp_up", 4, 6, magnitude=f"{_UP}.magnitude")], features=["dora"])
    dora.tensors[f"{_UP}.magnitude"] = Tensor("F32", (6,), struct.pack("<6f", math.nan, *[1] * 5))
    yield "magnitude-nan", "A magnitude that holds NaN.", dora.bytes(), "non-finite", f"{_UP}.magnitude"


def _set(index: int, **fields: Any) -> Change:
    return lambda manifest: manifest["entries"][index].update(fields)


def _schema() -> Iterator[Row]:
    statement = {"type": "merge", "builder": {"name": "example", "version": "1"}, "parameters": {"method": "linear"}}
    rows: list[tuple[str, str, Change]] = [
        *(
            (f"without-{key.replace('_', '-')}", f"A manifest without {key}.", lambda m, key=key: m.pop(key))
            for key in ("air_version", "kind", "base_model", "method", "entries")
        ),
        ("kind-unknown", "A kind that is neither adapter nor router.", lambda m: m.update(kind="tokenizer")),
        ("unknown-field", "A field that this version does not know.", lambda m: m.update(colour="red")),
        ("no-entries", "An adapter without an entry.", lambda m: m.update(entries=[])),
        ("rank-zero", "A rank of zero.", _set(1, rank=0)),
        ("rank-fraction", "A rank of two and a half.", _set(1, rank=2.5)),
        ("rank-boolean", "A rank that is true.", _set(1, rank=True)),
        ("rank-too-large", "A rank beyond 2147483647.", _set(1, rank=2**31)),
        ("role-unknown", "A role that is not in the table.", _set(1, role="mlp")),
        ("layer-negative", "A layer before the first.", _set(1, layer=-1)),
        ("scaling-text", "A scaling that is text.", _set(1, scaling="2")),
        ("entry-unknown-field", "A field of an entry that this version does not know.", _set(1, shade=3)),
        ("entry-null-field", "An absent field is left out, not null.", _set(1, stack=None)),
        ("stack-unknown-name", "A stack that is neither encoder nor decoder.", _set(1, stack="middle")),
        ("slice-without-count", "A slice that lacks a number.", _set(1, slice={"offset": 0, "block": 6, "stride": 6})),
        ("digest-form", "A digest of another algorithm.", lambda m: m["base_model"].update(config_digest="md5:0")),
        (
            "digest-upper-case",
            "A digest in capitals.",
            lambda m: m["base_model"].update(config_digest="sha256:" + "A" * 64),
        ),
        ("no-stacks", "A base model without a stack.", lambda m: m["base_model"].update(stacks=[])),
        (
            "architecture-form",
            "An architecture with a capital.",
            lambda m: m["base_model"].update(architecture="Llama"),
        ),
        ("dropout-too-large", "A dropout above one.", lambda m: m["method"].update(dropout=1.5)),
        ("method-unknown", "A method that is not LoRA.", lambda m: m["method"].update(type="ia3")),
        ("scaling-rule-unknown", "A scaling rule of its own.", lambda m: m["method"].update(scaling_rule="alpha")),
        (
            "annotation-key",
            "An annotation whose key is no reverse domain name.",
            lambda m: m.update(annotations={"note": 1}),
        ),
        ("annotations-empty", "What is empty is left out.", lambda m: m.update(annotations={})),
        ("tags-empty", "An empty list is left out.", lambda m: m.update(tags=[])),
        ("name-empty", "An empty label is left out.", lambda m: m.update(name="")),
        ("time-without-zone", "A time that is not in UTC.", lambda m: m.update(created_at="2026-01-02T03:04:05+01:00")),
        (
            "relation-unknown",
            "A relation that is not in the list.",
            lambda m: m.update(lineage={"parents": [{"digest": digest("p"), "relation": "made_from"}]}),
        ),
        (
            "parent-twice",
            "A parent that stands twice.",
            lambda m: m.update(lineage={"parents": [{"digest": digest("p"), "relation": "merged_from"}] * 2}),
        ),
        (
            "statement-unknown",
            "A statement of an unknown type.",
            lambda m: m.update(provenance=[{**statement, "type": "guess"}]),
        ),
        (
            "statement-mixed",
            "A statement with the parameters of another type.",
            lambda m: m.update(provenance=[{**statement, "type": "training"}]),
        ),
        (
            "statement-without-type",
            "A statement without a type.",
            lambda m: m.update(provenance=[{"builder": statement["builder"]}]),
        ),
        (
            "statement-without-builder",
            "A statement that does not say who made it.",
            lambda m: m.update(provenance=[{"type": "merge", "parameters": {"method": "linear"}}]),
        ),
        *_other_types(),
        ("features-twice", "A feature that stands twice.", lambda m: m.update(features=["dora", "dora"])),
        (
            "origin-unknown",
            "An origin of an unknown format.",
            lambda m: m.update(origin={"format": "gguf", "config": {}}),
        ),
    ]
    for name, description, change in rows:
        yield name, description, plain().changed(change).bytes(), "schema", ""


def _other_types() -> Iterator[tuple[str, str, Change]]:
    """Yield values of another JSON type than the property has; in some languages these are equal to what it may be."""
    rows: list[tuple[str, Change]] = [
        ("layer-false", _set(1, layer=False)),
        ("expert-false", _set(1, expert=False)),
        ("in-features-text", _set(1, in_features="4")),
        ("scaling-true", _set(1, scaling=True)),
        ("offset-false", _set(1, slice={"offset": False, "block": 6, "stride": 6, "count": 1})),
        ("count-true", _set(1, slice={"offset": 0, "block": 6, "stride": 6, "count": True})),
        ("dora-zero", lambda m: m["method"].update(dora=0)),
        ("dora-one", lambda m: m["method"].update(dora=1)),
        ("dora-text", lambda m: m["method"].update(dora="false")),
        ("dropout-false", lambda m: m["method"].update(dropout=False)),
        ("alpha-true", lambda m: m["method"].update(alpha=True)),
        ("bias-false", lambda m: m["method"].update(bias=False)),
        ("kind-true", lambda m: m.update(kind=True)),
        ("kind-list", lambda m: m.update(kind=["adapter"])),
        ("role-list", _set(1, role=["mlp_up"])),
        ("vocabulary-true", lambda m: m["base_model"].update(vocab_size=True)),
        ("heads-null", lambda m: m["base_model"]["stacks"][0].update(head_dim=None)),
        ("experts-true", lambda m: m["base_model"]["stacks"][0].update(num_experts=True)),
        ("statement-type-true", lambda m: m.update(provenance=[{"type": True, "builder": {"name": "a"}}])),
        ("relation-number", lambda m: m.update(lineage={"parents": [{"digest": digest("p"), "relation": 1}]})),
    ]
    for name, change in rows:
        yield f"type-{name}", "A value of another type than its property has.", change


def _tensors() -> Iterator[Row]:
    absent = plain()
    del absent.tensors[f"{_UP}.lora_B"]
    yield (
        "missing-tensor",
        "An entry whose factor is not in the file.",
        absent.bytes(),
        "missing-tensor",
        f"{_UP}.lora_B",
    )
    gone = extra(plain(), w=zeros("U8", 1))
    del gone.tensors["extra.w"]
    yield "missing-extra", "An extra tensor that is not in the file.", gone.bytes(), "missing-tensor", "extra.w"
    fewer = plain().changed(lambda m: m["entries"].pop())
    yield "unnamed-tensor", "Factors that no entry names.", fewer.bytes(), "unnamed-tensor", f"{_UP}.lora_A"
    more = plain().with_tensors(extra__w=zeros("U8", 1))
    yield "unnamed-extra", "An extra tensor that the manifest does not name.", more.bytes(), "unnamed-tensor", "extra.w"
    renamed = plain().changed(_set(1, lora_B="layers.0.mlp_up.lora_b"))
    renamed.tensors["layers.0.mlp_up.lora_b"] = renamed.tensors.pop(f"{_UP}.lora_B")
    yield "factor-name-case", "A factor's name is exact.", renamed.bytes(), "tensor-name", "layers.0.mlp_up.lora_b"
    for name, text in (
        ("other-layer", "layers.1.mlp_up.lora_B"),
        ("other-role", "layers.0.mlp_down.lora_B"),
        ("other-factor", "layers.0.mlp_up.bias"),
        ("other-stack", "decoder.layers.0.mlp_up.lora_B"),
        ("leading-zero", "layers.00.mlp_up.lora_B"),
        ("free", "weights"),
    ):
        other = plain().changed(_set(1, lora_B=text))
        other.tensors[text] = other.tensors.pop(f"{_UP}.lora_B")
        yield f"name-of-{name}", "A factor is named after its own entry.", other.bytes(), "tensor-name", text
    file = extra(plain(), w=zeros("U8", 1)).changed(lambda m: m["extra"][0].update(name="v"))
    yield (
        "name-of-extra",
        "An extra tensor is named after the name it came under.",
        file.bytes(),
        "tensor-name",
        "extra.w",
    )
    bare = extra(plain(), w=zeros("U8", 1)).changed(lambda m: m["extra"][0].update(tensor="w"))
    bare.tensors["w"] = bare.tensors.pop("extra.w")
    two = extra(plain(), a=zeros("U8", 1), b=zeros("U8", 1))
    swapped = two.changed(lambda m: m["extra"].reverse())
    yield "extra-unsorted", "Extra tensors out of order.", swapped.bytes(), "unsorted-extra", "manifest.extra"
    again = two.changed(lambda m: m["extra"].insert(1, m["extra"][0]))
    yield "extra-repeated", "An extra tensor that stands twice.", again.bytes(), "repeated-extra", "extra.a"
    apart = two.changed(lambda m: m["extra"].append(m["extra"][0]))
    yield "extra-repeated-apart", "A repeated one is told before the order.", apart.bytes(), "repeated-extra", "extra.a"
    wide = extra(plain(), **{"😀": zeros("U8", 1), "\uff5e": zeros("U8", 1)}).changed(lambda m: m["extra"].reverse())
    yield (
        "extra-by-utf-16",
        "Extra tensors are sorted by code points, not by UTF-16 code units.",
        wide.bytes(),
        "unsorted-extra",
        "manifest.extra",
    )
    yield "name-without-extra", "The name of an extra tensor starts with 'extra.'.", bare.bytes(), "tensor-name", "w"


def _places() -> Iterator[Row]:
    twice = plain().changed(lambda m: m["entries"].append(m["entries"][1]))
    yield "repeated-entry", "Two entries of one place.", twice.bytes(), "repeated-entry", _UP
    backwards = plain().changed(lambda m: m["entries"].reverse())
    yield "unsorted-entries", "Entries that are not sorted.", backwards.bytes(), "unsorted-entries", "manifest.entries"
    layers = legal(llama_base(), [entry("attention_key", 4, 2, layer=1), entry("mlp_up", 4, 6, layer=0)])
    yield "unsorted-layers", "Layer 1 before layer 0.", layers.bytes(), "unsorted-entries", "manifest.entries"
    stacks = legal(t5_base(), [entry("mlp_up", 8, 6, stack="encoder"), entry("mlp_up", 4, 6, stack="decoder")])
    yield (
        "unsorted-stacks",
        "Stacks are sorted by name: decoder before encoder.",
        stacks.bytes(),
        "unsorted-entries",
        "manifest.entries",
    )
    place = "manifest.base_model.stacks"
    for name, names in (
        ("only-encoder", ("encoder",)),
        ("two-unnamed", (None, None)),
        ("unnamed-and-encoder", (None, "encoder")),
        ("decoder-first", ("decoder", "encoder")),
        ("encoder-twice", ("encoder", "encoder")),
    ):
        (stack,) = llama_base()["stacks"]
        base = llama_base(stacks=[{**stack, **({"name": item} if item else {})} for item in names])
        on = {"stack": names[0]} if names[0] else {}
        yield (
            f"stacks-{name}",
            "A base model has one stack without a name, or encoder and decoder.",
            legal(base, [entry("mlp_up", 4, 6, **on)]).bytes(),
            "stacks",
            place,
        )
    lost = legal(llama_base(), [entry("mlp_up", 4, 6, stack="encoder")])
    yield "unknown-stack", "A stack that the base model does not have.", lost.bytes(), "unknown-stack", f"encoder.{_UP}"
    unnamed = legal(t5_base(), [entry("mlp_up", 4, 6)])
    yield "unknown-stack-unnamed", "No stack, where there are two.", unnamed.bytes(), "unknown-stack", _UP
    high = legal(llama_base(), [entry("mlp_up", 4, 6, layer=2)])
    yield "layer-after-last", "Layer 2 of a model of two layers.", high.bytes(), "layer-range", "layers.2.mlp_up"
    none = legal(llama_base(), [entry("mlp_up", 4, 6, layer=None)])
    yield "layer-missing", "A role of the blocks without a layer.", none.bytes(), "layer-range", "mlp_up"
    outer = legal(llama_base(), [entry("lm_head", 4, 5, layer=0)])
    yield "layer-too-much", "A role outside the blocks with a layer.", outer.bytes(), "layer-range", "layers.0.lm_head"


def _shapes() -> Iterator[Row]:
    rank = plain().changed(_set(1, rank=3))
    yield "rank-differs", "A rank that the factors do not have.", rank.bytes(), "shape", f"{_UP}.lora_A"
    swapped = plain().with_tensors(layers__0__mlp_up__lora_A=floats(4, 2))
    yield "lora-a-transposed", "lora_A stored as (in, rank).", swapped.bytes(), "shape", f"{_UP}.lora_A"
    swapped = plain().with_tensors(layers__0__mlp_up__lora_B=floats(2, 6))
    yield "lora-b-transposed", "lora_B stored as (rank, out).", swapped.bytes(), "shape", f"{_UP}.lora_B"
    flat = plain().with_tensors(layers__0__mlp_up__lora_B=floats(12))
    yield "lora-b-flat", "lora_B with one axis.", flat.bytes(), "shape", f"{_UP}.lora_B"
    dora = legal(llama_base(), [entry("mlp_up", 4, 6, magnitude=f"{_UP}.magnitude")], features=["dora"])
    dora.tensors[f"{_UP}.magnitude"] = floats(6, 1)
    yield "magnitude-two-axes", "A magnitude has one axis.", dora.bytes(), "shape", f"{_UP}.magnitude"
    bias = legal(llama_base(), [entry("mlp_up", 4, 6, bias=f"{_UP}.bias")], features=["lora-bias"])
    bias.tensors[f"{_UP}.bias"] = floats(5)
    yield "bias-too-short", "A bias has out_features numbers.", bias.bytes(), "shape", f"{_UP}.bias"
    for dtype in ("I32", "U8", "F8_E4M3", "C64"):
        whole = plain().with_tensors(layers__0__mlp_up__lora_A=zeros(dtype, 2, 4))
        yield (
            f"factor-{dtype.lower().replace('_', '-')}",
            f"A factor may not be {dtype}.",
            whole.bytes(),
            "factor-dtype",
            f"{_UP}.lora_A",
        )
    for name, role, width_in, width_out in (
        ("in", "mlp_up", 5, 6),
        ("out", "mlp_up", 4, 7),
        ("query", "attention_query", 4, 2),
        ("key", "attention_key", 4, 4),
        ("output", "attention_output", 2, 4),
        ("down", "mlp_down", 4, 6),
    ):
        file = legal(llama_base(), [entry(role, width_in, width_out)])
        yield (
            f"dimension-{name}",
            "Features follow from the role and the base model.",
            file.bytes(),
            "dimension",
            f"layers.0.{role}",
        )
    cross = legal(t5_base(), [entry("cross_attention_key", 4, 4, stack="decoder")])
    yield (
        "dimension-cross",
        "Cross attention reads the encoder's width.",
        cross.bytes(),
        "dimension",
        "decoder.layers.0.cross_attention_key",
    )
    head = legal(llama_base(), [entry("lm_head", 6, 5, layer=None)])
    yield "dimension-lm-head", "Only the vocabulary may have been resized.", head.bytes(), "dimension", "lm_head"


def _slices() -> Iterator[Row]:
    shared = plain().changed(_set(1, lora_A=f"{_QUERY}.lora_A"))
    del shared.tensors[f"{_UP}.lora_A"]
    yield (
        "shared-without-slice",
        "Only slices may be named after another entry.",
        shared.bytes(),
        "tensor-name",
        f"{_QUERY}.lora_A",
    )
    elsewhere = fused_gpt2().changed(_set(0, source="transformer.h.1.attn.c_attn"))
    yield (
        "shared-factor",
        "Entries that share a factor come from one module.",
        elsewhere.bytes(),
        "shared-factor",
        _QUERY,
    )
    nowhere = fused_gpt2().changed(lambda m: m["entries"][1].pop("source"))
    yield "slice-without-source", "A slice says which module it is of.", nowhere.bytes(), "schema", ""
    other = fused_gpt2().changed(
        lambda m: [item.update(lora_A="layers.1.attention_query.lora_A") for item in m["entries"]]
    )
    other.tensors["layers.1.attention_query.lora_A"] = other.tensors.pop(f"{_QUERY}.lora_A")
    yield (
        "shared-other-layer",
        "A shared factor is named after an entry of the same layer.",
        other.bytes(),
        "tensor-name",
        "layers.1.attention_query.lora_A",
    )
    for name, text, description in (
        ("unknown-role", "layers.0.attention_all.lora_A", "A shared factor is named after a role of the table."),
        ("outer-role", "layers.0.lm_head.lora_A", "A shared factor of a block is named after a role of the blocks."),
        ("no-layer", "attention_query.lora_A", "A shared factor of a block is named with its layer."),
        ("other-factor", f"{_QUERY}.lora_B2", "A shared factor is named lora_A."),
        ("stack", f"decoder.{_QUERY}.lora_A", "A shared factor is named with the stack of its entry."),
        ("expert", f"{_UP}.experts.0.lora_A", "A shared factor is named with the expert of its entry."),
    ):
        other = fused_gpt2().changed(lambda m, text=text: [item.update(lora_A=text) for item in m["entries"]])
        other.tensors[text] = other.tensors.pop(f"{_QUERY}.lora_A")
        yield f"shared-named-with-{name}", description, other.bytes(), "tensor-name", text
    inner = legal(
        llama_base(),
        [
            entry(
                "lm_head",
                4,
                5,
                layer=None,
                source="lm_head",
                slice={"offset": 0, "block": 5, "stride": 5, "count": 1},
                lora_A="attention_query.lora_A",
            )
        ],
    )
    yield (
        "shared-named-after-inner-role",
        "A shared factor outside the blocks is named after a role outside them.",
        inner.bytes(),
        "tensor-name",
        "attention_query.lora_A",
    )
    own = fused_gpt2().changed(_set(0, lora_B=f"{_QUERY}.lora_B"))
    del own.tensors[f"{_KEY}.lora_B"]
    yield "shared-lora-b", "Only lora_A may be shared.", own.bytes(), "tensor-name", f"{_QUERY}.lora_B"
    slices = (
        (
            "rows",
            fused_gpt2,
            {"offset": 4, "block": 3, "stride": 4, "count": 1},
            "A slice that holds other than out_features rows.",
        ),
        ("one-row", fused_gpt2, {"offset": 7, "block": 4, "stride": 4, "count": 1}, "Two slices share one row."),
        (
            "equal",
            fused_gpt2,
            {"offset": 8, "block": 4, "stride": 4, "count": 1},
            "Of two equal slices the second is at fault.",
        ),
        ("overlap", fused_gpt2, {"offset": 6, "block": 4, "stride": 4, "count": 1}, "Two slices share rows."),
        ("same-rows", fused_neox, {"offset": 0, "block": 2, "stride": 6, "count": 2}, "Two slices are the same rows."),
        (
            "interleaved",
            fused_neox,
            {"offset": 1, "block": 2, "stride": 6, "count": 2},
            "Interleaved slices share rows.",
        ),
        (
            "self-overlap",
            fused_neox,
            {"offset": 12, "block": 2, "stride": 1, "count": 2},
            "The blocks of a slice share rows.",
        ),
    )
    for name, make, rows, description in slices:
        last = dict.fromkeys(("overlap", "one-row", "equal"), "layers.0.attention_value")
        place = {**last, "same-rows": _QUERY}.get(name, _KEY)
        yield f"slice-{name}", description, make().changed(_set(0, slice=rows)).bytes(), "slice", place


def _features() -> Iterator[Row]:
    place = "manifest.features"
    magnitude, bias = f"{_UP}.magnitude", f"{_UP}.bias"
    rows = [
        (
            "dora-undeclared",
            "A magnitude that is not declared.",
            legal(llama_base(), [entry("mlp_up", 4, 6, magnitude=magnitude)]),
        ),
        ("bias-undeclared", "A bias that is not declared.", legal(llama_base(), [entry("mlp_up", 4, 6, bias=bias)])),
        (
            "extra-undeclared",
            "Extra tensors that are not declared.",
            extra(plain(), w=zeros("U8", 1)).changed(lambda m: m.pop("features")),
        ),
        ("dora-unused", "A feature that is not used.", plain(features=["dora"])),
        (
            "unsorted",
            "Features that are not sorted.",
            legal(
                llama_base(), [entry("mlp_up", 4, 6, magnitude=magnitude, bias=bias)], features=["lora-bias", "dora"]
            ),
        ),
        (
            "one-of-two",
            "One of two features is declared.",
            legal(llama_base(), [entry("mlp_up", 4, 6, magnitude=magnitude, bias=bias)], features=["dora"]),
        ),
    ]
    for name, description, file in rows:
        yield f"features-{name}", description, file.bytes(), "features", place


def _routers() -> Iterator[Row]:
    reversed_ = router().changed(lambda m: m["domains"].reverse())
    yield "router-domains-unsorted", "Domains are sorted by name.", reversed_.bytes(), "domains", "manifest.domains"
    twice = router().changed(lambda m: m["domains"][1].update(name="law"))
    yield "router-domains-repeated", "Domains have distinct names.", twice.bytes(), "domains", "manifest.domains"
    absent = router()
    del absent.tensors["prototypes.vector"]
    yield (
        "router-missing-tensor",
        "A router without its prototypes.",
        absent.bytes(),
        "missing-tensor",
        "prototypes.vector",
    )
    more = router().with_tensors(extra__w=zeros("U8", 1))
    yield "router-unnamed-tensor", "A tensor that no router has.", more.bytes(), "unnamed-tensor", "extra.w"
    narrow = router().with_tensors(classifier__weight=floats(3, 5))
    yield (
        "router-dimension",
        "A classifier of another width than the encoder's.",
        narrow.bytes(),
        "shape",
        "classifier.weight",
    )
    empty = {name: zeros("F32", 0, *([4] if name == "weight" else [])) for name in ("weight", "bias")}
    none = router().with_tensors(
        classifier__weight=empty["weight"], classifier__bias=empty["bias"], classifier__domain=zeros("I32", 0)
    )
    yield "router-no-clusters", "A classifier has at least one cluster.", none.bytes(), "shape", "classifier.weight"
    flat = router().with_tensors(classifier__weight=floats(12))
    yield "router-flat", "A classifier's weight has two axes.", flat.bytes(), "shape", "classifier.weight"
    longer = router().with_tensors(classifier__bias=floats(4))
    yield "router-clusters", "A bias for more clusters than there are.", longer.bytes(), "shape", "classifier.bias"
    wrong = router().with_tensors(prototypes__domain=zeros("I64", 2))
    yield "router-index-dtype", "Domains of prototypes are I32.", wrong.bytes(), "factor-dtype", "prototypes.domain"
    whole = router().with_tensors(classifier__bias=zeros("I32", 3))
    yield "router-bias-dtype", "A bias is floating point.", whole.bytes(), "factor-dtype", "classifier.bias"
    nan = router().with_tensors(classifier__bias=Tensor("F32", (3,), struct.pack("<3f", 1, math.nan, 1)))
    yield "router-nan", "A router's numbers are finite.", nan.bytes(), "non-finite", "classifier.bias"
    featured = router().changed(lambda m: m.update(features=["dora"]))
    yield "router-features", "A router has no features.", featured.bytes(), "features", "manifest.features"
    cold = router().changed(lambda m: m.update(temperature=0))
    yield "router-temperature", "A temperature of zero.", cold.bytes(), "schema", ""
    lone = router().changed(lambda m: m.update(entries=[]))
    yield "router-with-entries", "A router has no entries.", lone.bytes(), "schema", ""
