"""Measure one arm of the zoo: bits per byte of every document of a split.

It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from benchmarks.transfer.arms import FLIPPED, Arm
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.evaluation.controls import random_same_norm, scaled, sign_flipped
from ual_registry.evaluation.items import Document
from ual_registry.evaluation.series import Series
from ual_registry.evaluation.tasks import BitsPerByte
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["score"]


def score(loaded: LoadedBase, arm: Arm, texts: Sequence[str]) -> Sequence[Series]:
    """Return the bits per byte of an arm, with one number for each text."""
    documents = [Document(line=line, text=text) for line, text in enumerate(texts, start=1)]
    with contextlib.ExitStack() as stack:
        if arm.file is not None and arm.dose != 0:
            adapter = stack.enter_context(read(arm.file))
            stack.enter_context(attach(loaded.model, scaled(_controlled(adapter, arm.control), arm.dose)))
        return BitsPerByte().score(loaded, documents)


def _controlled(adapter: Adapter, control: str) -> Adapter:
    """Return the control that is made of an adapter; the adapter itself where none is asked for."""
    if not control:
        return adapter
    if control == FLIPPED:
        return sign_flipped(adapter)
    return random_same_norm(adapter, int(control.rsplit(maxsplit=1)[-1]))
