"""Where a training stands, as the bytes of one safetensors file: factors, the best ones so far, optimiser, numbers.

Nothing is pickled, so nothing that runs code can stand there. What the numbers are, and where the file is kept, is left
to others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

__all__ = ["UNREADABLE", "Tensors", "read_state", "state_bytes"]

Tensors = Mapping[str, torch.Tensor]

_KEY = "progress"
_PARTS = ("factors", "best", "optimizer")

UNREADABLE = (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError)
"""What reading raises of a file that is something else, and what looking at its numbers may raise."""


def state_bytes(document: Mapping[str, Any], *, factors: Tensors, best: Tensors, optimizer: Tensors) -> bytes:
    """Return the bytes of a file.

    Args:
        document: The numbers, as JSON.
        factors: Trainable parameters by name.
        best: Those of the best step.
        optimizer: The optimiser's tensors by name.
    """
    parts = zip(_PARTS, (factors, best, optimizer), strict=True)
    tensors = {
        f"{part}/{name}": value.detach().cpu().clone().contiguous()
        for part, values in parts
        for name, value in values.items()
    }
    return save(tensors, metadata={_KEY: json.dumps(document)})


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """Return the numbers, and the tensors by ``factors``, ``best`` and ``optimizer``.

    Raises:
        Exception: One of ``UNREADABLE``: it is no such file.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in _PARTS}
    with safe_open(path, framework="pt") as stream:
        document: dict[str, Any] = json.loads((stream.metadata() or {})[_KEY])
        for name in stream.keys():  # noqa: SIM118  # it is no mapping
            part, _, own = name.partition("/")
            parts[part][own] = stream.get_tensor(name)
    return document, parts
