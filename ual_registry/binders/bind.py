"""A binder applied to one base model: every module path and the slots it fills, by exact look-up.

A slot is one (stack, layer, role, expert), with the rows that belong to it where the module is fused. The map between
slots and (module path, rows) is one-to-one; a property test holds every binder to that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ual_registry.air.model import BaseModel, RowSlice, Stack
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.describe import config_fields, describe
from ual_registry.binders.fields import ConfigFields
from ual_registry.binders.load import binder_for, load_binders
from ual_registry.binders.model import Binder, Module, OuterModule, StackLayout
from ual_registry.binders.slots import Slot, TargetModule, module_slots, outer_slot
from ual_registry.errors import AmbiguousArchitectureError, BinderDataError, UnresolvedModuleError

__all__ = ["Binding", "apply_binder", "bind", "bind_paths", "fused_slots"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A binder applied to a base model, for one place of the backbone.

    Attributes:
        binder: The binder.
        base: The base model, as the manifest describes it.
        prefix: Path of the backbone inside the model class.
        modules: Every module with a role, by its path.
        without_role: Forms of the paths of known modules that have no role.
        edition: The edition whose names the modules have; ``None`` where the binder has but one.
    """

    binder: Binder
    base: BaseModel
    prefix: str
    modules: Mapping[str, TargetModule]
    without_role: tuple[re.Pattern[str], ...]
    edition: str | None = None

    def knows(self, path: str) -> bool:
        """Tell whether ``path`` is a module of this model."""
        return path in self.modules or any(form.fullmatch(path) for form in self.without_role)

    def slots(self) -> dict[tuple[str | None, int | None, str, int | None], tuple[TargetModule, Slot]]:
        """Return every slot with its module, by (stack, layer, role, expert)."""
        return {
            (slot.stack, slot.layer, slot.role, slot.expert): (module, slot)
            for module in self.modules.values()
            for slot in module.slots
        }


def bind(config: BaseConfig, model_class: str | None = None, *, edition: str | None = None) -> Binding:
    """Apply the binder of a base model, with the backbone where ``model_class`` has it.

    Args:
        config: The model's config.
        model_class: A class that the binder lists; by default the one that the config names.
        edition: The edition whose names the modules have; by default the current one.

    Raises:
        UnknownArchitectureError: No binder knows the model type.
        BinderDataError: The model type has no such edition.
    """
    return apply_binder(binder_for(config.model_type), config, model_class, edition=edition)


def apply_binder(
    binder: Binder, config: BaseConfig, model_class: str | None = None, *, edition: str | None = None
) -> Binding:
    """Apply a given binder, shipped or not; see ``bind``.

    Raises:
        UnknownArchitectureError: The binder does not list the model type.
        BinderDataError: The config lacks a dimension, or has a value that the binder does not know.
    """
    fields = config_fields(binder, config)
    edition = _known_edition(binder, config.model_type, edition)
    named = (model_class, *config.model_classes, fields.kind.default_class)
    chosen = next(name for name in named if name is not None and fields.kind.prefix_of(name, edition) is not None)
    prefix = fields.kind.prefix_of(chosen, edition)
    assert prefix is not None  # chosen is a class that has one
    base = describe(binder, fields)
    return _bind(binder, fields, base, _Place(prefix, edition), fields.kind.partial.get(chosen))


