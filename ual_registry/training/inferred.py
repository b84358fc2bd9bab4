"""Architectures that no binder knows: what their modules do is inferred from what a tiny copy of the model computes.

The inferred binder is written down, and counts while the training runs, as one that ``UAL_BINDERS`` names. The adapter
needs it afterwards too, so it is kept beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ual_registry.binders.base import BaseConfig
from ual_registry.binders.load import BINDERS_VARIABLE, known_model_types
from ual_registry.storage import atomic_file
from ual_registry.tracing.infer import InferredBinder, infer

__all__ = ["known_architecture"]


@contextlib.contextmanager
def known_architecture(config: BaseConfig, file: Path) -> Iterator[InferredBinder | None]:
    """Make the architecture of a base model known while the block runs.

    Args:
        config: The base model's config.
        file: Where the binder is written if it has to be inferred.

    Yields:
        What was inferred; ``None`` where a binder knows the architecture already.

    Raises:
        UninferableArchitectureError: No binder knows it, and none can be inferred.
        BinderDataError: The config has no ``model_type``.
        StorageError: The binder cannot be written.
    """
    if config.model_type in known_model_types():
        yield None
        return
    found = infer(config)
    with atomic_file(file) as stream:
        stream.write(json.dumps(found.document, indent=2).encode() + b"\n")
    before = os.environ.get(BINDERS_VARIABLE)
    os.environ[BINDERS_VARIABLE] = os.pathsep.join(filter(None, (str(file.resolve()), before)))
    try:
        yield found
    finally:
        if before is None:
            del os.environ[BINDERS_VARIABLE]
        else:
            os.environ[BINDERS_VARIABLE] = before
