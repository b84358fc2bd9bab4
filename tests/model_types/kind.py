"""What a tiny model of one ``model_type`` is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyType:
    """How to make and call a tiny model.

    Attributes:
        config: Name of the config class in ``transformers``.
        settings: Its arguments; every size differs from the others where the class allows it.
        inputs: How the model is called; a key of ``tests.proof.calls.CALLS``.
        variants: Changed settings that switch optional modules on, by name.
        module: Name of the transformers module, where it is not the model type; a dotted name is a module of its own.
        classes: Changed settings that one class insists on, by its name.
    """

    config: str
    settings: Mapping[str, Any]
    inputs: str = "tokens"
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    module: str | None = None
    classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
