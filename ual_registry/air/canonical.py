"""Strict JSON in, canonical JSON out.

Reading follows I-JSON (RFC 7493): UTF-8, no repeated names, no NaN, no lone surrogates, bounded depth.
Writing follows the JSON Canonicalization Scheme (RFC 8785), so that one document has one sequence of bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import rfc8785

from ual_registry.errors import FormatError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "canonical_bytes", "freeze", "parse_canonical", "parse_json"]

MAX_VALUES = 3_000_000
"""How many commas and opening brackets a text may hold, so that its values fit into memory."""

MAX_DEPTH = 64
"""How deeply objects and arrays may nest."""

_MAX_SAFE_INTEGER = 2**53 - 1
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS = b"0" * 16  # without so many no integer is beyond


class _DuplicateKeyError(ValueError):
    pass


def canonical_bytes(document: Any, *, is_plain: bool = False) -> bytes:
    """Serialise a JSON value by RFC 8785.

    Python's own encoder writes the canonical form of nearly every document, ten times as fast; what it would write
    otherwise goes to the ``rfc8785`` library. A property test holds both to the same bytes.

    Args:
        document: The value.
        is_plain: Whether it is known to hold nothing but objects with ASCII keys, lists, tuples, strings and integers
            up to 2**53.

    Raises:
        FormatError: The value holds a number or a string that JSON cannot carry (code ``not-json``).

    >>> canonical_bytes({"b": 2.0, "a": [1e-05, None]})
    b'{"a":[0.00001,null],"b":2}'
    """
    try:
        return _ENCODER.encode(document if is_plain else _plain(document)).encode("utf-8")
    except _UnusualError:
        pass
    except (RecursionError, UnicodeEncodeError) as error:
        raise _not_json(error) from error
    try:
        return rfc8785.dumps(_thawed(document))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise _not_json(error) from error


def _not_json(error: Exception) -> FormatError:
    return FormatError(f"value cannot be written as JSON: {error}", code="not-json")


class _UnusualError(ValueError):
    """The value's canonical form is not what Python's encoder writes, or it has none."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Copy a value into what Python's encoder writes canonically, or say that it does not.

    Keys beyond ASCII may sort otherwise there, numbers beyond 2**53 and those with an exponent are written otherwise.
    """
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is int and -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER:
        return value
    if kind is float and abs(value) <= _MAX_SAFE_INTEGER:
        return int(value) if value.is_integer() else _without_exponent(value)
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if kind is dict or isinstance(value, Mapping):
        return _plain_object(value)
    raise _UnusualError


_SIMPLE = {str, bool, type(None)}


def _plain_object(value: Mapping[Any, Any]) -> dict[str, Any]:
    try:
        is_ascii = "".join(value).isascii()
    except TypeError:  # a key is no text
        is_ascii = False
    if not is_ascii:
        raise _UnusualError
    return {key: item if type(item) is str else _plain(item) for key, item in value.items()}


def _without_exponent(value: float) -> float:
    if "e" in repr(value):
        raise _UnusualError
    return value


def _thawed(value: Any) -> Any:
    """Replace read-only mappings and tuples by what the library knows."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_thawed(item) for item in value]
    return value


def parse_json(data: bytes, *, what: str) -> Any:
    """Parse strict JSON.

    Args:
        data: UTF-8 bytes.
        what: What the bytes are, for the message.

    Raises:
        FormatError: The bytes are not I-JSON (code ``not-json``, ``repeated-key`` or ``too-deep``), or hold too many
            values to be parsed in bounded memory (code ``too-many-values``).
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise FormatError(f"{what}: more than {MAX_VALUES} commas and opening brackets", code="too-many-values")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_repeats,
            parse_constant=_refuse_constant,
            parse_int=_integer if _has_many_digits(data) else None,
            parse_float=_finite,
        )
        _check_depth(document, what)
        if b"\\u" in data:
            json.dumps(document, ensure_ascii=False).encode("utf-8")  # no lone surrogate
    except _DuplicateKeyError as error:
        raise FormatError(f"{what}: {error}", code="repeated-key") from error
    except RecursionError as error:
        raise _too_deep(what) from error
    except ValueError as error:
        raise FormatError(f"{what}: not JSON in UTF-8: {error}", code="not-json") from error
    return document


def parse_canonical(data: bytes, *, what: str) -> Any | None:
    """Parse strict JSON that stands in its canonical form, at a third of the cost of ``parse_json``.

    A text that its own document is written as has no repeated name, no lone surrogate and no space between; what
    remains to be seen are numbers and depth.

    Returns:
        The document; ``None`` where the text is not surely canonical, whatever else it is.

    Raises:
        FormatError: The document is nested too deeply (code ``too-deep``).
    """
    if len(data) > MAX_VALUES:
        return None
    decoder = _CANONICAL_LONG if _has_many_digits(data) else _CANONICAL
    try:
        text = data.decode("utf-8")
        document = decoder.decode(text)
        # From U+D800 on, names may sort otherwise than Python's encoder does.
        if _ENCODER.encode(document) != text or (not text.isascii() and max(text) >= "\ud800"):
            return None
    except (ValueError, RecursionError):
        return None
    _check_depth(document, what)
    return document


def _canonical_integer(text: str) -> int:
    value = int(text) if len(text) <= 17 else _MAX_SAFE_INTEGER + 1
    if abs(value) > _MAX_SAFE_INTEGER:
        raise _UnusualError
    return value


def _canonical_fraction(text: str) -> float:
    """Read a number that Python writes as RFC 8785 does."""
    value = float(text)
    if repr(value) != text or "e" in text or value.is_integer():
        raise _UnusualError
    return value


def _has_many_digits(data: bytes) -> bool:
    return _MANY_DIGITS in data.translate(_ZEROS)


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKeyError(f"name {repeated!r} stands twice in one object")
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _integer(text: str) -> int | float:
    """Read integers beyond 2**53 as the double that every JSON reader makes of them (RFC 7493, 2.2)."""
    if len(text) > 17:
        return _finite(text)
    value = int(text)
    return value if abs(value) <= _MAX_SAFE_INTEGER else float(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:20]} is too large")
    return value


def _check_depth(document: Any, what: str) -> None:
    """Look at one level after the other; strings and numbers are left out by the level above."""
    level = [document]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            inner.extend(value.values() if type(value) is dict else value if type(value) is list else ())
        level = [value for value in inner if type(value) in _CONTAINERS]
        if not level:
            return
    raise _too_deep(what)


_CONTAINERS = {dict, list}


def _too_deep(what: str) -> FormatError:
    return FormatError(f"{what}: nested more than {MAX_DEPTH} levels deep", code="too-deep")


_CANONICAL = json.JSONDecoder(parse_float=_canonical_fraction, parse_constant=_refuse_constant)
_CANONICAL_LONG = json.JSONDecoder(
    parse_float=_canonical_fraction, parse_int=_canonical_integer, parse_constant=_refuse_constant
)


def freeze(value: Any) -> Any:
    """Make a parsed JSON value read-only: objects become mapping proxies, arrays tuples."""
    if isinstance(value, dict):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(freeze(item) for item in value)
    return value
