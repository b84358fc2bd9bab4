"""Find the condition under which a block holds a module, from the fields of the config that could say so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.tracing.fields import is_number

__all__ = ["Pattern", "layer_conditions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Which blocks of one model hold a module.

    Attributes:
        layers: The blocks that hold it.
        count: How many blocks there are.
        values: The flattened config.
    """

    layers: frozenset[int]
    count: int
    values: Mapping[str, Any]


def layer_conditions(patterns: Sequence[Pattern]) -> list[dict[str, Any]]:
    """Return entries with conditions on a block's index that hold for exactly the blocks of every pattern.

    Args:
        patterns: The same module in one or more models; the last is the one that matters most.

    Returns:
        ``[{}]`` where every block holds the module, one entry with ``layers`` or ``unless_layers`` where a field says
        which do, otherwise an entry with bounds for each run of blocks of the last pattern.
    """
    if all(pattern.layers == _every(pattern) for pattern in patterns):
        return [{}]
    rest = [Pattern(layers=_every(item) - item.layers, count=item.count, values=item.values) for item in patterns]
    for key, wanted in (("layers", patterns), ("unless_layers", rest)):
        found = _find(wanted)
        if found is not None:
            return [{key: found}]
    return [{"layers": [bounds]} for bounds in _runs(sorted(patterns[-1].layers))]


def _every(pattern: Pattern) -> frozenset[int]:
    return frozenset(range(pattern.count))


def _find(patterns: Sequence[Pattern]) -> list[dict[str, Any]] | None:
    """Return one condition that is right, or two that are right together."""
    last = patterns[-1]
    if not last.layers:
        return None
    found = [condition for condition in _conditions(last) if last.layers <= _held(condition, last)]
    for count in (1, 2):
        for chosen in itertools.combinations(found, count):
            if all(frozenset.intersection(*(_held(one, item) for one in chosen)) == item.layers for item in patterns):
                return list(chosen)
    return None


def _conditions(pattern: Pattern) -> Iterator[dict[str, Any]]:
    """Yield every condition that the fields of a config allow."""
    values = pattern.values
    for name, value in values.items():
        if isinstance(value, list) and len(value) == pattern.count and _are_kinds(value):
            held = [item for index, item in enumerate(value) if index in pattern.layers]
            yield {"item_of": name, "values": [item for index, item in enumerate(held) if item not in held[:index]]}
    for name, value in values.items():
        if isinstance(value, list) and all(type(item) is int for item in value):
            yield {"in": name}
            yield {"not_in": name}
    numbers = [name for name, value in values.items() if is_number(value) and value == int(value) > 0]
    for name in numbers:
        if values[name] < pattern.count:
            yield {"from": name}
            yield {"before": name}
    for name in numbers:
        if 1 < values[name] <= pattern.count:
            yield {"every": name}
            yield from ({"every": name, "shift": shift} for shift in range(1, int(values[name])))


def _held(condition: Mapping[str, Any], pattern: Pattern) -> frozenset[int]:
    """Return the blocks of a model for which a condition holds."""
    every, values = range(pattern.count), pattern.values
    if "item_of" in condition:
        items = values.get(condition["item_of"]) or []
        return frozenset(i for i in every if i < len(items) and items[i] in condition["values"])
    if "in" in condition or "not_in" in condition:
        inside = frozenset(values.get(condition.get("in", condition.get("not_in"))) or ())
        return frozenset(i for i in every if (i in inside) == ("in" in condition))
    if "every" in condition:
        step = int(values.get(condition["every"]) or 0)
        return frozenset(i for i in every if step and (i + condition.get("shift", 0)) % step == 0)
    start = values.get(condition.get("from", ""), 0) or 0
    stop = values.get(condition.get("before", ""), pattern.count)
    return frozenset(i for i in every if i >= start and (stop is None or i < stop))


def _are_kinds(items: Sequence[Any]) -> bool:
    """Tell whether a list could name the kind of each block: words or whole numbers, not all alike."""
    return all(isinstance(item, (str, int)) for item in items) and len({str(item) for item in items}) > 1


def _runs(layers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the bounds of every run of blocks, as numbers."""
    for _, run in itertools.groupby(enumerate(layers), key=lambda item: item[1] - item[0]):
        held = [layer for _, layer in run]
        yield {"from": held[0], "before": held[-1] + 1} if held[0] else {"before": held[-1] + 1}
