"""What binders there are, and what one says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.model import BaseModel
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.describe import config_fields, describe
from ual_registry.binders.fields import ConfigFields
from ual_registry.binders.load import binder_for, find_binder, load_binder, load_binders
from ual_registry.binders.model import Binder, ModelType, Module, OuterModule
from ual_registry.digest import Digest
from ual_registry.workflows.bases import address_of
from ual_registry.workflows.binder_files import is_document, read_base, read_either

__all__ = ["BinderSummary", "ShownBinder", "list_binders", "show_binder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinderSummary:
    """One binder in a list.

    Attributes:
        architecture: Its name.
        model_types: The model types that it is for.
        stacks: How many stacks of blocks it has.
        roles: The roles that its modules play, in the order of its document.
        fused: How many of its modules hold several roles.
        rotary: Style of rotary position embedding of each model type.
    """

    architecture: str
    model_types: tuple[str, ...]
    stacks: int
    roles: tuple[str, ...]
    fused: int
    rotary: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBinder:
    """A binder, and what it is shown for.

    Attributes:
        binder: The binder.
        model_type: The model type that it is shown for.
        config: The config of a model of that type; without a model one that leaves every field to its default.
        base: The model as the manifest describes it, where one is given.
    """

    binder: Binder
    model_type: str
    config: BaseConfig
    base: BaseModel | None = None

    @property
    def kind(self) -> ModelType:
        """What is particular to the model type."""
        return self.binder.model_types[self.model_type]

    @property
    def editions(self) -> tuple[str | None, ...]:
        """The editions that the model type has, the current one first."""
        return self.binder.editions_of(self.model_type)

    def prefix_in(self, edition: str | None) -> str:
        """Return the path of the backbone inside the class that the config names, or else inside the default one."""
        classes = (*self.config.model_classes, self.kind.default_class)
        return next(prefix for name in classes if (prefix := self.kind.prefix_of(name, edition)) is not None)

    def is_of_type(self, item: Module | OuterModule) -> bool:
        """Tell whether some model of this type can hold a module."""
        asked = [self.model_type in condition.values for condition in item.when if condition.field == "model_type"]
        excepted = [
            condition.field == "model_type" and self.model_type in condition.values for condition in item.unless
        ]
        return all(asked) and not (excepted and all(excepted))

    def holds(self, item: Module | OuterModule) -> bool:
        """Tell whether a model with this config holds a module of any edition, in whichever block."""
        return self._fields.holds(item)

    def blocks(self, module: Module, num_layers: int) -> tuple[int, ...]:
        """Return the blocks of a model with this config in which a module stands."""
        return tuple(self._fields.blocks(module, num_layers))

    @property
    def _fields(self) -> ConfigFields:
        return ConfigFields(self.config, self.kind)


def list_binders() -> tuple[BinderSummary, ...]:
    """Return every binder in short, sorted by architecture.

    Raises:
        BinderError: A binder document is wrong, or two hold one model type.
    """
    return tuple(_summary(binder) for binder in load_binders())


def _summary(binder: Binder) -> BinderSummary:
    modules = [module for stack in binder.stacks for module in stack.modules]
    return BinderSummary(
        architecture=binder.architecture,
        model_types=tuple(binder.model_types),
        stacks=len(binder.stacks),
        roles=tuple(dict.fromkeys(role for module in modules for role in module.roles)),
        fused=sum(len(module.roles) > 1 for module in modules),
        rotary={name: binder.rotary_of(name).style for name in binder.model_types},
    )


def show_binder(name: str) -> ShownBinder:
    """Return a binder.

    Args:
        name: Its architecture, one of its model types, the path of a binder document, or a base model: a folder with
            a ``config.json``, the config itself, or a repository of the Hub.

    Raises:
        UnknownArchitectureError: There is none.
        BinderDataError: The document or the config is wrong.
        StorageError: A file cannot be read.
        HubError: The base model is on the Hub, and cannot be read there.
    """
    if address_of(name) is not None:
        return _of_config(read_base(name))
    path = Path(name)
    if path.suffix == ".json" or path.exists() or len(path.parts) > 1:
        return _of_file(path)
    binder = find_binder(name)
    return _of_type(binder, name if name in binder.model_types else next(iter(binder.model_types)))


def _of_type(binder: Binder, model_type: str) -> ShownBinder:
    config = BaseConfig(label=model_type, document={"model_type": model_type}, digest=Digest.of_bytes(b""))
    return ShownBinder(binder=binder, model_type=model_type, config=config)


def _of_file(path: Path) -> ShownBinder:
    config = read_either(path)
    if is_document(config):
        binder = load_binder(path)
        return _of_type(binder, next(iter(binder.model_types)))
    return _of_config(config)


def _of_config(config: BaseConfig) -> ShownBinder:
    binder = binder_for(config.model_type)
    base = describe(binder, config_fields(binder, config))
    return ShownBinder(binder=binder, model_type=config.model_type, config=config, base=base)
