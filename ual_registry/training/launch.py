"""How several processes share a training, as ``accelerate launch`` tells each. Nothing here loads a framework."""

from __future__ import annotations

import os

__all__ = ["is_first", "local_index", "processes"]


def processes() -> tuple[int, int]:
    """Return which process this is, from 0, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this process speaks for all that share the training."""
    return processes()[0] == 0


def local_index() -> int:
    """Return which process of its machine this is, from 0: the GPU that is its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))
