"""What a binder document says in words: conditions on a config, on the index of a block, and ways to a number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ual_registry.binders.model import Condition, Module, OuterModule

__all__ = ["blocks_text", "conditions_text", "existence_text", "ways_text"]


def existence_text(item: Module | OuterModule) -> str:
    """Say when a module exists, its model type left out; empty where it always does."""
    when, unless = (
        [condition for condition in conditions if condition.field != "model_type"]
        for conditions in (item.when, item.unless)
    )
    parts = [conditions_text("if ", when), conditions_text("unless ", unless)]
    if isinstance(item, Module):
        parts += [_layers("in blocks ", item.layers), _layers("except in blocks ", item.unless_layers)]
    return ", ".join(filter(None, parts))


def conditions_text(word: str, conditions: Sequence[Condition]) -> str:
    """Say what fields of the config must be, after ``word``; empty where nothing is asked."""
    texts = [f"{item.field} is {_any_of(item.values)}" for item in conditions]
    return word + " and ".join(texts) if texts else ""


def _layers(word: str, conditions: Sequence[Mapping[str, Any]]) -> str:
    return word + " and ".join(map(_layer_condition, conditions)) if conditions else ""


def _layer_condition(condition: Mapping[str, Any]) -> str:
    if "in" in condition:
        return f"that {condition['in']} lists"
    if "not_in" in condition:
        return f"that {condition['not_in']} does not list"
    if "item_of" in condition:
        return f"whose item of {condition['item_of']} is {_any_of(condition['values'])}"
    if "every" in condition:
        shift = f" + {condition['shift']}" if condition.get("shift") else ""
        return f"whose index{shift} is a multiple of {_way(condition['every'])}"
    bounds = [f"{word} {_way(condition[key])}" for key, word in _BOUNDS.items() if key in condition]
    return f"whose index is {' and '.join(bounds)}"


_BOUNDS = {"from": "at least", "before": "below"}


def _any_of(values: Iterable[Any]) -> str:
    return " or ".join(value if isinstance(value, str) and value else json.dumps(value) for value in values)


def blocks_text(blocks: Sequence[int]) -> str:
    """Write the indices of blocks, ranges as such.

    >>> blocks_text((0, 1, 2, 5, 7, 8))
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def ways_text(ways: Sequence[Any], model_type: str) -> str:
    """Write the ways to a number in their order, without those that are for other model types."""
    own = [way for way in ways if not _is_for_another(way, model_type)]
    return " or ".join(_top(_without_type(way)) for way in own)


def _top(way: Any) -> str:
    """Write a way that stands alone; a condition keeps its brackets, so that ``or`` cannot be read into it."""
    text = _way(way)
    return text if isinstance(way, Mapping) and "when" in way else _bare(text)


def _asks_type(way: Any) -> bool:
    return isinstance(way, Mapping) and "when" in way and way["when"][0]["field"] == "model_type"


def _is_for_another(way: Any, model_type: str) -> bool:
    return _asks_type(way) and model_type not in way["when"][0]["values"]


def _without_type(way: Any) -> Any:
    return way["when"][1] if _asks_type(way) else way


_SIGNS = {"quotient": "/", "product": "*", "sum": "+"}


def _way(way: Any) -> str:
    if not isinstance(way, Mapping):
        return f"{way:g}" if isinstance(way, float) else str(way)
    operator, (left, right) = next(iter(way.items()))
    if operator == "item":
        return f"{left}[{right}]"
    if operator == "when":
        return f"({_bare(_way(right))} if {left['field']} is {_any_of(left['values'])})"
    return f"({_way(left)} {_SIGNS[operator]} {_way(right)})"


def _bare(text: str) -> str:
    """Take off the brackets around the whole of a formula."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
