"""What a training leaves as it was in the process around it: random numbers, and how much transformers says."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers

__all__ = ["undisturbed"]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put back, on leaving, the random numbers of Python, numpy and torch, and the words of transformers."""
    logging: Any = transformers.utils.logging
    spoken, python, others = logging.get_verbosity(), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(others)  # what transformers seeds
        logging.set_verbosity(spoken)
