"""The file of a result: written by way of the folder that PEFT makes, then read back and proved.

Nothing but the file system and what is written to it can fail here, after all the work, so what either says is told.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import Effect, with_effect
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.errors import StorageError
from ual_registry.interop.from_peft import from_peft
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.proof import check_reload
from ual_registry.training.record import TrainingRecord, training_statement

__all__ = ["Answered", "prove_result", "write_result"]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What the trained model answers on a probe.

    Attributes:
        head: One of ``config.HEADS``.
        batch: The probe.
        logits: The answer.
        effect: What the factors do to the fixed input of all adapters of the base model, where that can be recorded.
    """

    head: str
    batch: Mapping[str, torch.Tensor]
    logits: torch.Tensor
    effect: Effect | None


def write_result(
    path: Path,
    model: Any,
    base: LoadedBase,
    record: TrainingRecord,
    *,
    effect: Effect | None,
    labels: Mapping[str, Any],
    created_at: str | None,
) -> None:
    """Write the factors of a model as an AIR file.

    Args:
        path: The file.
        model: The PEFT model.
        base: The base model.
        record: What the training did.
        effect: What the factors do, where that can be recorded.
        labels: Fields of the manifest that people write.
        created_at: When, in RFC 3339.

    Raises:
        StorageError: The file system refuses.
    """
    with _storage_told(path), tempfile.TemporaryDirectory(prefix="ual-train-") as place:
        model.save_pretrained(place, safe_serialization=True, save_embedding_layers=False)
        with from_peft(place, base.config, base_id=base.base.id) as adapter:
            manifest = replace(
                adapter.manifest,
                base_model=base.base,
                provenance=(training_statement(replace(record, proof=None), created_at=created_at),),
                created_at=created_at,
                **labels,
            )
            write(Adapter(with_effect(manifest, effect), adapter.tensors), path)


def prove_result(
    path: Path, base: LoadedBase, record: TrainingRecord, answered: Answered, *, created_at: str | None
) -> TrainingRecord:
    """Read the file back onto the base model, and write the proof into it.

    Args:
        path: The file.
        base: The base model, without the factors.
        record: What the training did, with a proof that lacks the file still.
        answered: What the trained model answers, in the precision of the context around this call.
        created_at: When, in RFC 3339.

    Returns:
        The record with the whole proof.

    Raises:
        TrainingError: The file answers otherwise than the trained model.
        StorageError: The file system refuses.
    """
    assert record.proof is not None  # it is measured before the file is there
    with _storage_told(path):
        error = check_reload(base, path, answered.head, answered.batch, answered.logits)
        proof = replace(record.proof, reload_error=error)
        record = replace(record, proof=proof)
        with read(path) as adapter:
            statement = training_statement(record, created_at=created_at)
            write(Adapter(replace(adapter.manifest, provenance=(statement,)), adapter.tensors), path)
        return replace(record, proof=replace(proof, size_bytes=path.stat().st_size))


@contextlib.contextmanager
def _storage_told(path: Path) -> Iterator[None]:
    """Turn what PEFT and safetensors raise when a disk is full, or a folder read-only, into what a user can do."""
    try:
        yield
    except OSError as error:
        raise StorageError.of("write", path, error) from error
    except SafetensorError as error:
        raise StorageError.of("write", path, OSError(str(error))) from error
