"""Infer the binder of an architecture that no shipped binder knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.binders.base import BaseConfig
from ual_registry.storage import atomic_file, check_target
from ual_registry.workflows.binder_files import read_base
from ual_registry.workflows.extras import need_transformers

if TYPE_CHECKING:
    from ual_registry.tracing.infer import InferredBinder

__all__ = ["infer_binder"]


def infer_binder(base: str | Path, target: str | Path | None = None, *, force: bool = False) -> InferredBinder:
    """Infer a binder from what the model of a config computes; no weights are needed and no remote code is run.

    Args:
        base: The folder of a base model, its ``config.json``, or its repository on the Hub.
        target: File to write the document to.
        force: Whether to replace what stands there.

    Returns:
        The binder document, what was seen of each module, and what could not be told.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        UninferableArchitectureError: The model cannot be run in small, or its modules' roles contradict one another.
        UALError: The config cannot be read, or the document cannot be written.
    """
    config = read_base(base)
    if target is not None:
        check_target(Path(target), force=force)
    found = _inferrer()(config)
    if target is not None:
        with atomic_file(Path(target)) as out:
            out.write((json.dumps(found.document, indent=2) + "\n").encode())
    return found


def _inferrer() -> Callable[[BaseConfig], InferredBinder]:
    """Return ``infer``, which brings torch and transformers along."""
    need_transformers("inference of a binder")
    from ual_registry.tracing.infer import infer  # noqa: PLC0415  # loads torch and transformers

    return infer
