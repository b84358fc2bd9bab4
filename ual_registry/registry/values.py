"""The values of the search language: what stands behind an operator, read by the kind of its field."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ual_registry.errors import UALError
from ual_registry.registry.fields import FIELDS, Kind
from ual_registry.registry.reference import Reference

__all__ = ["BYTE_UNITS", "BadValueError", "Pair", "Span", "Text", "Value", "read_measure", "read_span", "read_value"]

Number = int | float | datetime.datetime


@dataclass(frozen=True, slots=True)
class Text:
    """A text, or the beginning of one."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Everything between two numbers or times; ``None`` leaves an end open."""

    low: Number | None = None
    high: Number | None = None
    includes_low: bool = True
    includes_high: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """A tag or a metric by its exact name, and what its value must be; ``None`` leaves that open."""

    key: str
    value: Text | Span | None = None


Value = Text | Span | Pair


class BadValueError(ValueError):
    """A value is not what its field is compared with; the message says what was expected."""


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BYTE_UNITS = {
    "": 1,
    "B": 1,
    **{f"{unit}{end}": size for unit, size in _UNITS.items() if unit for end in ("", "B")},
    **{f"{unit}IB": 1024**power for power, unit in enumerate(("K", "M", "G", "T"), start=1)},
}
_WITH_UNIT = re.compile(r"(\d{1,40}(?:\.\d{1,18})?)([A-Za-z]{0,3})\Z", re.ASCII)
_REAL = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?\Z", re.ASCII)
_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})\Z", re.ASCII)
_BLOCKS = re.compile(r"(\d+)-(\d+)\Z", re.ASCII)
_LARGEST = 2**63 - 1


def _scaled(text: str, units: dict[str, int], expected: str) -> int:
    found = _WITH_UNIT.match(text)
    if found is None or found[2].upper() not in units:
        raise BadValueError(f"expected {expected}, got {text!r}")
    number = Decimal(found[1]) * units[found[2].upper()]
    if number != number.to_integral_value() or number > _LARGEST:
        raise BadValueError(f"expected a whole number below 2^63, got {text!r}")
    return int(number)


def _count(text: str) -> int:
    return _scaled(text, {"": 1}, "a whole number")


def _amount(text: str) -> int:
    return _scaled(text, _UNITS, "a number such as 500K, 10M or 1.5G")


def _bytes(text: str) -> int:
    return _scaled(text, BYTE_UNITS, "a size such as 500kB, 10MB or 1.5GiB")


def _real(text: str) -> float:
    number = float(text) if _REAL.match(text) else math.inf
    if math.isinf(number):
        raise BadValueError(f"expected a number, got {text!r}")
    return number


_READERS: dict[Kind, Callable[[str], int | float]] = {
    Kind.COUNT: _count,
    Kind.AMOUNT: _amount,
    Kind.BYTES: _bytes,
    Kind.NUMBER: _real,
    Kind.METRIC: _real,
}


def _period(text: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Return the beginning of a day or second, and that of the next."""
    try:
        if _DAY.match(text):
            start = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
            return start, start + datetime.timedelta(days=1)
        if _MOMENT.match(text):
            given = datetime.datetime.fromisoformat(text)
            start = given.replace(tzinfo=given.tzinfo or datetime.UTC).astimezone(datetime.UTC)
            return start, start + datetime.timedelta(seconds=1)
    except (ValueError, OverflowError):
        pass
    raise BadValueError(f"expected a day such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z, got {text!r}")


def read_span(field: str, operator: str, text: str) -> Span:
    """Read a number, a time, or a range of them.

    Args:
        field: One that is compared so.
        operator: ``:``, ``>=``, ``<=``, ``>`` or ``<``.
        text: What stands behind it.

    Raises:
        BadValueError: It is not one.
    """
    kind = FIELDS[field].kind
    low, dots, high = text.partition("..")
    blocks = _BLOCKS.match(text) if field == "layers" else None
    if blocks:
        (low, high), dots = blocks.groups(), ".."
    if not dots:
        return _compared(kind, operator, text)
    if operator != ":":
        raise BadValueError(f"a range is compared by ':', not by {operator!r}")
    if not low and not high:
        raise BadValueError("a range needs a number at one end")
    start = _compared(kind, ">=", low) if low else Span()
    end = _compared(kind, "<=", high) if high else Span()
    if start.low is not None and end.high is not None and start.low > end.high:  # type: ignore[operator]  # one kind
        raise BadValueError(f"the range {text!r} is empty: its first end is the larger one")
    return Span(low=start.low, high=end.high, includes_high=end.includes_high)


def _compared(kind: Kind, operator: str, text: str) -> Span:
    if kind is Kind.TIME:
        start, end = _period(text)
        low = {":": start, ">=": start, ">": end}.get(operator)
        high = {":": end, "<=": end, "<": start}.get(operator)
        return Span(low=low, high=high, includes_high=high is None)
    number = _READERS[kind](text)
    return Span(
        low=number if operator in {":", ">=", ">"} else None,
        high=number if operator in {":", "<=", "<"} else None,
        includes_low=operator != ">",
        includes_high=operator != "<",
    )


def read_value(field: str, text: Text) -> Value:
    """Read a value of a field that is compared by ``:`` alone.

    Raises:
        BadValueError: The field cannot have it.
    """
    reader = _TEXT_READERS.get(FIELDS[field].kind)
    return reader(field, text) if reader else text


def _choice(field: str, text: Text) -> Text:
    known = FIELDS[field].choices
    if not any(choice == text.text or (text.is_prefix and choice.startswith(text.text)) for choice in known):
        shown = text.text + "*" * text.is_prefix
        raise BadValueError(f"unknown {field} {shown!r} (known: {', '.join(known)})")
    return text


def _digest(_field: str, text: Text) -> Text:
    found = _HEX.match(text.text)
    if found is None:
        raise BadValueError(f"expected up to 64 hexadecimal digits in lower case, got {text.text!r}")
    return Text(f"sha256:{found[1]}", len(found[1]) < 64)


def _reference(_field: str, text: Text) -> Text:
    if text.is_prefix:
        raise BadValueError("expected one revision; '*' cannot stand for several")
    try:
        Reference.parse(text.text)
    except UALError as error:
        raise BadValueError(error.message) from error
    return text


def _tag(_field: str, text: Text) -> Pair:
    key, equals, value = text.text.partition("=")
    if not key or (text.is_prefix and not equals):
        raise BadValueError("expected a tag such as team, team=search or team=sea*")
    return Pair(key, Text(value, text.is_prefix) if equals else None)


def read_measure(name: Text, operator: str | None, text: str | None) -> Pair:
    """Read a metric and what its value must be.

    Raises:
        BadValueError: It is none.
    """
    if name.is_prefix or not name.text:
        raise BadValueError("expected the whole name of a metric")
    return Pair(name.text, None if operator is None else read_span("metric", operator, str(text)))


_TEXT_READERS: dict[Kind, Callable[[str, Text], Any]] = {
    Kind.CHOICE: _choice,
    Kind.DIGEST: _digest,
    Kind.REFERENCE: _reference,
    Kind.TAG: _tag,
}
