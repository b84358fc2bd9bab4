"""A binder document as frozen dataclasses; see ``schemas/1.0/binder.json`` for each field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Binder",
    "Condition",
    "LayerCondition",
    "ModelType",
    "Module",
    "Norms",
    "OuterModule",
    "Rotary",
    "StackLayout",
    "Tie",
    "Way",
]

Way = Any
"""A config field, a number, a quotient, product, sum or item of them, or a way that counts only under a condition."""

LayerCondition = Mapping[str, Any]
"""A condition on the index of a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """True for configs whose ``field`` has one of ``values``."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One linear module of a block, or one parameter that holds a matrix per expert.

    Attributes:
        path: Path inside the block; ``{expert}`` stands for the index of an expert.
        parameter: Name of a parameter of shape (experts, out, in) of that module.
        roles: Its role; several for a fused module, in the order of its rows.
        layout: ``contiguous``, ``per_head``, ``grouped`` or ``interleaved`` for a fused module.
        weight: ``linear`` stores (out, in), ``conv1d`` stores (in, out); factors are the same for both.
        when: The module exists only in models that satisfy all of these.
        unless: The module does not exist in models that satisfy all of these.
        layers: The module exists only in blocks that satisfy all of these.
        unless_layers: The module does not exist in blocks that satisfy all of these.
        gguf: Name of the tensor in GGUF, with ``{layer}``.
        edition: The module exists only in this edition; in all where absent.
    """

    path: str
    parameter: str | None = None
    roles: tuple[str, ...]
    layout: str | None = None
    weight: str = "linear"
    when: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()
    layers: tuple[LayerCondition, ...] = ()
    unless_layers: tuple[LayerCondition, ...] = ()
    gguf: str | None = None
    edition: str | None = None

    @property
    def full_path(self) -> str:
        """The path inside the block, with the parameter's name where there is one."""
        return self.path if self.parameter is None else f"{self.path}.{self.parameter}"

    @property
    def has_experts(self) -> bool:
        """Whether there is one of it for every expert."""
        return self.parameter is not None or "{expert}" in self.path

    def fits(self, path: str) -> bool:
        """Tell whether a path inside a block could be this module."""
        pattern = re.escape(self.full_path).replace(r"\{expert\}", "[0-9]+")
        return re.fullmatch(pattern, path) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayout:
    """One stack of blocks: where they stand, what is in them, and where its dimensions are written."""

    name: str | None = None
    path: str
    dimensions: Mapping[str, tuple[Way, ...]]
    modules: tuple[Module, ...]

    def module_path(self, path: str) -> str | None:
        """Return the part of a path inside the backbone that stands after the block; ``None`` outside the blocks."""
        before, _, after = self.path.partition("{layer}")
        found = re.match(re.escape(before) + "[0-9]+" + re.escape(after), path)
        return path[found.end() :] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterModule:
    """A module with a role outside the blocks; ``within`` is ``backbone`` or ``model``."""

    path: str
    role: str
    within: str
    stack: str | None = None
    when: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()
    gguf: str | None = None
    edition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """How rotary position embedding pairs the rows of query and key.

    Attributes:
        style: ``none``, ``half`` or ``interleaved``.
        fraction: The rotated part of each head.
        when: Models that do not satisfy all of these have none.
    """

    style: str
    fraction: tuple[Way, ...] = (1,)
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """Where the norms of a block stand.

    Attributes:
        kind: ``rms`` or ``layer``.
        position: ``pre``, ``post``, ``both``, or ``parallel`` where attention and MLP read the same stream.
        query_key: Whether query and key have norms of their own.
    """

    kind: str
    position: str
    query_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Roles whose modules are one parameter in models that satisfy ``when``."""

    roles: tuple[str, ...]
    when: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelType:
    """What is particular to one ``model_type`` of a layout.

    Attributes:
        default_class: The class to assume where nothing names one.
        classes: Model classes by the path of the backbone inside them.
        older_editions: The older editions that it has, each with what stands in the place of ``classes``; nothing does
            where that is empty.
        partial: The stacks of classes that do not hold all of them.
        config: The object of the config in which fields are looked up; the whole where absent.
        defaults: Values of fields that the config does not hold.
        rotary: Instead of the binder's.
        norms: Instead of the binder's.
        without_role: Known modules without a role, beside the binder's.
        gguf: The architecture's name in GGUF.
    """

    default_class: str
    classes: Mapping[str, tuple[str, ...]]
    older_editions: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    config: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rotary: Rotary | None = None
    norms: Norms | None = None
    without_role: tuple[str, ...] = ()
    gguf: str | None = None

    def classes_in(self, edition: str | None) -> Mapping[str, tuple[str, ...]]:
        """Return the model classes of an edition by the path of the backbone inside them."""
        return self.older_editions.get(edition or "") or self.classes

    def prefix_of(self, model_class: str, edition: str | None = None) -> str | None:
        """Return the path of the backbone inside a class of an edition; ``None`` for a class that is not listed."""
        return next((prefix for prefix, names in self.classes_in(edition).items() if model_class in names), None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that is listed."""
        return tuple(name for names in self.classes.values() for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """Everything known of one module layout."""

    binder_version: str
    architecture: str
    model_types: Mapping[str, ModelType]
    editions: tuple[str, ...] = ()
    known_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    vocab_size: tuple[Way, ...]
    rotary: Rotary
    norms: Norms
    tied: tuple[Tie, ...] = ()
    stacks: tuple[StackLayout, ...]
    outer: tuple[OuterModule, ...]
    without_role: tuple[str, ...]

    def editions_of(self, model_type: str) -> tuple[str | None, ...]:
        """Return the editions that a model type has, the current one first; ``None`` stands for the only one."""
        older = self.model_types[model_type].older_editions
        return (self.editions[0], *(name for name in self.editions[1:] if name in older)) if self.editions else (None,)

    def rotary_of(self, model_type: str) -> Rotary:
        """Return the rotary position embedding of a model type."""
        return self.model_types[model_type].rotary or self.rotary

    def norms_of(self, model_type: str) -> Norms:
        """Return the norms of a model type."""
        return self.model_types[model_type].norms or self.norms

    def fused_modules(self, stack_name: str | None, path: str) -> Iterator[Module]:
        """Yield the fused modules of a stack that a module path of any model with this layout could be."""
        for stack in self.stacks:
            if stack.name == stack_name:
                for module in stack.modules:
                    if len(module.roles) > 1 and path.endswith(f".{module.full_path}"):
                        yield module

    def has_relative_path(self, path: str) -> bool:
        """Tell whether a module path of any model with this layout could look like ``path``."""
        prefixes = {
            prefix
            for name, kind in self.model_types.items()
            for edition in self.editions_of(name)
            for prefix in kind.classes_in(edition)
        }
        return any(
            path.startswith(prefix) and any(_fits(stack, path.removeprefix(prefix)) for stack in self.stacks)
            for prefix in prefixes
        )


def _fits(stack: StackLayout, path: str) -> bool:
    rest = stack.module_path(path)
    return rest is not None and any(module.fits(rest) for module in stack.modules)
