"""The numbers of a config by dotted field, and the ways in which a number can follow from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ual_registry.binders import ways
from ual_registry.binders.model import Way

__all__ = ["candidates", "evaluate", "fields_of", "flatten", "is_number", "look_up", "replaced"]

_IGNORED = ("token_id", "position", "transformers_version", "id2label", "label2id", "dtype", "seed")
_MULTIPLES = (2, 3, 4, 8)


def flatten(document: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return every value of a config below its objects, by dotted path; lists are values."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{before}{name}"
        if not isinstance(name, str) or name.startswith("_") or any(word in path for word in _IGNORED):
            continue
        if isinstance(value, Mapping):
            found |= flatten(value, f"{path}.")
        else:
            found[path] = value
    return found


def look_up(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path; ``None`` where there is none."""
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def replaced(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the document with another value at a dotted path."""
    name, _, rest = path.partition(".")
    return {**document, name: replaced(document[name], rest, value) if rest else value}


def is_number(value: Any) -> bool:
    """Tell a number from a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def evaluate(way: Way, values: Mapping[str, Any]) -> float | None:
    """Return what a way yields on flattened values."""
    return ways.evaluate(way, values.get)


def fields_of(way: Way) -> Iterator[str]:
    """Yield every field that a way reads."""
    if isinstance(way, str):
        yield way
    elif isinstance(way, Mapping):
        for operands in way.values():
            for operand in operands:
                yield from fields_of(operand)


def candidates(size: float, values: Mapping[str, Any]) -> Iterator[tuple[int, Way]]:
    """Yield (complexity, way) for every simple way that yields ``size``.

    Args:
        size: What is to be explained.
        values: The flattened numbers that may explain it.
    """
    for name, value in values.items():
        if value == size:
            yield 0, name
    for one, other in itertools.permutations(values, 2):
        if values[other] and values[one] / values[other] == size and values[other] != 1:
            yield 1, {"quotient": [one, other]}
    for one, other in itertools.combinations(values, 2):
        if values[one] * values[other] == size:
            yield 2, {"product": [one, other]}
        if values[one] + values[other] == size:
            yield 3, {"sum": [one, other]}
    for name, value in values.items():
        for factor in _MULTIPLES:
            if value * factor == size:
                yield 2, {"product": [name, factor]}
            if value == size * factor:
                yield 2, {"quotient": [name, factor]}
    if size == 1:
        yield 4, 1
