"""What is proved: every model type with every variant of its config, and the real classes that take it."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any

from tests.model_types import MODEL_TYPES
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.describe import rotary_structure
from ual_registry.binders.load import binder_for, known_model_types
from ual_registry.binders.model import Binder, ModelType
from ual_registry.digest import Digest
from ual_registry.errors import BinderError, StorageError

__all__ = ["CASES", "CLASS_CASES", "IS_WHOLE", "UNLIKE", "Case", "binding_of", "case_of", "is_linear", "is_matrix"]


@dataclass(frozen=True)
class Case:
    """One model type, plain or with the settings of one variant."""

    model_type: str
    variant: str | None = None

    def __str__(self) -> str:
        return self.model_type if self.variant is None else f"{self.model_type}+{self.variant}"

    @property
    def binder(self) -> Binder:
        """The binder that lists the model type."""
        return binder_for(self.model_type)

    @property
    def kind(self) -> ModelType:
        """What the binder says of the model type alone."""
        return self.binder.model_types[self.model_type]

    @property
    def module(self) -> Any:
        """The transformers module of the model type."""
        name = MODEL_TYPES[self.model_type].module or self.model_type
        return importlib.import_module(name if "." in name else f"transformers.models.{name}.modeling_{name}")

    @property
    def config_class(self) -> Any:
        """The config class of the model type."""
        import transformers

        name = MODEL_TYPES[self.model_type].config
        return getattr(transformers, name, None) or getattr(self.module, name)  # without loading models where it can

    def config(self, class_name: str | None = None) -> Any:
        """Return the config, fresh; the classes write into it."""
        tiny = MODEL_TYPES[self.model_type]
        changes = tiny.variants[self.variant] if self.variant else {}
        settings = {**tiny.settings, **changes, **tiny.classes.get(class_name or "", {})}
        config = self.config_class(**copy.deepcopy(settings))  # some classes write into what they are given
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        return config

    def base(self) -> BaseConfig:
        """Return the config as its ``config.json`` says it."""
        return _base(self)

    def binding(self, class_name: str | None = None) -> Binding:
        """Return the binder applied to the config."""
        return binding_of(self, class_name or self.kind.default_class)

    def empty_modules(self, class_name: str) -> dict[str, Any]:
        """Return the modules of a class by path, without memory for its weights."""
        return _empty_modules(self, class_name)

    def public_classes(self) -> list[str]:
        """Return the public model classes that take the config of this model type.

        A model type without classes of its own has those that the automatic classes of transformers choose.
        """
        import transformers

        wanted = type(self.config())
        public = [getattr(self.module, name) for name in self.module.__all__]
        own = [
            kind.__name__
            for kind in public
            if isinstance(kind, type)
            and issubclass(kind, transformers.PreTrainedModel)
            and kind.config_class is wanted
            and not kind.__name__.endswith("PreTrainedModel")
        ]
        return own or _automatic_classes(self.model_type)

    def model(self) -> Any:
        """Return a random model of the default class, the same one every time, in float32."""
        import torch

        torch.manual_seed(7)
        model = getattr(self.module, self.kind.default_class)(self.config()).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:  # of a size at which activations bend and attention chooses
                    parameter.copy_(torch.randn(parameter.shape) / parameter.shape[-1] ** 0.5)
                elif name.endswith("bias"):
                    parameter.add_(0.1 * torch.randn(parameter.shape))
        return model


def _automatic_classes(model_type: str) -> list[str]:
    from transformers.models.auto import modeling_auto as auto

    tables = [getattr(auto, name) for name in dir(auto) if name.endswith("_MAPPING_NAMES") and name[:6] == "MODEL_"]
    return sorted({table[model_type] for table in tables if isinstance(table.get(model_type), str)})


@functools.cache
def _base(case: Case) -> BaseConfig:
    text = case.config().to_json_string()  # as save_pretrained writes it: without what the class sets itself
    return BaseConfig(label="tiny", document=json.loads(text), digest=Digest.of_bytes(text.encode()))


@functools.cache
def binding_of(case: Case, class_name: str) -> Binding:
    return bind(case.base(), class_name)


@functools.lru_cache(maxsize=512)
def _empty_modules(case: Case, class_name: str) -> dict[str, Any]:
    import torch

    with torch.device("meta"):
        return dict(getattr(case.module, class_name)(case.config(class_name)).named_modules())


def _cases() -> list[Case]:
    known = [name for name in known_model_types() if name in MODEL_TYPES and _is_readable(name)]
    return [Case(name, variant) for name in known for variant in (None, *MODEL_TYPES[name].variants)]


def _is_readable(model_type: str) -> bool:
    """Tell whether a document can be read; one that cannot fails a test of its own, not the collection of all."""
    try:
        binder_for(model_type)
    except (BinderError, StorageError):
        return False
    return True


def _unlike(cases: list[Case]) -> list[Case]:
    """Leave out plain types with the modules, the rotary style and the norms of another type of their binder."""
    found: dict[Any, Case] = {}
    for case in sorted(cases, key=lambda own: own.model_type != own.binder.architecture):
        found.setdefault(case if case.variant else _form(case), case)
    kept = set(found.values())
    return [case for case in cases if case in kept]


def _form(case: Case) -> tuple[Any, ...]:
    binding, binder = case.binding(), case.binder
    modules = frozenset(
        (re.sub("[0-9]+", "N", path.removeprefix(binding.prefix)), tuple(slot.role for slot in module.slots))
        for path, module in binding.modules.items()
    )
    style = rotary_structure(binding.base, case.base()).style
    return binder.architecture, style, repr(binder.norms_of(case.model_type)), modules


IS_WHOLE = bool(os.environ.get("UAL_PROOF_ALL"))
"""Whether everything is proved of every model type, as ``make proof`` asks."""

CASES = _cases()
UNLIKE = CASES if IS_WHOLE else _unlike(CASES)
"""Those whose models are run in every run of the tests; what every class holds is compared for all of them."""

CLASS_CASES = [(case, name) for case in CASES for name in case.kind.class_names]


def case_of(value: Any) -> str | None:
    """Return the id of a parameter of a test."""
    return str(value) if isinstance(value, Case | str) else None


def is_linear(module: Any) -> bool:
    """Tell whether a module multiplies by one matrix."""
    import torch

    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def is_matrix(module: Any) -> bool:
    """Tell whether PEFT could put factors on a module: a linear one or an embedding."""
    import torch

    return is_linear(module) or isinstance(module, torch.nn.Embedding)
