"""Which texts and which tokens are worth training on: those that the source adapter, not its base, would write.

Source: TiTok (arXiv 2510.04682): excess scores, sample filter, token selection, and how scores change tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ual_registry.distillation.chunks import chunk_owners, chunk_sums

__all__ = ["excess", "sample_score", "select_samples", "select_tokens", "spread"]


def excess(adapted: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """Return how much likelier the adapter makes each piece of a text: ``log p(S + A) - log p(S)``, in nats."""
    return adapted - plain


def sample_score(scores: torch.Tensor) -> float:
    """Return the mean excess of a text; minus infinity where nothing of it was scored."""
    return float(scores.double().mean()) if scores.numel() else -math.inf


def select_samples(scores: Sequence[float], share: float) -> tuple[int, ...]:
    """Return the indices of the best texts, in their order.

    Args:
        scores: The mean excess of each text.
        share: How many of them to keep, above 0 to 1; at least one is kept, the earlier of two equal ones.
    """
    ranked = sorted(range(len(scores)), key=lambda index: -scores[index])
    return tuple(sorted(ranked[: _count(len(scores), share)]))


def spread(
    scores: torch.Tensor, source: Sequence[tuple[int, int]], target: Sequence[tuple[int, int]], tokens: int
) -> torch.Tensor:
    """Hand the scores of source pieces to the target tokens that say the same characters.

    A chunk's tokens each get the mean score of its pieces: a copy where there is one piece.

    Args:
        scores: Excess of the source pieces, shape (pieces,).
        source: The pieces of each chunk, first and one after the last.
        target: The tokens of each chunk, likewise.
        tokens: Tokens of the target's text.

    Returns:
        Shape (tokens,); minus infinity for tokens of no chunk.
    """
    sizes = scores.new_tensor([after - first for first, after in source])
    means = chunk_sums(scores, source) / sizes
    none = scores.new_full((1,), -math.inf)
    return torch.cat((means, none))[chunk_owners(target, tokens).to(scores.device)]


def select_tokens(scores: torch.Tensor, share: float) -> torch.Tensor:
    """Mark the best tokens of a text.

    Args:
        scores: Shape (n,); tokens of minus infinity are never marked, and do not count.
        share: How many of the others to mark, above 0 to 1; the earlier of two equal ones.

    Returns:
        Shape (n,), bool.
    """
    count = int(torch.isfinite(scores).sum())
    order = torch.argsort(scores, descending=True, stable=True)
    marked = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    marked[order[: _count(count, share)]] = True
    return marked


def _count(total: int, share: float) -> int:
    return min(total, max(1, math.ceil(share * total - 1e-9)))  # the margin takes back what rounding added
