"""What a way yields, from the values of the fields that it names (spec: binding, how a number is found)."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ual_registry.air.canonical import canonical_bytes
from ual_registry.binders.model import Way

__all__ = ["evaluate", "is_one_of", "item_at", "json_number"]


def evaluate(way: Way, value: Callable[[str], Any]) -> float | None:
    """Return the number that a way yields, whole ones as ``int``; ``None`` where it yields none.

    Args:
        way: The way.
        value: Gives the value of a field, ``None`` where there is none.
    """
    if isinstance(way, str):
        return json_number(value(way))
    if not isinstance(way, Mapping):
        return json_number(way)
    kind, (left, right) = next(iter(way.items()))
    if kind == "item":
        return json_number(item_at(value(left), int(right)))
    if kind == "when":
        return evaluate(right, value) if is_one_of(value(left["field"]), left["values"]) else None
    first, second = evaluate(left, value), evaluate(right, value)
    return None if first is None or second is None else json_number(_OPERATORS[kind](first, second))


def json_number(value: Any) -> float | None:
    """Return a JSON number, a whole one as ``int``; ``None`` for anything else and for what is no number."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _operate(function: Callable[[float, float], float], left: float, right: float) -> float:
    """Operate exactly on integers, and on doubles otherwise."""
    if not (isinstance(left, int) and isinstance(right, int)):
        left, right = _double(left), _double(right)
    return function(left, right)


def item_at(items: Any, index: int) -> Any:
    """Return an item of a list; ``None`` where it is no list or too short."""
    return items[index] if isinstance(items, (list, tuple)) and index < len(items) else None


def is_one_of(value: Any, values: Iterable[Any]) -> bool:
    """Tell whether a value equals one of others; equality is that of JSON."""
    found = canonical_bytes(value)
    return any(found == canonical_bytes(other) for other in values)


_OPERATORS: dict[str, Callable[[float, float], float | None]] = {
    "quotient": lambda left, right: _double(left) / _double(right) if right else None,
    "product": functools.partial(_operate, operator.mul),
    "sum": functools.partial(_operate, operator.add),
}
