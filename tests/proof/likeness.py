"""Compare two binders of one model type on real configs: what differs, by aspect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tests.proof.cases import Case, is_matrix
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, apply_binder
from ual_registry.binders.describe import config_fields, describe
from ual_registry.binders.model import Binder
from ual_registry.errors import BinderError

__all__ = ["differences"]

Place = tuple[str | None, int | None, str, int | None]


def differences(one: Binder, other: Binder, case: Case, base: BaseConfig, resized: list[BaseConfig]) -> list[str]:
    """Return the aspects in which two binders say different things of the same models.

    ``slots``: the map (stack, layer, role, expert) <-> (path, rows), with sizes and storage, of the default class.
    ``without_role``: which matrices of that class have no role, and whether both know them.
    ``dimensions``: their values on the config and on every resized one.
    ``classes``: where the blocks stand in every public class. ``rotary`` and ``norms``: as the words say.

    Args:
        one: A binder that names only classes that transformers has.
        other: The binder to compare with.
        case: The model type.
        base: Its config.
        resized: Its config with other sizes.
    """
    class_name = case.kind.default_class
    matrices = {path for path, module in case.empty_modules(class_name).items() if is_matrix(module)}
    bound = [apply_binder(binder, base, class_name) for binder in (one, other)]
    aspects = {
        "slots": [_slots(binding, matrices) for binding in bound],
        "without_role": [_without_role(binding, matrices) for binding in bound],
        "dimensions": [[_sizes(binder, config) for config in (base, *resized)] for binder in (one, other)],
        "classes": [_classes(binder, case) for binder in (one, other)],
        "rotary": [_rotary(binder, base) for binder in (one, other)],
        "norms": [asdict(binder.norms_of(case.model_type)) for binder in (one, other)],
    }
    return [aspect for aspect, (first, second) in aspects.items() if first != second]


def _slots(binding: Binding, matrices: set[str]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}
    for path, module in binding.modules.items():
        if path in matrices or module.parameter is not None:
            for slot in module.slots:
                runs = list(slot.rows.runs()) if slot.rows else [(0, slot.out_features)]
                rows = [row for start, count in runs for row in range(start, start + count)]
                stored = (module.is_conv1d, module.parameter)
                found[slot.stack, slot.layer, slot.role, slot.expert] = (path, rows, slot.in_features, stored)
    return found


def _without_role(binding: Binding, matrices: set[str]) -> set[tuple[str, bool]]:
    return {(path, binding.knows(path)) for path in matrices if path not in binding.modules}


def _sizes(binder: Binder, config: BaseConfig) -> Any:
    """Return the dimensions, with the widths that are left out where they are the usual ones."""
    try:
        described = describe(binder, config_fields(binder, config))
    except BinderError as error:
        return error.code
    return [_filled(asdict(stack)) for stack in described.stacks], described.vocab_size


def _filled(sizes: Mapping[str, Any]) -> dict[str, Any]:
    filled = dict(sizes)
    filled["embedding_size"] = sizes["embedding_size"] or sizes["hidden_size"]
    filled["value_head_dim"] = sizes["value_head_dim"] or sizes["head_dim"]
    if sizes["num_experts"]:
        filled["expert_intermediate_size"] = sizes["expert_intermediate_size"] or sizes["intermediate_size"]
    return filled


def _classes(binder: Binder, case: Case) -> dict[str, list[tuple[str | None, str]]]:
    kind, public = binder.model_types[case.model_type], {*case.public_classes(), case.kind.default_class}
    return {name: list(_blocks(binder, case, name)) for name in kind.class_names if name in public}


def _blocks(binder: Binder, case: Case, class_name: str) -> Iterator[tuple[str | None, str]]:
    """Yield where the blocks of each stack of a class stand, wherever its backbone is said to begin."""
    kind = binder.model_types[case.model_type]
    prefix = kind.prefix_of(class_name) or ""
    for stack in binder.stacks:
        if stack.name is None or stack.name in kind.partial.get(class_name, (stack.name,)):
            yield stack.name, (prefix + stack.path).partition("{layer}")[0]


def _rotary(binder: Binder, base: BaseConfig) -> tuple[str, int]:
    fields, rotary = config_fields(binder, base), binder.rotary_of(base.model_type)
    head_dim = describe(binder, fields).stacks[-1].head_dim or 0
    if rotary.style == "none" or not fields.satisfies_all(rotary.when):
        return "none", 0
    return rotary.style, int(head_dim * fields.number(rotary.fraction, what="rotary fraction"))
