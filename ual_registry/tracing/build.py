"""Build models from a config document: the whole one without memory, a tiny one with random weights."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import nn

from ual_registry.tracing.refusal import refusal
from ual_registry.tracing.survey import Matrix, survey

__all__ = ["Builder", "quiet", "said"]

_AUTO = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModel",
)
"""Where to look for a class that the config does not name: the most complete model first."""


_LONGEST = 300
"""Characters of another package's message that are kept."""


class Builder:
    """Builds the models of one ``model_type``; runs no code but that of the transformers package.

    Args:
        document: A ``config.json``.

    Raises:
        UninferableArchitectureError: The config brings its own code, or transformers does not know its model type.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.model_type = str(document.get("model_type"))
        if "auto_map" in document:
            message = f"model_type {self.model_type!r} brings its own code (auto_map), which is never run"
            raise refusal(message, model_type=self.model_type)
        mapping = transformers.models.auto.configuration_auto.CONFIG_MAPPING
        if self.model_type not in mapping:
            message = f"transformers {transformers.__version__} does not know model_type {self.model_type!r}"
            raise refusal(message, hint="a newer version of transformers may know it", model_type=self.model_type)
        self.config_class = mapping[self.model_type]
        self.model_class = self._choose(document.get("architectures"))

    def _choose(self, named: Any) -> Any:
        for name in named if isinstance(named, list) else []:
            found = getattr(transformers, str(name), None)
            if inspect.isclass(found) and getattr(found, "config_class", None) is self.config_class:
                return found
        for auto in _AUTO:
            found = self._mapped(auto)
            if found is not None:
                return found
        message = f"no model class of transformers is for model_type {self.model_type!r}"
        raise refusal(message, model_type=self.model_type)

    def _mapped(self, auto: str) -> Any:
        """Return the class that an auto class of transformers takes for the config; ``None`` where it takes none."""
        mapping = getattr(transformers, auto)._model_mapping  # noqa: SLF001  # there is no public way to ask
        found = mapping.get(self.config_class, None)
        return found[0] if isinstance(found, tuple) else found

    @property
    def base_class(self) -> Any:
        """Return the class of the backbone alone; the model class where there is none."""
        return self._mapped("AutoModel") or self.model_class

    def public_classes(self) -> list[Any]:
        """Return every public model class that takes this config."""
        module = importlib.import_module(self.model_class.__module__)
        return [
            found
            for name in getattr(module, "__all__", [])
            if inspect.isclass(found := getattr(module, name))
            and issubclass(found, transformers.PreTrainedModel)
            and found.config_class is self.config_class
            and not name.endswith("PreTrainedModel")
        ]

    def config(self, document: Mapping[str, Any]) -> Any:
        """Return a config with plain attention and plain experts, which can be watched.

        Raises:
            UninferableArchitectureError: The config class refuses the document.
        """
        kept = {name: value for name, value in document.items() if not name.startswith("_")}
        try:
            with quiet():
                config = self.config_class.from_dict(_with_floats(copy.deepcopy(kept)))
        except Exception as error:
            message = f"{self.config_class.__name__} refuses the config: {said(error)}"
            raise refusal(message, model_type=self.model_type) from error
        config._attn_implementation = "eager"  # noqa: SLF001  # the name that transformers documents
        config._experts_implementation = "eager"  # noqa: SLF001
        return config

    def empty(self, document: Mapping[str, Any], model_class: Any = None) -> Mapping[str, Matrix]:
        """Return the matrices of a model without making room for its weights."""
        with quiet(), torch.device("meta"):
            return survey((model_class or self.model_class)(self.config(document)))

    def tiny(self, document: Mapping[str, Any]) -> tuple[nn.Module, Any]:
        """Return a random model in evaluation mode, the same one every time, and its config."""
        config = self.config(document)
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.model_class(config).float().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1 and not bool(parameter.any()):
                        parameter.normal_(std=0.02)
        return model, config


def said(error: Exception) -> str:
    """Return the kind of an error of another package and what it says, in one line that is not too long."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _with_floats(value: Any) -> Any:
    """Return a document with the numbers that JSON has no word for, which transformers writes as objects."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {name: _with_floats(item) for name, item in value.items()}
    return [_with_floats(item) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from warning about odd sizes."""
    before = transformers.logging.get_verbosity()
    if before != logging.ERROR:  # every change makes all loggers of the process forget what they have found out
        transformers.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before != logging.ERROR:
            transformers.logging.set_verbosity(before)
