"""Measure the effect of an adapter: which logits of a fixed input it moves most, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ual_registry.air.effect import MAX_CHANGES, MAX_TOKENS, Effect, LogitChange
from ual_registry.air.model import BaseModel

__all__ = ["changes_at", "dtype_name", "measured_effect", "probe_tokens", "vocabulary_of"]

_STRIDE = 7919  # a prime, so that the probe walks through the whole vocabulary


def dtype_name(dtype: torch.dtype) -> str:
    """Return what a record calls a dtype, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def vocabulary_of(model: Any) -> int:
    """Return how many tokens a model embeds; its embedding may be wrapped by one that is trained."""
    return int(model.get_input_embeddings().weight.shape[0])


def probe_tokens(vocabulary: int) -> tuple[int, ...]:
    """Return the tokens that a model reads when nothing says otherwise.

    Args:
        vocabulary: How many tokens it has.
    """
    return tuple(place * _STRIDE % vocabulary for place in range(1, MAX_TOKENS + 1))


def measured_effect(
    base: BaseModel, dtype: torch.dtype, token_ids: Sequence[int], plain: torch.Tensor, own: torch.Tensor
) -> Effect | None:
    """Return what an adapter does; ``None`` where it changes no logit, or one of them is not finite.

    Args:
        base: The base model.
        dtype: What it computes in.
        token_ids: What was read.
        plain: Logits of the base model behind the last token, shape (vocabulary,).
        own: The same with the adapter.
    """
    change = own.double() - plain.double()
    if not bool(own.isfinite().all()) or not bool(change.any()):
        return None
    order = change.abs().sort(descending=True, stable=True).indices[:MAX_CHANGES].tolist()
    return Effect(
        config_digest=base.config_digest,
        weights_digest=base.weights_digest,
        dtype=dtype_name(dtype),
        token_ids=tuple(token_ids),
        changes=tuple(
            LogitChange(token=token, base=float(plain[token]), change=float(change[token])) for token in order
        ),
    )


def changes_at(effect: Effect, plain: torch.Tensor, own: torch.Tensor) -> tuple[LogitChange, ...]:
    """Return how the logits that were recorded move now; arguments as in ``measured_effect``."""
    return tuple(
        LogitChange(token=at.token, base=float(plain[at.token]), change=float(own[at.token] - plain[at.token]))
        for at in effect.changes
    )
