"""A binder document as frozen dataclasses; see ``schemas/1.0/binder.json`` for each field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Binder", "Condition", "Module", "OuterModule", "Rotary", "StackLayout"]

Way = Any
"""A config field, a number, or a quotient or product of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """True for configs whose ``field`` has one of ``values``."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One linear module of a block.

    Attributes:
        path: Path inside the block.
        roles: Its role; several for a fused module, in the order of its rows.
        layout: ``contiguous`` or ``per_head`` for a fused module.
        weight: ``linear`` stores (out, in), ``conv1d`` stores (in, out); factors are the same for both.
        when: The module exists only in models that satisfy this.
        unless: The module exists only in models that do not satisfy this.
    """

    path: str
    roles: tuple[str, ...]
    layout: str | None = None
    weight: str = "linear"
    when: Condition | None = None
    unless: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayout:
    """One stack of blocks: where they stand, what is in them, and where its dimensions are written."""

    name: str | None = None
    path: str
    dimensions: Mapping[str, tuple[Way, ...]]
    modules: tuple[Module, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterModule:
    """A module with a role outside the blocks; ``within`` is ``backbone`` or ``model``."""

    path: str
    role: str
    within: str
    stack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """How rotary position embedding pairs the rows of query and key."""

    style: str
    fraction: tuple[Way, ...] = (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """Everything known of one module layout."""

    binder_version: str
    architecture: str
    model_types: tuple[str, ...]
    default_class: str
    classes: Mapping[str, str]
    vocab_size: tuple[Way, ...]
    rotary: Rotary
    stacks: tuple[StackLayout, ...]
    outer: tuple[OuterModule, ...]
    without_role: tuple[str, ...]

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every path that the backbone has in some class, each once."""
        return tuple(dict.fromkeys(self.classes.values()))

    def has_relative_path(self, path: str) -> bool:
        """Tell whether a module path of any model with this layout could look like ``path``."""
        return any(
            path.startswith(prefix) and any(_fits(stack, path.removeprefix(prefix)) for stack in self.stacks)
            for prefix in self.prefixes
        )


def _fits(stack: StackLayout, path: str) -> bool:
    before, _, after = stack.path.partition("{layer}")
    if not path.startswith(before):
        return False
    layer, _, rest = path.removeprefix(before).partition(after)
    return layer.isdecimal() and any(module.path == rest for module in stack.modules)
