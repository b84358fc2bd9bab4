"""Proof, after a training, that there is an adapter: it acts, and its file read back answers as the trained model did.

The file goes the way that any other consumer goes: AIR to a PEFT folder, PEFT onto the base model.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch

from ual_registry.air.effect import Effect
from ual_registry.air.read import read
from ual_registry.errors import TrainingError
from ual_registry.interop.to_peft import to_peft
from ual_registry.models.effect_probe import measured_effect, probe_tokens, vocabulary_of
from ual_registry.models.loaded import LoadedBase
from ual_registry.training.factors import put_back

__all__ = ["answers", "check_reload", "effect_to_record", "logit_change"]

_TOLERANCE = 1e-4
"""How much logits of the file may differ, as a share of their own size; halved weights are rounded anew by layers."""

_ROUNDED_TOLERANCE = 1e-3
"""The same where weights are halved: both sides round alike, so what is left is no more than another order of sums."""


@torch.no_grad()
def answers(model: Any, head: str, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a batch in evaluation mode.

    Args:
        model: The model.
        head: One of ``config.HEADS``.
        batch: Its inputs, and labels, of which a decoder's inputs are made.
    """
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    further: dict[str, Any] = {"use_cache": False} if head == "causal" else {}  # packed rows are told by its absence
    if head == "seq2seq":
        further["labels"] = batch["labels"].to(device)
    was_training = model.training
    model.eval()
    logits: torch.Tensor = model(**inputs, **further).logits.float().cpu()
    model.train(was_training)
    return logits


def logit_change(model: Any, head: str, batch: Mapping[str, torch.Tensor], own: torch.Tensor) -> float:
    """Return the largest change of a logit that the factors of a PEFT model make.

    Args:
        model: The PEFT model.
        head: One of ``config.HEADS``.
        batch: What to answer.
        own: What it answers with its factors.
    """
    with model.disable_adapter():
        plain = answers(model, head, batch)
    return float((own - plain).abs().max())


def effect_to_record(model: Any, base: LoadedBase, head: str) -> Effect | None:
    """Return what the factors of a PEFT model do to the fixed input of all adapters of its base model.

    Args:
        model: The PEFT model.
        base: Its base model.
        head: One of ``config.HEADS``; the effect of another than ``causal`` has no record.
    """
    if head != "causal":
        return None
    token_ids = probe_tokens(vocabulary_of(model))
    batch = {"input_ids": torch.tensor([token_ids])}
    own = answers(model, head, batch)[0, -1]
    with model.disable_adapter():
        plain = answers(model, head, batch)[0, -1]
    return measured_effect(base.base, next(base.model.parameters()).dtype, token_ids, plain, own)


def check_reload(
    base: LoadedBase, path: Path, head: str, batch: Mapping[str, torch.Tensor], own: torch.Tensor
) -> float:
    """Return the largest difference of a logit of an adapter as trained and as read back from its file.

    Both answers are to be computed in the same precision: whoever calls enters the context that ``own`` came from.

    Args:
        base: The base model, without the factors.
        path: The AIR file.
        head: One of ``config.HEADS``.
        batch: What to answer.
        own: What the trained model answers.

    Raises:
        TrainingError: They differ by more than rounding.
    """
    with tempfile.TemporaryDirectory(prefix="ual-train-") as place, read(path) as adapter:
        folder = Path(place) / "adapter"
        to_peft(adapter, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as where the factors are put on
            wrapped: Any = peft.PeftModel.from_pretrained(base.model, str(folder))
    try:
        found = answers(wrapped, head, batch)
    finally:
        put_back(wrapped)
        base.model.eval().requires_grad_(False)
    error = float((found - own).abs().max())
    is_rounded = next(base.model.parameters()).dtype != torch.float32
    limit = (_ROUNDED_TOLERANCE if is_rounded else _TOLERANCE) * max(float(own.abs().max()), 1.0)
    if not error <= limit:
        raise TrainingError(
            f"{path}: read back, it answers otherwise than it was trained (logits differ by {error:.3g})",
            code="reload-differs",
            context={"path": str(path), "difference": error},
        )
    return error