def _known_edition(binder: Binder, model_type: str, edition: str | None) -> str | None:
    """Return an edition that a model type has; the current one where none is asked for."""
    known = binder.editions_of(model_type)
    if edition is None or edition in known:
        return edition or known[0]
    listed = ", ".join(name for name in known if name) or "none"
    raise BinderDataError(
        f"binder {binder.architecture}: model_type {model_type!r} has no edition {edition!r} (known: {listed})",
        context={"architecture": binder.architecture, "edition": edition},
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a backbone stands, and in which edition."""

    prefix: str
    edition: str | None


def _bind(
    binder: Binder, fields: ConfigFields, base: BaseModel, place: _Place, stacks: tuple[str, ...] | None = None
) -> Binding:
    prefix, edition = place.prefix, place.edition
    modules: dict[str, TargetModule] = {}
    for layout in binder.stacks:
        stack = base.stack(layout.name)
        assert stack is not None  # describe makes one stack for each layout
        if stacks is None or layout.name in stacks:
            for target in _block_modules(layout, stack, base, fields, place):
                modules[target.path] = target
    for outer in binder.outer:
        stack = base.stack(outer.stack) or base.stacks[0]
        if _exists(outer, fields, edition) and (stacks is None or stack.name in stacks):
            path = (prefix if outer.within == "backbone" else "") + outer.path
            slot = outer_slot(outer.role, stack, base)
            modules[path] = TargetModule(path=path, slots=(slot,))
    others = tuple(_form(path, prefix) for path in (*binder.without_role, *fields.kind.without_role))
    return Binding(binder=binder, base=base, prefix=prefix, modules=modules, without_role=others, edition=edition)


def _form(path: str, prefix: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\{backbone\}", re.escape(prefix)).replace(r"\{index\}", "[0-9]+"))


def _exists(module: Module | OuterModule, fields: ConfigFields, edition: str | None) -> bool:
    return module.edition in (None, edition) and fields.holds(module)


def _block_modules(
    layout: StackLayout, stack: Stack, base: BaseModel, fields: ConfigFields, place: _Place
) -> Iterator[TargetModule]:
    for module in layout.modules:
        if _exists(module, fields, place.edition):
            for layer in fields.blocks(module, stack.num_layers):
                before = place.prefix + layout.path.replace("{layer}", str(layer))
                yield from _targets(module, stack, base, layer, before)


def _targets(module: Module, stack: Stack, base: BaseModel, layer: int, before: str) -> Iterator[TargetModule]:
    """Yield the target modules of one block: one, or one for each expert."""
    experts: range | tuple[None] = range(stack.num_experts or 0) if module.has_experts else (None,)
    slots = [tuple(module_slots(module, stack, base, layer, expert)) for expert in experts]
    is_conv1d = module.weight == "conv1d"
    if module.parameter is not None and slots:
        every = tuple(slot for of_expert in slots for slot in of_expert)
        path = before + module.full_path
        yield TargetModule(path=path, slots=every, is_conv1d=is_conv1d, parameter=module.parameter)
        return
    for expert, filled in zip(experts, slots, strict=True):
        path = before + module.path.replace("{expert}", str(expert))
        yield TargetModule(path=path, slots=filled, is_conv1d=is_conv1d)


def bind_paths(config: BaseConfig, paths: Iterable[str]) -> Binding:
    """Apply the binder of a base model, with the backbone where the given module paths have it, in their edition.

    Args:
        config: The model's config.
        paths: Module paths of an adapter.

    Raises:
        UnknownArchitectureError: No binder knows the model type.
        UnresolvedModuleError: Paths are no modules of this model, wherever the backbone stands; all are named.
    """
    binder = binder_for(config.model_type)
    fields = config_fields(binder, config)
    wanted = list(paths)
    best = _best(binder, fields, wanted)
    unknown = [path for path in wanted if not best.knows(path)]
    if unknown:
        raise _unresolved(unknown, best, config)
    return best


def _best(binder: Binder, fields: ConfigFields, wanted: list[str]) -> Binding:
    """Return the binding under which the most paths are modules, the likeliest where several are equal."""
    base, bindings = describe(binder, fields), []
    for place in _places(binder, fields):
        bindings.append(_bind(binder, fields, base, place))
        if all(path in bindings[-1].modules for path in wanted):
            return bindings[-1]  # none can have more
    return max(bindings, key=lambda binding: sum(path in binding.modules for path in wanted))


def _places(binder: Binder, fields: ConfigFields) -> Iterator[_Place]:
    """Yield every place that a backbone can have, the likeliest first."""
    for edition in binder.editions_of(fields.config.model_type):
        first = fields.kind.prefix_of(fields.kind.default_class, edition)
        for prefix in sorted(fields.kind.classes_in(edition), key=lambda prefix: (prefix != first, prefix)):
            yield _Place(prefix, edition)


def fused_slots(
    base: BaseModel, stack_name: str | None, path: str, held: Mapping[str, RowSlice | None]
) -> tuple[Slot, ...]:
    """Return the slots of the fused module at ``path``.

    Args:
        base: The base model.
        stack_name: The stack that the module belongs to.
        path: Its module path.
        held: Rows by role, as far as they are known; they tell apart the forms that one path can have, where it can
            have several.

    Raises:
        UnresolvedModuleError: The architecture has no fused module there that holds these rows.
        AmbiguousArchitectureError: It has several, which differ in other rows.
    """
    binder = binder_for(base.model_type)
    stack = base.stack(stack_name)
    forms = {
        tuple(module_slots(module, stack, base, 0, None))
        for module in binder.fused_modules(stack_name, path)
        if stack is not None and not module.has_experts
    }
    fitting = [slots for slots in forms if held.items() <= {slot.role: slot.rows for slot in slots}.items()]
    if len(fitting) == 1 or len(forms) == 1:
        return (fitting or list(forms))[0]
    if fitting:
        raise AmbiguousArchitectureError(
            f"{path}: architecture {binder.architecture} has several forms of this module, and the rows that are there "
            "do not tell which",
            context={"module": path},
        )
    raise UnresolvedModuleError(
        f"{path}: architecture {binder.architecture} has no fused module there", context={"module": path}
    )


def _unresolved(paths: list[str], binding: Binding, config: BaseConfig) -> UnresolvedModuleError:
    path, binder = paths[0], binding.binder
    if binder.has_relative_path(path):
        layers = ", ".join(str(stack.num_layers) for stack in binding.base.stacks)
        message = f"{path}: no such module in {config.label}, which has {layers} layers"
        hint = "the base model is not the one that the adapter was trained on"
    else:
        fitting = ", ".join(other.architecture for other in load_binders() if other.has_relative_path(path))
        message = f"{path}: no such module in architecture {binder.architecture} (model_type {config.model_type!r})"
        hint = f"this path fits: {fitting or 'no known architecture'}; give the base model of the adapter"
    if len(paths) > 1:
        shown = ", ".join(paths[1:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
        message += f"; nor are {len(paths) - 1} more: {shown}"
    return UnresolvedModuleError(message, context={"module": path, "architecture": binder.architecture}, hint=hint)


_SHOWN = 6
"""How many unknown paths a message names."""
