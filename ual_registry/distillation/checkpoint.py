"""Where a training run stands, in one safetensors file: factors, the best ones so far, the optimiser, and the numbers.

The file is replaced as a whole, so that an interruption leaves the last state or the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ual_registry.errors import FormatError
from ual_registry.models.state_file import UNREADABLE, read_state, state_bytes
from ual_registry.storage import atomic_file

__all__ = ["Checkpoint", "Progress", "read_checkpoint", "write_checkpoint"]


@dataclass(slots=True, kw_only=True)
class Progress:
    """The numbers of a run so far; the only mutable record of this room.

    Attributes:
        settings: Digest of all that the run depends on.
        step: Steps done.
        elapsed_s: Seconds spent, earlier parts of an interrupted run included.
        start_loss: Held-out loss before the first step.
        best_loss: The lowest held-out loss.
        best_step: The step after which it was seen.
        looks_since_best: Looks at the held-out texts since then.
        is_over: Whether the run ended.
        curve: Step and held-out loss of every look.
    """

    settings: str
    step: int = 0
    elapsed_s: float = 0.0
    start_loss: float = 0.0
    best_loss: float = 0.0
    best_step: int = 0
    looks_since_best: int = 0
    is_over: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A run as it is kept.

    Attributes:
        progress: Its numbers.
        factors: Trainable factors by name.
        best: Those of the best step.
        optimizer: AdamW's state of each factor, by index and name.
    """

    progress: Progress
    factors: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Put a run in place of what is kept.

    Raises:
        StorageError: The file system refuses; what was kept stays.
    """
    data = state_bytes(
        asdict(checkpoint.progress),
        factors=checkpoint.factors,
        best=checkpoint.best,
        optimizer=checkpoint.optimizer,
    )
    with atomic_file(path, durable=True) as stream:
        stream.write(data)


def read_checkpoint(path: Path, settings: str) -> Checkpoint | None:
    """Read a run; ``None`` where none is kept.

    Args:
        path: The file.
        settings: Digest of all that the run depends on.

    Raises:
        FormatError: The file is no checkpoint, or that of another run.
    """
    if not path.exists():
        return None
    try:
        document, parts = read_state(path)
        progress = _progress(document)
    except UNREADABLE as error:
        raise _refusal(path, "is no checkpoint of a distillation") from error
    if progress.settings != settings:
        raise _refusal(path, "is the checkpoint of another run")
    return Checkpoint(progress, **parts)


def _progress(document: dict[str, Any]) -> Progress:
    curve = [(int(step), float(loss)) for step, loss in document.pop("curve")]
    return Progress(**document, curve=curve)


def _refusal(path: Path, problem: str) -> FormatError:
    return FormatError(
        f"{path}: {problem}",
        code="checkpoint",
        context={"path": str(path)},
        hint="remove the file to begin anew, or give another folder",
    )
