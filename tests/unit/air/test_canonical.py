"""Strict JSON in, canonical JSON out."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from ual_registry.air.canonical import MAX_DEPTH, canonical_bytes, freeze, parse_json
from ual_registry.errors import FormatError


def refused(data: bytes) -> tuple[str, str]:
    with pytest.raises(FormatError) as caught:
        parse_json(data, what="it")
    return caught.value.problem_code, caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        ({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5}, None),
        ([1.0, -0.0, 1e21, 1e-7, 0.1, 333333333.33333329], b"[1,0,1e+21,1e-7,0.1,333333333.3333333]"),
        ("\u20ac$\x0f\nA'B\"\\/", '"\u20ac$\\u000f\\nA\'B\\"\\\\/"'.encode()),
        ((1, (2,)), b"[1,[2]]"),
        (MappingProxyType({"a": MappingProxyType({})}), b'{"a":{}}'),
    ],
)
def test_a_value_has_the_bytes_of_rfc_8785(value: Any, text: bytes | None) -> None:
    # RFC 8785, 3.2.3: names are sorted by their UTF-16 code units.
    expected = text or '{"\\r":2,"1":4,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'.encode()
    assert canonical_bytes(value) == expected


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**60), "\ud800", {1: 2}, {"\udc00": 1}, b"x"])
def test_a_value_that_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(FormatError) as caught:
        canonical_bytes(value)
    assert caught.value.problem_code == "not-json"
    assert caught.value.message.startswith("value cannot be written as JSON: ")


def test_a_value_nested_without_end_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        canonical_bytes(nested(100_000))
    assert caught.value.problem_code == "not-json"


def test_nesting_up_to_the_limit_is_read() -> None:
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        text = b"[" * depth + b"]" * depth
        if depth <= MAX_DEPTH:
            assert canonical_bytes(parse_json(text, what="it")) == text
        else:
            assert refused(text) == ("too-deep", "it: nested more than 64 levels deep")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9007199254740991", 9007199254740991),
        (b"9007199254740993", 9007199254740992.0),
        (b"-9007199254740993", -9007199254740992.0),
        (b"100000000000000000000", 1e20),
    ],
)
def test_an_integer_beyond_the_doubles_is_read_as_a_double(text: bytes, value: float) -> None:
    found = parse_json(text, what="it")
    assert (type(found), found) == (type(value), value)


def test_the_repeated_name_is_told() -> None:
    assert refused(b'{"a":{"b":1,"c":2,"b":3}}') == ("repeated-key", "it: name 'b' stands twice in one object")


def test_a_number_too_large_for_a_double_is_refused() -> None:
    assert refused(b"[1e400]") == ("not-json", "it: not JSON in UTF-8: number 1e400 is too large")
    assert refused(b"-" + b"1" * 5000) == ("not-json", f"it: not JSON in UTF-8: number -{'1' * 19} is too large")


def test_a_frozen_value_cannot_be_changed() -> None:
    frozen = freeze({"a": [1, {"b": 2}], "c": "x"})
    assert frozen == {"a": (1, {"b": 2}), "c": "x"}
    assert isinstance(frozen["a"][1], MappingProxyType)
    with pytest.raises(TypeError):
        frozen["a"] = 1
