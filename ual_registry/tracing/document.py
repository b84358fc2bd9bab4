"""Write down what was inferred as a binder document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.binders.model import Way
from ual_registry.tracing.build import Builder
from ual_registry.tracing.classes import Classes
from ual_registry.tracing.defaults import default_of
from ual_registry.tracing.dimensions import Solution
from ual_registry.tracing.fields import fields_of
from ual_registry.tracing.gather import FoundModule
from ual_registry.tracing.layering import Pattern, layer_conditions
from ual_registry.tracing.measure import blocks_in
from ual_registry.tracing.outer import OuterPlace
from ual_registry.tracing.stacks import FoundStack
from ual_registry.tracing.survey import Matrix

__all__ = ["Model", "make_document", "stack_ways"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A flattened config and the matrices of its model."""

    values: Mapping[str, Any]
    matrices: Mapping[str, Matrix]


def make_document(
    builder: Builder,
    stacks: Sequence[FoundStack],
    solutions: Sequence[Solution],
    outside: Solution,
    classes: Classes,
    *,
    places: Sequence[OuterPlace],
    tied: Sequence[Mapping[str, Any]],
    models: Sequence[Model],
    known_values: Mapping[str, list[Any]],
) -> dict[str, Any]:
    """Return the binder document.

    Args:
        builder: Names model type and class.
        stacks: The stacks.
        solutions: The ways of each stack's dimensions.
        outside: The ways of what stands outside the blocks.
        classes: Where the backbone stands.
        places: The modules with a role outside the blocks.
        tied: Roles that share a parameter.
        models: The tiny model and the whole one.
        known_values: Fields that must keep the value that was watched.
    """
    rotary, ways = _rotary(stacks, solutions), [stack_ways(item) for item in solutions]
    document = {
        "binder_version": "1.0",
        "architecture": re.sub(r"[^a-z0-9_-]", "_", builder.model_type.lower()),
        "model_types": {},
        **({"known_values": dict(known_values)} if known_values else {}),
        "vocab_size": [outside.ways.get("vocab_size", "vocab_size")],
        "rotary": rotary,
        "norms": dict(stacks[-1].norms),
        **({"tied": list(tied)} if tied else {}),
        "stacks": [_stack(stack, found, classes.prefix, models) for stack, found in zip(stacks, ways, strict=True)],
        "outer": list(_outer(places, classes)),
        "without_role": list(classes.others),
    }
    document["model_types"] = {builder.model_type: _model_type(builder, classes, document)}
    return document


def stack_ways(solution: Solution) -> dict[str, list[Way]]:
    """Return the ways of a stack's dimensions; a number stands for what no way explains."""
    ways = {**solution.unsolved, **solution.ways}
    ways.pop("rotary_fraction", None)
    if "layer_repeats" in solution.unsolved:
        del ways["layer_repeats"]  # a module that runs on two streams, not a block that is applied again
    if "expert_intermediate_size" in ways and "intermediate_size" not in ways:
        ways["intermediate_size"] = ways.pop("expert_intermediate_size")
    for narrower, usual in (("expert_intermediate_size", "intermediate_size"), ("embedding_size", "hidden_size")):
        if narrower in ways and ways[narrower] == ways.get(usual):
            del ways[narrower]
    return {name: [way, *_second(solution, name)] for name, way in ways.items()}


def _second(solution: Solution, name: str) -> list[Way]:
    return [solution.fallbacks[name]] if name in solution.fallbacks else []


def _rotary(stacks: Sequence[FoundStack], solutions: Sequence[Solution]) -> dict[str, Any]:
    seen = stacks[-1].rotary
    if seen.style == "none":
        return {"style": "none"}
    solution = solutions[-1]
    way = solution.unsolved.get("rotary_fraction", 1) if solution.fraction is None else solution.fraction
    return {"style": seen.style, "fraction": [way]}


def _stack(stack: FoundStack, ways: Mapping[str, list[Way]], prefix: str, models: Sequence[Model]) -> dict[str, Any]:
    named = {} if stack.name is None else {"name": stack.name}
    return named | {
        "path": stack.root.removeprefix(prefix) + "{layer}.",
        "dimensions": ways,
        "modules": [entry for module in stack.modules for entry in _entries(module, models)],
    }


def _entries(module: FoundModule, models: Sequence[Model]) -> Iterator[dict[str, Any]]:
    entry: dict[str, Any] = {"path": module.path, "roles": list(module.rows)}
    if module.parameter is not None:
        entry["parameter"] = module.parameter
    if module.weight == "conv1d":
        entry["weight"] = "conv1d"
    if module.layout is not None:
        entry["layout"] = module.layout
    if module.when:
        entry["when"] = [{"field": name, "values": [value]} for name, value in module.when.items()]
    for condition in layer_conditions(_patterns(module, models)):
        yield entry | condition


def _patterns(module: FoundModule, models: Sequence[Model]) -> list[Pattern]:
    """Return which blocks hold a module, in the models that have it."""
    if module.is_elsewhere:
        count = len(blocks_in(module.root, models[0].matrices))
        return [Pattern(layers=frozenset(module.layers), count=count, values=module.values)]
    return [_pattern(module, model) for model in models]


def _pattern(module: FoundModule, model: Model) -> Pattern:
    """Return which blocks of a model hold a module."""
    count = len(blocks_in(module.root, model.matrices))
    held = frozenset(layer for layer in range(count) if module.path_in(layer) in model.matrices)
    return Pattern(layers=held, count=count, values=model.values)


def _outer(places: Sequence[OuterPlace], classes: Classes) -> Iterator[dict[str, Any]]:
    for place in places:
        role, path = place.role, place.path
        inside = path.removeprefix(classes.prefix)
        is_inside = path.startswith(classes.prefix) and inside in classes.backbone
        entry = {"path": inside if is_inside else path, "role": role, "within": "backbone" if is_inside else "model"}
        if place.stack is not None:
            entry["stack"] = place.stack
        yield entry


def _model_type(builder: Builder, classes: Classes, document: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "default_class": builder.model_class.__name__,
        "classes": dict(sorted(classes.by_prefix.items())),
    }
    if classes.partial:
        found["partial"] = dict(classes.partial)
    defaults = {
        name: value for name in _used(document) if (value := default_of(builder.config_class, name)) is not None
    }
    if defaults:
        found["defaults"] = defaults
    return found


def _used(document: Mapping[str, Any]) -> list[str]:
    """Return every field that the document reads."""
    names: dict[str, None] = {}
    ways = [document["vocab_size"], document["rotary"].get("fraction", [])]
    ways += [way for stack in document["stacks"] for way in stack["dimensions"].values()]
    for way in itertools.chain.from_iterable(ways):
        names |= dict.fromkeys(fields_of(way))
    modules = [module for stack in document["stacks"] for module in stack["modules"]]
    for condition in (
        item for module in modules for key in ("layers", "unless_layers") for item in module.get(key, [])
    ):
        names |= dict.fromkeys(value for value in condition.values() if isinstance(value, str))
    for item in (*document.get("tied", []), *modules):
        names |= dict.fromkeys(condition["field"] for condition in item.get("when", []))
    names |= dict.fromkeys(document.get("known_values", {}))
    return list(names)
