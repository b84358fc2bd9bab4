"""Where a training run stands: one folder for each checkpoint, of safetensors and JSON, put in place as a whole.

Nothing is pickled, so nothing that runs code can stand in a checkpoint. A checkpoint is written beside its place and
renamed when it is complete; older ones are removed after that, so that an interruption at any moment, or a full disk,
leaves a complete one. The state of random numbers needs no place: it follows from seed and step, see ``trainer``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ual_registry.errors import FormatError, StorageError
from ual_registry.models.state_file import UNREADABLE, read_state, state_bytes
from ual_registry.storage import atomic_folder, read_file
from ual_registry.training.folder import check_same
from ual_registry.training.progress import Progress

__all__ = [
    "STATE_FILE",
    "TRAINER_FILE",
    "Checkpoint",
    "last_checkpoint",
    "read_checkpoint",
    "write_checkpoint",
]

STATE_FILE = "state.safetensors"
TRAINER_FILE = "trainer_state.json"
"""What transformers' Trainer says of itself; its name is the one that the Trainer looks for."""

_KEPT = 2
_FORM = re.compile(r"step-([0-9]{8,})\Z")
_MAX_TRAINER_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run as it is kept.

    Attributes:
        progress: Its numbers.
        factors: Trainable parameters by name.
        best: Those of the best step; empty where nothing is held out.
        optimizer: The optimiser's tensors by index and name.
        groups: The optimiser's groups, as JSON.
        schedule: The state of the learning-rate schedule, as JSON.
        scaler: The state of the loss scaler of float16, as JSON; ``None`` where there is none.
        trainer: What the Trainer says of itself, a JSON text.
    """

    progress: Progress
    factors: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    groups: list[dict[str, Any]]
    schedule: dict[str, Any]
    scaler: dict[str, Any] | None
    trainer: str


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Put a run beside what is kept, then remove all but the last two checkpoints.

    Args:
        folder: The folder of all checkpoints of the run.
        checkpoint: What to keep.

    Returns:
        The folder of this one.

    Raises:
        StorageError: The file system refuses; what was kept stays.
    """
    numbers = {"groups": checkpoint.groups, "schedule": checkpoint.schedule, "scaler": checkpoint.scaler}
    state = state_bytes(
        {"progress": asdict(checkpoint.progress), **numbers},
        factors=checkpoint.factors,
        best=checkpoint.best,
        optimizer=checkpoint.optimizer,
    )
    place = folder / f"step-{checkpoint.progress.step:08d}"
    with atomic_folder(place) as new:
        _write(new / STATE_FILE, state)
        _write(new / TRAINER_FILE, checkpoint.trainer.encode())
    for older in _complete(folder)[:-_KEPT]:
        shutil.rmtree(older, ignore_errors=True)
    return place


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _complete(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest first."""
    try:
        found = [path for path in folder.iterdir() if _FORM.match(path.name) and path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError.of("read", folder, error) from error
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder; ``None`` where there is none."""
    return next(iter(reversed(_complete(folder))), None)


def read_checkpoint(place: Path, settings: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint.

    Args:
        place: Its folder.
        settings: All that the run depends on.

    Raises:
        FormatError: It is no checkpoint, or that of another run; says in what they differ.
        StorageError: It cannot be read.
    """
    try:
        document, parts = read_state(place / STATE_FILE)
        progress = _progress(document["progress"])
        numbers = {name: document[name] for name in ("groups", "schedule", "scaler")}
        trainer = read_file(place / TRAINER_FILE, limit_bytes=_MAX_TRAINER_BYTES).decode()
        json.loads(trainer)["global_step"]
    except UNREADABLE as error:
        raise _refusal(place, "is no checkpoint of a training run") from error
    check_same(place, progress.settings, settings)
    return Checkpoint(
        progress=progress,
        factors=parts["factors"],
        best=parts["best"],
        optimizer=parts["optimizer"],
        trainer=trainer,
        **numbers,
    )


def _progress(document: dict[str, Any]) -> Progress:
    known = {own.name for own in fields(Progress)}
    curves = {name: [(int(step), float(loss)) for step, loss in document[name]] for name in ("held_out", "losses")}
    return Progress(**{name: value for name, value in document.items() if name in known} | curves)


def _refusal(place: Path, problem: str) -> FormatError:
    return FormatError(
        f"{place}: {problem}",
        code="checkpoint",
        context={"path": str(place)},
        hint="give the folder of a run that 'ual train' began, or another one to begin anew",
    )
