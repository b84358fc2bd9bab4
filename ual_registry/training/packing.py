"""Whether a model can read several rows in one line: none of them may see another, nor stand anywhere else than alone.

What a row sees is told by changing the row before it, which rounding does not spoil: both lines are summed up in the
same order. A row alone is summed up in another order, so that with halved weights it differs by their rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ual_registry.errors import TrainingError

__all__ = ["check_packing"]

_SEEN = 1e-3
"""Largest difference of logits, as a share of the largest of them, that counts as none."""

_ROUNDED = 5e-2
"""The same beside a row alone, where weights are halved: the two are summed up in another order, and round apart."""

_LENGTH = 6


@torch.no_grad()
def check_packing(model: Any) -> None:
    """Run a row alone and behind two others, and compare what the model says of it.

    Args:
        model: A causal model; its mode is left as it was.

    Raises:
        TrainingError: The rows of a line see one another, or are read otherwise than alone.
    """
    first, second, row = (_row(model, step) for step in (5, 11, 7))
    was_training = model.training
    model.eval()
    try:
        alone, behind, behind_another = (_logits(model, *before, row) for before in ((), (first,), (second,)))
    finally:
        model.train(was_training)
    size = alone.abs().max().clamp_min(1e-6)
    seen, apart = (float((behind - own).abs().max() / size) for own in (behind_another, alone))
    limit = _SEEN if next(model.parameters()).dtype == torch.float32 else _ROUNDED
    if not seen <= _SEEN:
        raise _refusal(model, "see one another", seen)
    if not apart <= limit:
        raise _refusal(model, "are read otherwise than alone", apart)


def _row(model: Any, step: int) -> list[int]:
    width = int(model.config.get_text_config().vocab_size)
    return [1 + (step * offset) % (width - 1) for offset in range(3, 3 + _LENGTH)]


def _logits(model: Any, *rows: Sequence[int]) -> torch.Tensor:
    """Return what a model says of the last of some rows in one line, shape (tokens, vocabulary)."""
    device = next(model.parameters()).device
    ids = torch.tensor([[token for row in rows for token in row]], device=device)
    positions = torch.tensor([[place for row in rows for place in range(len(row))]], device=device)
    logits: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, -len(rows[-1]) :]
    return logits.float()


def _refusal(model: Any, problem: str, difference: float) -> TrainingError:
    return TrainingError(
        f"{type(model).__name__}: rows that are packed into one line {problem} (logits differ by "
        f"{difference:.1e} of the largest)",
        code="packing",
        hint="set batching to grouped",
    )
