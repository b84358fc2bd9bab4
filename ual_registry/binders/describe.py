"""A base model as the manifest describes it: its dimensions, found in its config the way its binder says."""

from __future__ import annotations

from dataclasses import dataclass

from ual_registry.air.model import BaseModel, Stack
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.fields import ConfigFields
from ual_registry.binders.load import binder_for
from ual_registry.binders.model import Binder, StackLayout, Way
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, UnknownArchitectureError

__all__ = ["RotaryStructure", "config_fields", "describe", "describe_base", "rotary_structure"]

_MAX_COUNT = 10_000
_MAX_SIZE = 2**31 - 1
_REQUIRED = {
    "hidden_size",
    "num_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
}
"""Dimensions that must be found where a binder names them; the others may be absent from a config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryStructure:
    """What must agree for rotated rows to mean the same: pairing style, head width, rotated features per head."""

    style: str
    head_dim: int
    rotated: int


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
    binder = binder_for(config.model_type)
    return describe(binder, config_fields(binder, config), id=id, revision=revision)


def describe(binder: Binder, fields: ConfigFields, *, id: str | None = None, revision: str | None = None) -> BaseModel:
    """Describe a base model whose config was read as a given binder does; see ``describe_base``."""
    config = fields.config
    return BaseModel(
        id=id or config.label,
        revision=revision,
        architecture=binder.architecture,
        model_type=config.model_type,
        config_digest=str(config.digest),
        vocab_size=_whole(fields, binder.vocab_size, "vocab_size"),
        stacks=tuple(_stack(layout, fields) for layout in binder.stacks),
    )


def config_fields(binder: Binder, config: BaseConfig) -> ConfigFields:
    """Read a config as a binder does.

    Raises:
        UnknownArchitectureError: The binder does not list the model type.
        BinderDataError: A field has a value that the binder does not know.
    """
    kind = binder.model_types.get(config.model_type)
    if kind is None:
        raise UnknownArchitectureError(
            f"binder {binder.architecture!r} is not for model_type {config.model_type!r} "
            f"(known: {', '.join(binder.model_types)})",
            context={"model_type": config.model_type},
        )
    fields = ConfigFields(config, kind)
    unknown = fields.unknown_values(binder.known_values)
    if unknown:
        raise BinderDataError(
            f"config of {config.label}: {'; '.join(unknown)}",
            context={"architecture": binder.architecture},
            hint="the binder was not written for such a model; see CONTRIBUTING.md, 'Add a binder'",
        )
    return fields


def _stack(layout: StackLayout, fields: ConfigFields) -> Stack:
    sizes = {
        name: _whole(fields, ways, name)
        for name, ways in layout.dimensions.items()
        if name in _REQUIRED or fields.find_number(ways) is not None
    }
    return Stack(name=layout.name, **sizes)


def _whole(fields: ConfigFields, ways: tuple[Way, ...], what: str) -> int:
    value = fields.number(ways, what=what)
    if value % 1:
        raise BinderDataError(f"config of {fields.config.label}: {what} is {value}, expected a whole number")
    limit = _MAX_COUNT if what in {"num_layers", "num_experts"} else _MAX_SIZE
    if value > limit:
        raise BinderDataError(f"config of {fields.config.label}: {what} is {value}, over the limit of {limit}")
    return int(value)


def rotary_structure(base: BaseModel, config: BaseConfig | None = None) -> RotaryStructure:
    """Return the rotary structure of a base model's (first) stack.

    Args:
        base: The base model.
        config: Its config, where it is at hand; otherwise the architecture's usual rotary fraction is taken.
    """
    binder = binder_for(base.model_type)
    rotary = binder.rotary_of(base.model_type)
    head_dim = base.stacks[0].head_dim or 0
    source = config or BaseConfig(label=base.id, document={}, digest=Digest.parse(base.config_digest))
    fields = ConfigFields(source, binder.model_types[base.model_type])
    if rotary.style == "none" or not fields.satisfies_all(rotary.when):
        return RotaryStructure(style="none", head_dim=head_dim, rotated=0)
    fraction = fields.number(rotary.fraction, what="rotary fraction")
    return RotaryStructure(style=rotary.style, head_dim=head_dim, rotated=int(head_dim * fraction))
