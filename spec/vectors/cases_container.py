"""Files whose container is not what it must be; most need no manifest, because the first fault stands before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spec.vectors.cases_valid import extra
from spec.vectors.craft import Case, File, case, container, floats, plain, zeros

__all__ = ["container_cases"]

Row = tuple[str, str, bytes, str, str]


def container_cases() -> Iterator[Case]:
    """Yield every case whose first fault is one of the container."""
    for name, description, data, code, place in [*_length(), *_json(), *_table(), *_tiling(), *_layout()]:
        fault = {"code": code, "place": place}
        yield case(f"container-{name}", description, data, {"valid": False, "faults": [fault], "warnings": []})


def _length() -> Iterator[Row]:
    whole = plain().bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    yield "empty", "A file of no bytes.", b"", "truncated", ""
    yield "seven-bytes", "A file shorter than the length of a header.", b"\x02\0\0\0\0\0\0", "truncated", ""
    yield "only-length", "A length and nothing else.", whole[:8], "truncated", ""
    yield "cut-in-header", "A file cut inside its header.", whole[: start - 1], "truncated", ""
    yield (
        "length-one-too-many",
        "A header said to end one byte after the file.",
        container("{}", padding=False, length=3),
        "truncated",
        "",
    )
    large = container("{}", padding=False, length=100_000_001)
    yield (
        "header-over-limit",
        "A header of one byte over the limit, refused before it is read.",
        large,
        "header-too-large",
        "",
    )
    endless = container("{}", padding=False, length=2**64 - 1)
    yield "header-length-all-ones", "The largest length of all.", endless, "header-too-large", ""
    limit = container("{}", padding=False, length=100_000_000)
    yield "header-at-limit", "A header at the limit is legal, and this one is not there.", limit, "truncated", ""
    at_end = "layers.0.mlp_up.lora_B"
    yield "cut-in-tensor", "A file without its last byte.", whole[:-1], "truncated", at_end
    yield (
        "cut-before-tensors",
        "A file that ends with its header.",
        whole[:start],
        "truncated",
        "layers.0.attention_query.lora_A",
    )
    yield "byte-after-end", "One byte after the last tensor.", whole + b"\0", "trailing-bytes", ""
    yield (
        "data-without-tensors",
        "Tensor data that no tensor claims.",
        container({"__metadata__": {}}, b"1234"),
        "trailing-bytes",
        "",
    )
    yield "two-files", "A file that stands twice in one.", whole + whole, "trailing-bytes", ""


def _json() -> Iterator[Row]:
    deep = "[" * 64
    rows: list[tuple[str, str, str | bytes, str]] = [
        ("header-empty", "A header of no bytes.", b"", "header-not-object"),
        ("header-array", "A header that is an array.", "[]", "header-not-object"),
        ("header-string", "A header that is a string.", '"air"', "header-not-object"),
        ("header-after-space", "A header must start with its brace.", " {}", "header-not-object"),
        (
            "header-byte-order-mark",
            "A header must not start with a byte order mark.",
            b"\xef\xbb\xbf{}",
            "header-not-object",
        ),
        ("header-pickle", "A pickle is no header.", b"\x80\x02}q\0.", "header-not-object"),
        ("header-unclosed", "An object that does not end.", '{"a":1', "not-json"),
        ("header-trailing-comma", "A comma before the end.", '{"a":1,}', "not-json"),
        ("header-two-values", "Two objects.", "{}{}", "not-json"),
        ("header-nul-after", "Only spaces may follow the object.", b"{}\0", "not-json"),
        ("header-comment", "A comment.", '{/* */"a":1}', "not-json"),
        ("header-single-quotes", "Single quotes.", "{'a':1}", "not-json"),
        ("header-nan", "NaN is no number.", '{"a":NaN}', "not-json"),
        ("header-infinity", "Infinity is no number.", '{"a":-Infinity}', "not-json"),
        ("header-number-too-large", "A number beyond every double.", '{"a":1e999}', "not-json"),
        ("header-leading-zero", "A number with a leading zero.", '{"a":01}', "not-json"),
        ("header-not-utf-8", "A byte that is no UTF-8.", b'{"\xff":1}', "not-json"),
        ("header-surrogate-bytes", "A surrogate in UTF-8.", b'{"a":"\xed\xa0\x80"}', "not-json"),
        ("header-overlong", "A slash in two bytes.", b'{"a":"\xc0\xaf"}', "not-json"),
        ("header-lone-surrogate", "An escaped surrogate without its pair.", '{"a":"\\ud800"}', "not-json"),
        ("header-control-character", "A line feed inside a string.", '{"a":"\n"}', "not-json"),
        ("header-repeated-name", "A tensor's name that stands twice.", '{"a":1,"b":2,"a":3}', "repeated-key"),
        (
            "header-repeated-by-escape",
            "A name and its escaped form are one name.",
            '{"a":1,"\\u0061":3}',
            "repeated-key",
        ),
        (
            "header-repeated-inside",
            "A field that stands twice in a row of the table.",
            '{"a":{"shape":[],"shape":[]}}',
            "repeated-key",
        ),
        (
            "header-too-deep",
            "An array nested 65 levels deep, with the header's own.",
            f'{{"a":{deep}{deep.replace("[", "]")}}}',
            "too-deep",
        ),
        ("header-hostile-depth", "An array nested 5000 levels deep.", f'{{"a":{"[" * 5000}{"]" * 5000}}}', "too-deep"),
        ("metadata-number", "__metadata__ that is a number.", '{"__metadata__":1}', "metadata-form"),
        ("metadata-null", "__metadata__ that is null.", '{"__metadata__":null}', "metadata-form"),
        ("metadata-object-value", "The manifest must be text.", '{"__metadata__":{"air":{}}}', "metadata-form"),
        (
            "metadata-number-value",
            "Every value of __metadata__ must be text.",
            '{"__metadata__":{"air":"{}","n":1}}',
            "metadata-form",
        ),
    ]
    for name, description, header, code in rows:
        yield name, description, container(header, padding=False), code, ""


def _row(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def _one(row: Any, data: bytes = b"1234", name: str = "w") -> bytes:
    """Return a container of one tensor; numbers stand as they are given."""
    return container(json.dumps({name: row}, separators=(",", ":")), data)


def _table() -> Iterator[Row]:
    without = {"dtype": "F32", "shape": [1]}
    rows: list[tuple[str, str, Any, str]] = [
        ("row-number", "A row that is a number.", 1, "tensor-form"),
        ("row-null", "A row that is null.", None, "tensor-form"),
        ("row-without-offsets", "A row without data_offsets.", without, "tensor-form"),
        ("row-with-more", "A row with a field of its own.", _row(note=1), "tensor-form"),
        ("dtype-unknown", "A dtype of four bits.", _row("F4"), "unknown-dtype"),
        ("dtype-lower-case", "Dtypes are written in capitals.", _row("f32"), "unknown-dtype"),
        ("dtype-number", "A dtype that is a number.", _row(7), "unknown-dtype"),
        ("shape-number", "A shape that is a number.", _row(shape=1), "shape-form"),
        ("shape-negative", "A negative length.", _row(shape=[-1]), "shape-form"),
        ("shape-fraction", "A length of one and a half.", _row(shape=[1.5]), "shape-form"),
        ("shape-boolean", "A length that is true.", _row(shape=[True]), "shape-form"),
        ("shape-text", "A length that is text.", _row(shape=["1"]), "shape-form"),
        ("shape-17-axes", "Seventeen axes.", _row(shape=[1] * 17), "shape-form"),
        ("shape-overflow", "A shape whose product passes 63 bits.", _row(shape=[2**52, 2**52]), "shape-overflow"),
        (
            "shape-overflow-before-zero",
            "A product that passes 63 bits before a zero.",
            _row(shape=[2**31, 2**31, 0]),
            "shape-overflow",
        ),
        ("shape-overflow-by-one", "A product of 2^63.", _row("U8", [2**31, 2**31, 2]), "shape-overflow"),
        ("shape-largest", "A product of 2^63-1.", _row("U8", [454279, 20303320287433]), "size-mismatch"),
        ("offsets-number", "Offsets that are a number.", _row(offsets=4), "offsets-form"),
        ("offsets-one", "One offset.", _row(offsets=[4]), "offsets-form"),
        ("offsets-three", "Three offsets.", _row(offsets=[0, 4, 8]), "offsets-form"),
        ("offsets-reversed", "An end before its begin.", _row(offsets=[4, 0]), "offsets-form"),
        ("offsets-negative", "A negative offset.", _row(offsets=[-4, 0]), "offsets-form"),
        ("offsets-fraction", "An offset of one half.", _row(offsets=[0.5, 4]), "offsets-form"),
        ("offsets-boolean", "An offset that is false.", _row(offsets=[False, 4]), "offsets-form"),
        ("size-too-large", "Offsets that hold more than the shape.", _row(shape=[1], offsets=(0, 8)), "size-mismatch"),
        ("size-too-small", "Offsets that hold less than the shape.", _row(shape=[2]), "size-mismatch"),
        ("size-empty-shape", "A shape without axes is one element.", _row(shape=[], offsets=[0, 0]), "size-mismatch"),
    ]
    for name, description, row, code in rows:
        yield name, description, _one(row), code, "w"
    yield "name-empty", "A tensor without a name.", _one(_row(), name=""), "tensor-name", ""
    yield "name-too-long", "A name of 1025 characters.", _one(_row(), name="n" * 1025), "tensor-name", ""


def _bytes(**rows: tuple[int, int]) -> dict[str, Any]:
    return {name: _row("U8", [end - start], [start, end]) for name, (start, end) in rows.items()}


def _tiling() -> Iterator[Row]:
    four = b"1234"
    yield "overlap", "Two tensors share a byte.", container(_bytes(a=(0, 3), b=(2, 4)), four), "overlap", "b"
    yield "overlap-whole", "Two tensors on the same bytes.", container(_bytes(a=(0, 4), b=(0, 4)), four), "overlap", "b"
    yield "overlap-inside", "A tensor inside another.", container(_bytes(a=(0, 4), b=(1, 2)), four), "overlap", "b"
    yield (
        "overlap-empty",
        "An empty tensor inside another.",
        container(_bytes(a=(0, 4), b=(2, 2)), four),
        "overlap",
        "b",
    )
    yield "hole", "Two bytes between tensors.", container(_bytes(a=(0, 1), b=(3, 4)), four), "hole", "b"
    yield "hole-at-start", "Bytes before the first tensor.", container(_bytes(a=(2, 4)), four), "hole", "a"
    yield (
        "tensor-after-end",
        "A tensor that ends after the file.",
        container(_bytes(a=(0, 4)), b"123"),
        "truncated",
        "a",
    )


def _layout() -> Iterator[Row]:
    file = plain()
    yield "no-metadata", "A safetensors file of another kind.", _one(_row()), "not-air", ""
    other = {"__metadata__": {"format": "pt"}, **file.table()}
    yield (
        "foreign-metadata",
        "A safetensors file that says something else.",
        container(other, file.data()),
        "not-air",
        "",
    )
    second = file.header()
    second["__metadata__"]["format"] = "pt"
    yield "second-metadata-key", "A key beside 'air'.", container(second, file.data()), "not-air", ""
    yield "no-tensors", "An empty object.", container({}), "not-air", ""
    yield from _forms(file)
    yield from _orders()


def _forms(file: File) -> Iterator[Row]:
    code = "not-canonical"
    spaced = json.dumps(file.header(), ensure_ascii=False, sort_keys=True)
    yield "header-spaced", "A header with spaces between its tokens.", container(spaced, file.data()), code, ""
    header = file.header()
    backwards = json.dumps(dict(sorted(header.items(), reverse=True)), ensure_ascii=False, separators=(",", ":"))
    yield "header-unsorted-keys", "A header whose keys are not sorted.", container(backwards, file.data()), code, ""
    named = plain(name="é")
    escaped = json.dumps(named.header(), sort_keys=True, separators=(",", ":"))
    yield "header-escaped", "A header that escapes what needs no escape.", container(escaped, named.data()), code, ""
    raw = file.bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    bare = raw[8:start].rstrip(b" ")
    yield "header-not-padded", "A header without its padding.", container(bare, file.data(), padding=False), code, ""
    wide = raw[8:start] + b" " * 64
    yield (
        "header-padded-twice",
        "A header with 64 spaces too many.",
        container(wide, file.data(), padding=False),
        code,
        "",
    )
    tabs = bare + b"\t" * (start - 8 - len(bare))
    yield (
        "header-padded-with-tabs",
        "A header padded with other white space.",
        container(tabs, file.data(), padding=False),
        code,
        "",
    )
    number = raw[8:start].rstrip(b" ").replace(b'"shape":[2,4]', b'"shape":[2.0,4]')
    yield (
        "header-number-form",
        "A length written as 2.0.",
        container(number, file.data()),
        "shape-form",
        "layers.0.attention_query.lora_A",
    )


def _orders() -> Iterator[Row]:
    file = plain()
    first, *rest, last = file.order()
    swapped = [last, *rest, first]
    data = container({"__metadata__": file.header()["__metadata__"], **file.table(swapped)}, file.data(swapped))
    yield "tensors-unsorted", "Tensors that are not sorted by name.", data, "unsorted", last
    narrow = extra(plain(), w=zeros("U8", 4))
    order = ["extra.w", *[name for name in narrow.order() if name != "extra.w"]]
    data = container({"__metadata__": narrow.header()["__metadata__"], **narrow.table(order)}, narrow.data(order))
    yield "narrow-first", "A tensor with narrow elements before wide ones.", data, "unsorted", "extra.w"
    odd = extra(plain(), w=zeros("U8", 3))
    *others, end = [name for name in odd.order() if name != "extra.w"]
    order = [*others, "extra.w", end]
    data = container({"__metadata__": odd.header()["__metadata__"], **odd.table(order)}, odd.data(order))
    yield "misaligned", "A tensor that does not start at a multiple of its elements.", data, "misaligned", end
    wide = extra(plain(), **{"😀": zeros("U8", 1), "\uff5e": zeros("U8", 2)})
    order = [*wide.order()[:-2], "extra.😀", "extra.\uff5e"]
    data = container({"__metadata__": wide.header()["__metadata__"], **wide.table(order)}, wide.data(order))
    yield (
        "tensors-by-utf-16",
        "Tensor data is ordered by code points, not by UTF-16 code units.",
        data,
        "unsorted",
        "extra.😀",
    )
    empty = extra(plain(), a=floats(0), b=floats(1))
    order = ["extra.b", "extra.a", *[name for name in empty.order() if not name.startswith("extra.")]]
    data = container({"__metadata__": empty.header()["__metadata__"], **empty.table(order)}, empty.data(order))
    early = extra(plain(), a=zeros("U8", 0))
    order = ["extra.a", *[name for name in early.order() if name != "extra.a"]]
    text = {"__metadata__": early.header()["__metadata__"], **early.table(order)}
    yield (
        "empty-narrow-first",
        "An empty tensor with narrow elements stands behind the wide ones, too.",
        container(text, early.data(order)),
        "unsorted",
        "extra.a",
    )
    yield "empty-unsorted", "An empty tensor stands in the order, too.", data, "unsorted", "extra.b"
