"""What the trainings of ``benchmarks.training`` train on, and by which settings."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ual_registry.models.loaded import LoadedBase
from ual_registry.training.batches import Batches
from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example
from ual_registry.training.heads import load_for_training
from ual_registry.training.place import place_of
from ual_registry.training.prepare import Prepared, prepare

__all__ = ["Material", "config_of", "examples_of", "material_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What all arms train on.

    Attributes:
        load: Loads the model, a fresh one at every call.
        prepared: The examples as rows; nothing is held out.
        config: How, in steps of one epoch; each arm puts the rows of a step together in a way of its own.
        folder: Where arms may write.
    """

    load: Callable[[], LoadedBase]
    prepared: Prepared
    config: TrainingConfig
    folder: Path

    def batches(self, config: TrainingConfig) -> Batches:
        """Return what makes batches in one of our ways."""
        return Batches(self.prepared.train, self.prepared, config)

    def tokens(self) -> list[int]:
        """Return the tokens of every step, without what fills rows up; they are the same for all arms."""
        rows = self.prepared.train
        return [sum(len(rows[row].input_ids) for row in step) for step in self.batches(self.config).steps(0)]


def examples_of(folder: Path, form: str, count: int) -> list[Example]:
    """Return requests of CLINC150, drawn at random: as texts, or as prompts that an intent completes."""
    rows = json.loads((folder / "clinc150" / "data_full.json").read_text())["train"]
    chosen = random.Random(0).sample(rows, count)
    if form == "text":
        return [Example(text=text) for text, _ in chosen]
    return [Example(prompt=f"{text}\nIntent:", completion=f" {intent.replace('_', ' ')}") for text, intent in chosen]


def config_of(steps: int, size: tuple[int, int], *, device: str = "cpu", **changes: Any) -> TrainingConfig:
    """Return settings that every arm can follow.

    Args:
        steps: Steps, the last of which keeps a checkpoint.
        size: Rows of a micro-batch, and micro-batches of a step.
        device: Where to compute.
        changes: Other settings.
    """
    own: dict[str, Any] = {
        "steps": steps,
        "batch_size": size[0],
        "accumulation": size[1],
        "schedule": "constant",
        "warmup_steps": 0,
        "held_out_share": 0.0,
        "deduplicate": False,
        "checkpoint_every": steps,
        "device": device,
    }
    return TrainingConfig(**{**own, **changes})


def material_of(examples: Sequence[Example], config: TrainingConfig, model: Path, folder: Path) -> Material:
    """Return what all arms train on: examples, and the base model of a folder."""
    load = partial(load_for_training, model, "causal", dtype=place_of(config).dtype, device=config.device)
    return Material(load=load, prepared=prepare(examples, load().text_tokenizer, config), config=config, folder=folder)
