"""What a training is asked for, and what comes of it; no framework is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example

if TYPE_CHECKING:
    from ual_registry.air.adapter import Adapter
    from ual_registry.training.estimate import Estimate
    from ual_registry.training.record import TrainingRecord

__all__ = ["Data", "TrainEstimate", "TrainOrder", "TrainResult"]

Data = str | Path | Iterable[Example | Mapping[str, Any]]
"""What is trained on: a file, a folder, a data set of the Hub, or examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOrder:
    """What to train.

    Attributes:
        base: Folder of the base model, with weights and tokenizer.
        data: What to train on.
        config: How.
        base_id: Label of the base model; the name of its folder where absent.
        form: What the examples are; what the first one is where absent.
        fields: Which field of the data each field of an example is, where it has another name there.
        limit: How many examples are read at most.
        held_out: Examples to hold out in place of a share of the data.
        labels: Fields of the manifest that people write: ``name``, ``description``, ``domain``, ``license``.
        output: AIR file to write.
        folder: Where the run is kept; beside ``output``, with the ending ``.run``, where absent.
        is_resumed: Whether to go on with the run that is there.
        is_recorded: Whether to add the result to the registry, under its name.
        is_forced: Whether to replace what stands at ``output``, and to begin the run anew where it is not to go on.
        is_shown: Whether to draw a line on standard error while it goes.
    """

    base: str
    data: Data
    config: TrainingConfig = field(default_factory=TrainingConfig)
    base_id: str | None = None
    form: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    held_out: Data | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    output: str | Path
    folder: str | Path | None = None
    is_resumed: bool = False
    is_recorded: bool = False
    is_forced: bool = False
    is_shown: bool = False

    @property
    def run_folder(self) -> Path:
        """Where the run is kept."""
        return Path(self.output).with_suffix(".run") if self.folder is None else Path(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What was trained, and where it is kept.

    Attributes:
        adapter: The adapter.
        record: What was done and measured.
        path: Its AIR file.
        digest: The file's digest.
        folder: Where the run is kept.
        notes: What the user must know of the data.
        revision: Its name in the registry; ``None`` where it was not added.
    """

    adapter: Adapter
    record: TrainingRecord
    path: str
    digest: str
    folder: str
    notes: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEstimate:
    """What a training would take.

    Attributes:
        base: Label of the base model.
        estimate: The numbers.
        data: What became of the examples.
        notes: What the user must know of the data.
    """

    base: str
    estimate: Estimate
    data: Mapping[str, Any]
    notes: tuple[str, ...]
