"""Every binder against the real classes: paths, shapes, classes, nothing missed, slots one-to-one with rows."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest

from tests.model_types import MODEL_TYPES
from tests.proof.cases import CASES, CLASS_CASES, Case, case_of, is_linear, is_matrix
from ual_registry.air.roles import ROLES
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.describe import config_fields, rotary_structure
from ual_registry.binders.load import load_binders
from ual_registry.binders.slots import TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError

pytestmark = pytest.mark.filterwarnings("ignore")

OLDER_NAMES = {"embed_out"}
"""The head of GPT-NeoX before transformers 5.23; its adapters keep their tensors as extras."""

OLDER_TOWER = "_tower.vision_model."
"""What vision towers were called before transformers 5; test_editions proves these names."""

WITHOUT_ROLE = (
    ".query_global",
    ".key_global",
    ".value_global",
    ".relative_pos_embeddings",
    *(f".mamba.{name}" for name in ("in_proj", "x_proj", "dt_proj", "out_proj")),
    *(f".indexer.{name}" for name in ("wq_b", "wk", "weights_proj")),
    *(f".conv.{name}" for name in ("in_proj", "out_proj")),
    *(f".temporal_block.{name}" for name in ("linear_x", "linear_y", "linear_out")),
    *(f".rg_lru.{name}_gate_weight" for name in ("input", "recurrent")),
)
"""What no role describes in blocks: LED's global attention, ProphetNet's learned distances, what chooses the tokens of
DeepSeek's sparse attention, and what stands beside attention in hybrids: Mamba with a width of its own or of the second
kind, convolutions, recurrent units."""

LIGHTNING = (".self_attn.qkv_proj", ".self_attn.out_proj", ".self_attn.output_gate")
"""The same in MiniMax alone: its lightning attention, where keys and values have as many heads as queries."""

ARCHITECTURES = sorted({case.binder.architecture for case in CASES})


def stored_shape(target: TargetModule) -> tuple[int, ...]:
    """Return the shape that the config gives a module's weight."""
    first = [slot for slot in target.slots if slot.expert == target.slots[0].expert]
    shape = (sum(slot.out_features for slot in first), first[0].in_features)
    experts = {slot.expert for slot in target.slots}
    stored = shape[::-1] if target.is_conv1d or first[0].role == "token_embedding" else shape
    return (len(experts), *stored) if target.parameter else stored


def real_weight(target: TargetModule, modules: dict[str, Any]) -> Any:
    """Return the weight of a bound module in a real class; ``None`` where the class has no such module."""
    owner = modules.get(target.path.removesuffix(f".{target.parameter}") if target.parameter else target.path)
    return None if owner is None else getattr(owner, target.parameter or "weight", None)


@pytest.mark.parametrize(("case", "class_name"), CLASS_CASES, ids=case_of)
def test_every_module_of_a_binder_is_in_the_real_class(case: Case, class_name: str) -> None:
    modules, binding = case.empty_modules(class_name), case.binding(class_name)
    weights = {path: real_weight(target, modules) for path, target in binding.modules.items()}
    heads = {path for path, target in binding.modules.items() if target.slots[0].role == "lm_head"}

    assert {path for path, weight in weights.items() if weight is None} <= heads
    found = {path: tuple(weight.shape) for path, weight in weights.items() if weight is not None}
    assert found == {path: stored_shape(binding.modules[path]) for path in found}
    plain = {path for path in found if not binding.modules[path].parameter}
    assert {path for path in plain if not is_matrix(modules[path])} == set()
    conv1d = {path for path in plain if type(modules[path]).__name__ == "Conv1D"}
    assert conv1d == {path for path in plain if binding.modules[path].is_conv1d}
    assert all({slot.in_features for slot in binding.modules[path].slots} != set() for path in found)


def block_prefixes(binding: Binding) -> tuple[str, ...]:
    return tuple(binding.prefix + layout.path.partition("{layer}")[0] for layout in binding.binder.stacks)


@pytest.mark.parametrize(("case", "class_name"), CLASS_CASES, ids=case_of)
def test_a_binder_misses_no_linear_module_of_the_real_class(case: Case, class_name: str) -> None:
    modules, binding = case.empty_modules(class_name), case.binding(class_name)
    matrices = {path for path, module in modules.items() if is_matrix(module)}
    blocks = block_prefixes(binding)
    inside = {path for path in matrices if path.startswith(blocks) and is_linear(modules[path])}

    assert {path for path in matrices if not binding.knows(path)} == set()
    roleless = WITHOUT_ROLE + (LIGHTNING if case.model_type == "minimax" else ())
    assert {path for path in inside - binding.modules.keys() if not path.endswith(roleless)} == set()
    stacked = {
        f"{path}.{name}"
        for path, module in modules.items()
        if path.startswith(blocks) and "Conv" not in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3
    }
    assert {path for path in stacked - binding.modules.keys() if not path.endswith(WITHOUT_ROLE)} == set()


