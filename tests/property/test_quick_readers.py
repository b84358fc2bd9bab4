"""The quick readers say what the strict ones say, or nothing: of headers, of canonical JSON, and of numbers."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.handmade import small_adapter
from tests.property.test_format import json_values
from ual_registry.air.canonical import MAX_DEPTH, canonical_bytes, parse_canonical, parse_json
from ual_registry.air.document import encode_manifest
from ual_registry.air.finite import is_finite, is_finite_in_python
from ual_registry.air.header import METADATA_KEY, Header, _read_strictly, check_air_layout, encode_header
from ual_registry.air.plain_header import LENGTH_BYTES, plain_header
from ual_registry.air.tensor import DTYPE_BYTES
from ual_registry.errors import FormatError

_SNIPPETS = [b'"', b"\\", b",", b"}", b"{", b"[", b"]", b":", b" ", b"0", b"-", b"9" * 16, b"\n", b"\x1f", b"\\u00e9"]
_SNIPPETS += ["é".encode(), b"\xff", b'"}', b'}"}', b'"x":{}', b"1.0", b"1e2", b"null", b"layers", b"F16", b""]
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from(_SNIPPETS)), max_size=2)


def _edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, length, snippet in changes:
        start = int(place * len(data))
        data = data[:start] + snippet + data[start + length :]
    return data


def _strictly(raw: bytes, data_bytes: int) -> Header | None:
    data_start = LENGTH_BYTES + len(raw)
    try:
        header = _read_strictly(raw, data_start, data_start + data_bytes)
        check_air_layout(header)
    except FormatError:
        return None
    return header


@functools.cache
def _manifest() -> str:
    return encode_manifest(small_adapter().manifest).decode()


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, int]:
    """Return a header in AIR's form, and how many bytes belong after it."""
    names = st.text("AZaz_.-09", min_size=1, max_size=6) | st.sampled_from(["__metadata_", "__metadata___", "x" * 1025])
    shapes = st.lists(st.integers(1, 12), max_size=3)
    dtypes = st.sampled_from(["F32", "F16", "F64", "U8"])
    table = draw(st.dictionaries(names, st.tuples(dtypes, shapes), min_size=1, max_size=5))
    document: dict[str, Any] = {"__metadata__": {METADATA_KEY: draw(st.just(_manifest()) | st.text(max_size=9))}}
    end = 0
    for name, (dtype, shape) in sorted(table.items(), key=lambda item: (-DTYPE_BYTES[item[1][0]], item[0])):
        start, end = end, end + DTYPE_BYTES[dtype] * functools.reduce(int.__mul__, shape, 1)
        document[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return encode_header(document)[LENGTH_BYTES:], end


@given(headers(), edits, st.sampled_from([0, 0, 0, 1, -4]))
@settings(max_examples=600)
def test_a_header_that_is_read_quickly_is_read_strictly_too(
    made: tuple[bytes, int], changes: list[tuple[float, int, bytes]], more_bytes: int
) -> None:
    raw, data_bytes = _edited(made[0], changes), made[1] + more_bytes
    found = plain_header(raw, data_bytes)
    if found is not None:
        strict = _strictly(raw, data_bytes)
        assert strict is not None
        assert ({METADATA_KEY: found[0]}, list(found[1].items())) == (strict.metadata, list(strict.infos.items()))


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_the_header_of_a_written_adapter_is_read_quickly(dtype: str) -> None:
    document = {
        "__metadata__": {METADATA_KEY: _manifest()},
        "layers.0.mlp_up.lora_A": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 6 * DTYPE_BYTES[dtype]]},
    }
    raw = encode_header(document)[LENGTH_BYTES:]
    found, strict = plain_header(raw, 6 * DTYPE_BYTES[dtype]), _strictly(raw, 6 * DTYPE_BYTES[dtype])
    assert strict is not None
    assert found == (_manifest(), strict.infos)


def _answer(data: bytes) -> tuple[Any, bytes] | str:
    try:
        document = parse_json(data, what="text")
        return document, canonical_bytes(document)
    except FormatError as error:
        return error.problem_code


@given(json_values, edits)
@example([float(10**20)], [])
@example([2**53 - 1, 1 - 2**53], [])
@example({"\ue000": 1, "\U00010000": 2}, [])
@example({"a": "\x7f\u2028"}, [])
@settings(max_examples=600)
def test_json_that_is_read_as_canonical_is_canonical(value: Any, changes: list[tuple[float, int, bytes]]) -> None:
    data = _edited(canonical_bytes(value), changes)
    found = parse_canonical(data, what="text")
    if found is not None:
        assert _answer(data) == (found, data)


_UNSURE = [b'{"a":1,"a":1}', b'{"b":1,"a":1}', b"[1 ]", b"[1.0]", b"[-0]", b"[1e2]", b"[9007199254740993]", b"[NaN]"]
_UNSURE += [b'["\\u0041"]', b'["\\ud800"]', b'["\\/"]', b'["\xff"]', b"[1e999]", b"[12345678901234567890123]", b"[01]"]
_UNSURE += [b'{"a":"\xee\x80\x80"}', b"[" * 100_000]


@pytest.mark.parametrize("data", _UNSURE, ids=lambda data: repr(data[:24]))
def test_of_json_that_is_not_surely_canonical_nothing_is_said(data: bytes) -> None:
    assert parse_canonical(data, what="text") is None


def test_canonical_json_keeps_the_limit_of_depth() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_canonical(deepest, what="text") == parse_json(deepest, what="text")
    with pytest.raises(FormatError, match=f"^text: nested more than {MAX_DEPTH} levels deep$"):
        parse_canonical(b"[" + deepest + b"]", what="text")


_EXPONENTS = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F800000), "F64": (8, 0x7FF0000000000000)}
"""Bytes of a number, and the bits of its exponent."""


@pytest.mark.parametrize("dtype", _EXPONENTS)
@given(data=st.binary(max_size=300), shift=st.integers(0, 9))
@settings(max_examples=300)
def test_both_searches_for_numbers_that_are_not_finite_agree(dtype: str, data: bytes, shift: int) -> None:
    width = _EXPONENTS[dtype][0]
    whole = data[: len(data) // width * width]
    unaligned = memoryview(b"\xff" * shift + whole)[shift:]
    assert is_finite(dtype, whole) == is_finite(dtype, unaligned) == is_finite_in_python(dtype, whole)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", _EXPONENTS)
@pytest.mark.parametrize("count", [1, 7, 33, 4095, 4097])
def test_one_number_that_is_not_finite_is_found_wherever_it_stands(dtype: str, count: int) -> None:
    width, exponent = _EXPONENTS[dtype]
    almost = (exponent - (exponent & -exponent)).to_bytes(width, "little")  # all bits of the exponent but the lowest
    data = bytearray(almost * count)
    assert is_finite(dtype, bytes(data))
    missed = []
    for index in range(count):
        data[index * width : (index + 1) * width] = exponent.to_bytes(width, "little")
        if is_finite(dtype, data):  # type: ignore[arg-type]
            missed.append(index)
        data[index * width : (index + 1) * width] = almost
    assert missed == []


@pytest.mark.parametrize("search", [is_finite, is_finite_in_python])
def test_a_dtype_without_exponent_is_an_error(search: Any) -> None:
    with pytest.raises(KeyError, match="I32"):
        search("I32", b"")
