"""Laws of binders: slots and (module path, rows) are one-to-one, and the slices of a fused module tile its rows.

The configs are random, and made from what a binder itself asks for: every field that it reads gets a value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ual_registry.air.roles import ROLES
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, apply_binder, bind_paths, fused_slots
from ual_registry.binders.describe import config_fields, describe
from ual_registry.binders.load import load_binders
from ual_registry.binders.model import Binder, Condition, ModelType
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError

BINDERS = {binder.architecture: binder for binder in load_binders()}
SIZES: dict[str, list[int]] = {
    "hidden_size": [24, 48],
    "num_layers": [1, 2, 4],
    "num_attention_heads": [2, 4],
    "num_key_value_heads": [1, 2],
    "num_experts": [1, 2, 3],
}
"""Values by dimension, such that heads divide the hidden size; the rest is one of ``OTHER``."""
OTHER = [2, 4, 6]

Fields = dict[str, st.SearchStrategy[Any]]


def parts(value: Any) -> Iterator[Any]:
    """Yield a part of a binder and everything inside it."""
    yield value
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    for item in inside:
        yield from parts(item)


def way_fields(way: Any) -> Iterator[str]:
    """Yield the fields whose number a way takes."""
    if isinstance(way, str):
        yield way
    elif isinstance(way, Mapping):
        ((operator, operands),) = way.items()
        for operand in operands[1:] if operator == "when" else operands if operator != "item" else ():
            yield from way_fields(operand)


def number_fields(binder: Binder) -> Fields:
    """Return the fields of dimensions, those of the first dimension that names one deciding."""
    found: Fields = {}
    ways = [(name, way) for stack in binder.stacks for name, ways in stack.dimensions.items() for way in ways]
    for name, way in (*ways, *(("vocab_size", way) for way in binder.vocab_size)):
        for field in way_fields(way):
            found.setdefault(field, st.sampled_from(SIZES.get(name, OTHER)))
    return found


def condition_fields(binder: Binder) -> Fields:
    """Return the fields of conditions, with values that satisfy some of them or none."""
    values: dict[str, list[Any]] = {}
    for part in parts(binder):
        if isinstance(part, Condition):
            values.setdefault(part.field, [None]).extend(part.values)
        elif isinstance(part, Mapping) and "field" in part:
            values.setdefault(part["field"], [None]).extend(part["values"])
    known = {field: st.sampled_from(list(of)) for field, of in binder.known_values.items()}
    return {field: st.sampled_from(of) for field, of in values.items()} | known


def list_fields(binder: Binder) -> Fields:
    """Return the fields that hold a list, and the bounds of blocks."""
    found: Fields = {}
    for condition in parts(
        [module.layers + module.unless_layers for stack in binder.stacks for module in stack.modules]
    ):
        for name in ("in", "not_in"):
            if isinstance(condition, Mapping) and name in condition:
                found[condition[name]] = st.none() | st.lists(st.integers(0, 4))
        for name in ("from", "before", "every"):
            for field in way_fields(condition.get(name)) if isinstance(condition, Mapping) else ():
                found[field] = st.integers(1, 3)
        if isinstance(condition, Mapping) and "item_of" in condition:
            kinds = st.sampled_from([*condition["values"], "other"])
            found[condition["item_of"]] = st.none() | st.lists(kinds, max_size=5)
    for part in parts(binder):
        if isinstance(part, Mapping) and "item" in part:
            found[part["item"][0]] = st.lists(st.sampled_from(OTHER), min_size=1, max_size=4)
    return found


FIELDS = {
    name: number_fields(binder) | condition_fields(binder) | list_fields(binder) for name, binder in BINDERS.items()
}
"""Every field that a binder reads, with its values."""


@st.composite
def configs(draw: st.DrawFn, binder: Binder) -> tuple[BaseConfig, str]:
    """Return a config of one of the model types of a binder, and one of its classes."""
    model_type = draw(st.sampled_from(sorted(binder.model_types)))
    kind = binder.model_types[model_type]
    document: dict[str, Any] = {}
    for field, values in FIELDS[binder.architecture].items():
        is_left_out = has_small_default(kind, field) and draw(st.booleans())
        if field != "model_type" and not is_left_out:
            put(document, f"{kind.config}.{field}" if kind.config else field, draw(values))
    document["model_type"] = model_type
    config = BaseConfig(label="random", document=document, digest=Digest.of_bytes(b""))
    return config, draw(st.sampled_from(kind.class_names))


def has_small_default(kind: ModelType, field: str) -> bool:
    """Tell whether a field has a default, and none that makes a model too large to look at every row."""
    value = kind.defaults.get(field)
    return field in kind.defaults and not (isinstance(value, int) and value > max(OTHER))


def put(document: dict[str, Any], field: str, value: Any) -> None:
    """Set a field, level by level; what is no object on the way stays as it is."""
    *levels, name = field.split(".")
    place: Any = document
    for level in levels:
        place = place.setdefault(level, {}) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.setdefault(name, value)


def bound(binder: Binder, config: BaseConfig, model_class: str | None = None, edition: str | None = None) -> Binding:
    """Apply a binder; a config that it refuses is no example."""
    try:
        return apply_binder(binder, config, model_class, edition=edition)
    except BinderDataError:
        assume(False)
        raise


def places(binding: Binding) -> list[tuple[tuple[Any, ...], tuple[str, int | None, int]]]:
    """Return ((stack, layer, role, expert), (path, expert, row)) for every row of every slot."""
    return [
        ((slot.stack, slot.layer, slot.role, slot.expert), (path, slot.expert, row))
        for path, module in binding.modules.items()
        for slot in module.slots
        for start, count in (slot.rows.runs() if slot.rows else [(0, slot.out_features)])
        for row in range(start, start + count)
    ]


relaxed = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


@pytest.mark.parametrize("architecture", BINDERS)
@given(data=st.data())
@relaxed
def test_slots_and_rows_of_modules_are_one_to_one(architecture: str, data: st.DataObject) -> None:
    binder = BINDERS[architecture]
    config, model_class = data.draw(configs(binder))
    edition = data.draw(st.sampled_from(binder.editions_of(config.model_type)))
    binding = bound(binder, config, model_class, edition)
    found = places(binding)

    assert len({place for _, place in found}) == len(found)  # no row belongs to two slots
    assert {key for key, _ in found} == binding.slots().keys()  # every slot has rows
    assert sum(len(module.slots) for module in binding.modules.values()) == len(binding.slots())
    for path, module in binding.modules.items():
        for expert in {slot.expert for slot in module.slots}:
            rows = sorted(row for _, (owner, of, row) in found if (owner, of) == (path, expert))
            widths = [slot.out_features for slot in module.slots if slot.expert == expert]
            assert rows == list(range(sum(widths)))  # slices tile exactly
        for slot in module.slots:
            assert slot.out_features == (slot.rows.rows if slot.rows else slot.out_features)
            assert ROLES[slot.role].is_per_layer == (slot.layer is not None)
            assert slot.expert is None or ROLES[slot.role].has_experts
        assert binding.knows(path)
        assert not any(form.fullmatch(path) for form in binding.without_role)


@pytest.mark.parametrize("architecture", BINDERS)
@given(data=st.data())
@relaxed
def test_a_binding_has_the_base_model_and_only_the_stacks_of_its_class(architecture: str, data: st.DataObject) -> None:
    binder = BINDERS[architecture]
    config, model_class = data.draw(configs(binder))
    binding = bound(binder, config, model_class)
    kind: ModelType = binder.model_types[config.model_type]
    assert binding.base == describe(binder, config_fields(binder, config))
    assert binding.prefix == kind.prefix_of(model_class)
    held = kind.partial.get(model_class, [stack.name for stack in binding.base.stacks])
    assert {slot.stack for module in binding.modules.values() for slot in module.slots} <= set(held)


@pytest.mark.parametrize("architecture", BINDERS)
@given(data=st.data())
@relaxed
def test_the_place_of_the_backbone_is_found_from_the_paths_of_a_model(architecture: str, data: st.DataObject) -> None:
    binder = BINDERS[architecture]
    config, model_class = data.draw(configs(binder))
    edition = data.draw(st.sampled_from(binder.editions_of(config.model_type)))
    paths = bound(binder, config, model_class, edition).modules
    again = bind_paths(config, paths)
    assert {path: again.modules[path] for path in paths} == paths


FUSED = [
    name
    for name, binder in BINDERS.items()
    if any(len(module.roles) > 1 and not module.has_experts for stack in binder.stacks for module in stack.modules)
]


@pytest.mark.parametrize("architecture", FUSED)
@given(data=st.data())
@relaxed
def test_the_slots_of_a_fused_module_are_found_from_the_manifest_alone(architecture: str, data: st.DataObject) -> None:
    binder = BINDERS[architecture]
    config, _ = data.draw(configs(binder))
    binding = bound(binder, config)
    for path, module in binding.modules.items():
        if len(module.slots) > 1 and module.parameter is None:
            held = {slot.role: slot.rows for slot in module.slots}
            slots = fused_slots(binding.base, module.slots[0].stack, path, held)
            assert [(slot.role, slot.rows) for slot in slots] == [(slot.role, slot.rows) for slot in module.slots]
