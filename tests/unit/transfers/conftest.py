"""Real target models of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peft_folders import ARCHITECTURES, model_module, tiny_config


@dataclass(frozen=True)
class Target:
    """A base model: its folder, and how to make it."""

    folder: Path
    class_name: str
    architecture: str
    config: Any

    def model(self) -> Any:
        """Return the model, random and the same one every time."""
        import torch

        torch.manual_seed(3)
        return getattr(model_module(self.architecture), self.class_name)(self.config).eval()


@pytest.fixture
def target(tmp_path: Path) -> Callable[..., Target]:
    """Make the base model of an architecture, with other dimensions where given."""

    def make(architecture: str, **changes: Any) -> Target:
        config = tiny_config(architecture, **changes)
        class_name = ARCHITECTURES[architecture].causal
        config.architectures = [class_name]
        folder = tmp_path / f"target-{architecture}"
        config.save_pretrained(folder)
        return Target(folder, class_name, architecture, config)

    return make
