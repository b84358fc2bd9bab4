"""A binder applied to one base model: every module path and the slots it fills, by exact look-up.

A slot is one (stack, layer, role), with the rows that belong to it where the module is fused. The map between slots
and (module path, rows) is one-to-one; a property test holds every binder to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ual_registry.air.model import BaseModel, RowSlice, Stack
from ual_registry.air.roles import ROLES, axis_size
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.load import binder_for, load_binders
from ual_registry.binders.model import Binder, Module, StackLayout
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, UnknownArchitectureError, UnresolvedModuleError

__all__ = [
    "Binding",
    "RotaryStructure",
    "Slot",
    "TargetModule",
    "apply_binder",
    "bind",
    "bind_paths",
    "describe_base",
    "fused_slots",
    "rotary_structure",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One (stack, layer, role) of a base model.

    Attributes:
        stack: ``encoder``, ``decoder``, or ``None``.
        layer: Index of the block; ``None`` outside the blocks.
        role: A role name.
        in_features: What the slot reads.
        out_features: What the slot writes.
        rows: Its rows in a fused module; ``None`` where the module is the slot.
    """

    stack: str | None
    layer: int | None
    role: str
    in_features: int
    out_features: int
    rows: RowSlice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetModule:
    """A linear module of a base model and the slots it fills, in the order of its rows."""

    path: str
    slots: tuple[Slot, ...]
    is_conv1d: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryStructure:
    """What must agree for rotated rows to mean the same: pairing style, head width, rotated features per head."""

    style: str
    head_dim: int
    rotated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A binder applied to a base model, for one place of the backbone.

    Attributes:
        binder: The binder.
        prefix: Path of the backbone inside the model class.
        modules: Every module with a role, by its path.
        without_role: Paths of known modules that have no role.
    """

    binder: Binder
    prefix: str
    modules: Mapping[str, TargetModule]
    without_role: frozenset[str]

    def knows(self, path: str) -> bool:
        """Tell whether ``path`` is a module of this model."""
        return path in self.modules or path in self.without_role

    def slots(self) -> dict[tuple[str | None, int | None, str], tuple[TargetModule, Slot]]:
        """Return every slot with its module, by (stack, layer, role)."""
        return {
            (slot.stack, slot.layer, slot.role): (module, slot)
            for module in self.modules.values()
            for slot in module.slots
        }


def describe_base(config: BaseConfig, *, id: str | None = None, revision: str | None = None) -> BaseModel:
    """Describe a base model as the manifest does.

    Args:
        config: The model's config.
        id: Its label; the folder's name where absent.
        revision: Its commit, where known.

    Raises:
        UnknownArchitectureError: No binder knows the model type.
        BinderDataError: The config lacks a dimension.
    """
    return _describe(binder_for(config.model_type), config, id=id, revision=revision)


def _describe(binder: Binder, config: BaseConfig, *, id: str | None = None, revision: str | None = None) -> BaseModel:
    return BaseModel(
        id=id or config.label,
        revision=revision,
        architecture=binder.architecture,
        model_type=config.model_type,
        config_digest=str(config.digest),
        vocab_size=_whole(config, binder.vocab_size, "vocab_size"),
        stacks=tuple(_stack(layout, config) for layout in binder.stacks),
    )


_MAX_LAYERS = 10_000
_MAX_SIZE = 2**31 - 1


def _stack(layout: StackLayout, config: BaseConfig) -> Stack:
    sizes = {name: _whole(config, ways, name) for name, ways in layout.dimensions.items()}
    return Stack(name=layout.name, **sizes)


def _whole(config: BaseConfig, ways: tuple[object, ...], what: str) -> int:
    value = config.number(ways, what=what)
    if value % 1:
        raise BinderDataError(f"config of {config.label}: {what} is {value}, expected a whole number")
    limit = _MAX_LAYERS if what == "num_layers" else _MAX_SIZE
    if value > limit:
        raise BinderDataError(f"config of {config.label}: {what} is {value}, over the limit of {limit}")
    return int(value)


def rotary_structure(base: BaseModel, config: BaseConfig | None = None) -> RotaryStructure:
    """Return the rotary structure of a base model's (first) stack.

    Args:
        base: The base model.
        config: Its config, where it is at hand; otherwise the architecture's usual rotary fraction is taken.
    """
    binder = binder_for(base.model_type)
    head_dim = base.stacks[0].head_dim
    if binder.rotary.style == "none":
        return RotaryStructure(style="none", head_dim=head_dim, rotated=0)
    source = config or BaseConfig(label=base.id, document={}, digest=Digest.parse(base.config_digest))
    fraction = source.number(binder.rotary.fraction, what="rotary fraction")
    return RotaryStructure(style=binder.rotary.style, head_dim=head_dim, rotated=int(head_dim * fraction))


def bind(config: BaseConfig, model_class: str | None = None) -> Binding:
    """Apply the binder of a base model, with the backbone where ``model_class`` has it.

    Args:
        config: The model's config.
        model_class: A class that the binder lists; by default the one that the config names.

    Raises:
        UnknownArchitectureError: No binder knows the model type.
    """
    return apply_binder(binder_for(config.model_type), config, model_class)


def apply_binder(binder: Binder, config: BaseConfig, model_class: str | None = None) -> Binding:
    """Apply a given binder, shipped or not; see ``bind``.

    Raises:
        UnknownArchitectureError: The binder does not list the model type.
        BinderDataError: The config lacks a dimension.
    """
    if config.model_type not in binder.model_types:
        raise UnknownArchitectureError(
            f"binder {binder.architecture!r} is not for model_type {config.model_type!r} "
            f"(known: {', '.join(binder.model_types)})",
            context={"model_type": config.model_type},
        )
    named = (model_class, *config.model_classes, binder.default_class)
    chosen = next(name for name in named if name is not None and name in binder.classes)
    return _bind(binder, config, binder.classes[chosen])


def _bind(binder: Binder, config: BaseConfig, prefix: str) -> Binding:
    base = _describe(binder, config)
    modules: dict[str, TargetModule] = {}
    for layout in binder.stacks:
        stack = base.stack(layout.name)
        assert stack is not None  # describe_base makes one stack for each layout
        for module in layout.modules:
            if _exists(module, config):
                for layer in range(stack.num_layers):
                    path = prefix + layout.path.format(layer=layer) + module.path
                    slots = tuple(_slots(module, stack, base, layer))
                    modules[path] = TargetModule(path=path, slots=slots, is_conv1d=module.weight == "conv1d")
    for outer in binder.outer:
        path = (prefix if outer.within == "backbone" else "") + outer.path
        stack = base.stack(outer.stack) or base.stacks[0]
        modules[path] = TargetModule(path=path, slots=(_slot(outer.role, stack, base, None),))
    others = frozenset(path.format(backbone=prefix) for path in binder.without_role)
    return Binding(binder=binder, prefix=prefix, modules=modules, without_role=others)


def _exists(module: Module, config: BaseConfig) -> bool:
    return (module.when is None or config.satisfies(module.when)) and (
        module.unless is None or not config.satisfies(module.unless)
    )


def _slots(module: Module, stack: Stack, base: BaseModel, layer: int) -> Iterator[Slot]:
    whole = [_slot(role, stack, base, layer) for role in module.roles]
    if len(whole) == 1:
        yield whole[0]
        return
    for index, slot in enumerate(whole):
        yield replace(slot, rows=_LAYOUTS[module.layout or "contiguous"](whole, index, stack))


def _slot(role_name: str, stack: Stack, base: BaseModel, layer: int | None) -> Slot:
    role = ROLES[role_name]
    return Slot(
        stack=stack.name,
        layer=layer,
        role=role_name,
        in_features=axis_size(role.in_axis, stack, encoder=base.encoder, vocab_size=base.vocab_size),
        out_features=axis_size(role.out_axis, stack, encoder=base.encoder, vocab_size=base.vocab_size),
    )


def _contiguous(slots: list[Slot], index: int, _: Stack) -> RowSlice:
    """[q | k | v]: one block per role, one after the other (GPT-2's c_attn)."""
    rows = slots[index].out_features
    return RowSlice(offset=sum(slot.out_features for slot in slots[:index]), block=rows, stride=rows, count=1)


def _per_head(slots: list[Slot], index: int, stack: Stack) -> RowSlice:
    """[head, (q, k, v), head_dim]: one block per head and role (GPT-NeoX's query_key_value)."""
    width = stack.head_dim
    return RowSlice(offset=index * width, block=width, stride=len(slots) * width, count=stack.num_attention_heads)


_LAYOUTS = {"contiguous": _contiguous, "per_head": _per_head}


def bind_paths(config: BaseConfig, paths: Iterable[str]) -> Binding:
    """Apply the binder of a base model, with the backbone where the given module paths have it.

    Args:
        config: The model's config.
        paths: Module paths of an adapter.

    Raises:
        UnknownArchitectureError: No binder knows the model type.
        UnresolvedModuleError: A path is no module of this model, wherever the backbone stands.
    """
    binder = binder_for(config.model_type)
    wanted = list(paths)
    bindings = [_bind(binder, config, prefix) for prefix in binder.prefixes]
    best = max(bindings, key=lambda binding: sum(path in binding.modules for path in wanted))
    for path in wanted:
        if not best.knows(path):
            raise _unresolved(path, best, config)
    return best


def fused_slots(base: BaseModel, stack_name: str | None, path: str) -> tuple[tuple[Slot, ...], bool]:
    """Return the slots of the fused module at ``path``, and whether its weight is stored transposed (Conv1D).

    Args:
        base: The base model.
        stack_name: The stack that the module belongs to.
        path: Its module path.

    Raises:
        UnresolvedModuleError: The architecture has no fused module there.
    """
    binder = binder_for(base.model_type)
    stack = base.stack(stack_name)
    for layout in binder.stacks:
        for module in layout.modules:
            if (
                stack is not None
                and layout.name == stack_name
                and len(module.roles) > 1
                and path.endswith(f".{module.path}")
            ):
                return tuple(_slots(module, stack, base, 0)), module.weight == "conv1d"
    raise UnresolvedModuleError(
        f"{path}: architecture {binder.architecture} has no fused module there", context={"module": path}
    )


def _unresolved(path: str, binding: Binding, config: BaseConfig) -> UnresolvedModuleError:
    binder = binding.binder
    if binder.has_relative_path(path):
        layers = ", ".join(str(stack.num_layers) for stack in describe_base(config).stacks)
        message = f"{path}: no such module in {config.label}, which has {layers} layers"
        hint = "the base model is not the one that the adapter was trained on"
    else:
        fitting = ", ".join(other.architecture for other in load_binders() if other.has_relative_path(path))
        message = f"{path}: no such module in architecture {binder.architecture} (model_type {config.model_type!r})"
        hint = f"this path fits: {fitting or 'no known architecture'}; give the base model of the adapter"
    return UnresolvedModuleError(message, context={"module": path, "architecture": binder.architecture}, hint=hint)