@pytest.mark.parametrize("case", [case for case in CASES if case.variant is None], ids=case_of)
def test_a_binder_lists_every_public_class_that_holds_the_blocks(case: Case) -> None:
    public, listed = set(case.public_classes()), set(case.kind.class_names)

    assert listed - public == set()
    assert case.kind.default_class in listed
    assert case.kind.partial.keys() <= listed
    for name in public - listed:
        paths = case.empty_modules(name).keys()
        assert not any(paths & case.binding(other).modules.keys() for other in listed), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_part_of_a_binder_is_found_in_some_real_class(architecture: str) -> None:
    cases = [(case, name) for case, name in CLASS_CASES if case.binder.architecture == architecture]
    cases.sort(key=lambda item: item[1] != item[0].kind.default_class)  # which hold the most
    binder = cases[0][0].binder
    assert [name for name in binder.model_types if all(case.model_type != name for case, _ in cases)] == []

    unused_modules = {
        (stack.name, module.full_path)
        for stack in binder.stacks
        for module in stack.modules
        if module.edition in {None, *binder.editions[:1]}  # test_editions has those of the older ones
    }
    unused_forms: set[tuple[str | None, str]] = {
        (name, form) for name, kind in binder.model_types.items() for form in kind.without_role
    }
    unused_forms |= {(None, form) for form in binder.without_role}
    unused_forms = {item for item in unused_forms if OLDER_TOWER not in item[1] and item[1] not in OLDER_NAMES}
    for case, name in cases:
        if not unused_modules and not unused_forms:
            break  # further classes could not find more
        binding = case.binding(name)
        unused_modules -= {used for used in unused_modules if _is_bound(used, binding)}
        paths = case.empty_modules(name).keys()
        known = (
            *((None, form) for form in binder.without_role),
            *((case.model_type, form) for form in case.kind.without_role),
        )
        used = zip(known, binding.without_role, strict=True)
        unused_forms -= {form for form, pattern in used if any(map(pattern.fullmatch, paths))}
    assert (unused_modules, unused_forms) == (set(), set())


def _is_bound(used: tuple[str | None, str], binding: Binding) -> bool:
    layout = next(stack for stack in binding.binder.stacks if stack.name == used[0])
    (module,) = {module.full_path: module for module in layout.modules if module.full_path == used[1]}.values()
    inside = (layout.module_path(path.removeprefix(binding.prefix)) for path in binding.modules)
    return any(path is not None and module.fits(path) for path in inside)


@pytest.mark.parametrize("case", CASES, ids=case_of)
def test_slots_and_rows_of_modules_are_one_to_one(case: Case) -> None:
    binding = case.binding()

    assert sum(len(target.slots) for target in binding.modules.values()) == len(binding.slots())
    for path, target in binding.modules.items():
        for expert in {slot.expert for slot in target.slots}:
            slots = [slot for slot in target.slots if slot.expert == expert]
            rows = [row for slot in slots for row in _rows(slot)]
            assert sorted(rows) == list(range(sum(slot.out_features for slot in slots))), path
            assert [len(_rows(slot)) for slot in slots] == [slot.out_features for slot in slots], path
            assert len({slot.in_features for slot in slots}) == 1, path
        assert {ROLES[slot.role].is_per_layer == (slot.layer is not None) for slot in target.slots} == {True}, path
        assert not any(form.fullmatch(path) for form in binding.without_role), path


def _rows(slot: Any) -> list[int]:
    runs = slot.rows.runs() if slot.rows else [(0, slot.out_features)]
    return [row for start, count in runs for row in range(start, start + count)]


@pytest.mark.parametrize("case", CASES, ids=case_of)
def test_modules_are_one_parameter_where_the_binder_ties_them(case: Case) -> None:
    modules, binding = case.empty_modules(case.kind.default_class), case.binding()
    fields = config_fields(binding.binder, case.base())
    weights = {
        target.slots[0].role: modules[path].weight
        for path, target in binding.modules.items()
        if target.slots[0].layer is None and path in modules
    }
    ties = [tie.roles for tie in binding.binder.tied if fields.satisfies_all(tie.when)]
    pairs = [tuple(sorted(pair)) for pair in itertools.combinations(weights, 2)]

    found = {pair for pair in pairs if weights[pair[0]] is weights[pair[1]]}
    assert found == {pair for pair in pairs if any({*pair} <= {*roles} for roles in ties)}


@pytest.mark.parametrize("case", [case for case in CASES if case.kind.defaults and not case.variant], ids=case_of)
def test_a_field_that_is_left_out_means_what_its_config_class_makes_of_it(case: Case) -> None:
    tiny, prefix = MODEL_TYPES[case.model_type], f"{case.kind.config}." if case.kind.config else ""
    for path in case.kind.defaults:
        *way, last = f"{prefix}{path}".split(".")
        settings = copy.deepcopy(dict(tiny.settings))
        _inside(settings, way).pop(last, None)
        document = json.loads(case.config_class(**settings).to_json_string(use_diff=False))
        whole = _facts(case, document)
        _inside(document, way).pop(last, None)
        assert _facts(case, document) == whole, path


def _inside(document: dict[str, Any], way: list[str]) -> dict[str, Any]:
    for part in way:
        document = document.get(part) or {}
    return document


def _facts(case: Case, document: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a config says to a binder, or why the binder refuses it."""
    config = BaseConfig(label="tiny", document=document, digest=Digest.of_bytes(b""))
    try:
        binding, fields = bind(config), config_fields(case.binder, config)
    except BinderDataError as error:
        return (error.message,)
    ties = [fields.satisfies_all(tie.when) for tie in case.binder.tied]
    return binding.base, binding.modules, ties, rotary_structure(binding.base, config)


def test_every_shipped_model_type_has_a_tiny_model() -> None:
    known = {name for binder in load_binders() for name in binder.model_types}
    assert known - {case.model_type for case in CASES} == set()
