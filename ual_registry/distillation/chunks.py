"""Chunks: the smallest parts of a text that two tokenizers both cut at, with the numbers that belong to each.

Source: Minixhofer et al., Universal Cross-Tokenizer Distillation via Approximate Likelihood Matching (arXiv
2503.20083): chunks are aligned where both tokenizations end at the same character.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ual_registry.distillation.pieces import Pieces

__all__ = ["Chunks", "chunk_owners", "chunk_sums", "common_ends", "scored_pieces", "shared_chunks"]


def common_ends(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Return the character offsets at which both tokenizations end a piece, ascending.

    >>> common_ends((1, 3, 4, 9), (3, 6, 9))
    (3, 9)
    """
    return tuple(sorted(set(one) & set(other)))


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of one text that both sides score whole.

    Attributes:
        ends: Character offset at which each chunk ends, ascending.
        source: For each chunk, its first source piece and the one after its last, as indices of the scored pieces.
        target: For each chunk, its first target token and the one after its last, as indices of ``Pieces.ids``.
    """

    ends: tuple[int, ...]
    source: tuple[tuple[int, int], ...]
    target: tuple[tuple[int, int], ...]


def scored_pieces(pieces: Pieces) -> tuple[int, tuple[tuple[int, int, int], ...]]:
    """Return the pieces whose tokens are all scored.

    Returns:
        The character offset at which the first of them begins, and for each its first token, the one after its last,
        and the character offset at which it ends.
    """
    found: list[tuple[int, int, int]] = []
    start, before = 0, pieces.prefix
    for bound, end in zip(pieces.bounds, pieces.ends, strict=True):
        if before >= pieces.first:
            found.append((before, bound, end))
        else:  # nothing before it is scored either
            start = end
        before = bound
    return start, tuple(found)


def shared_chunks(source_start: int, source_ends: Sequence[int], target: Pieces) -> Chunks:
    """Cut one text where both sides can.

    Args:
        source_start: Character offset at which the first scored piece of the source begins.
        source_ends: Character offsets at which the scored pieces of the source end, ascending.
        target: The same text in the target's pieces.
    """
    target_start, scored = scored_pieces(target)
    source_cuts = [source_start, *source_ends]
    target_cuts = [target_start, *(end for _, _, end in scored)]
    tokens = [scored[0][0] if scored else target.first, *(after for _, after, _ in scored)]
    cuts = common_ends(source_cuts, target_cuts)
    own = [bisect.bisect_left(source_cuts, cut) for cut in cuts]
    theirs = [tokens[bisect.bisect_left(target_cuts, cut)] for cut in cuts]
    return Chunks(
        ends=cuts[1:],
        source=tuple(itertools.pairwise(own)),
        target=tuple(itertools.pairwise(theirs)),
    )


def chunk_sums(values: torch.Tensor, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Add up log-probabilities by chunk.

    Args:
        values: Shape (n,), floating point.
        spans: For each chunk its first index and the one after its last; chunks do not overlap.

    Returns:
        The log-probability of each chunk, shape (chunks,), the dtype of ``values``.
    """
    owners = chunk_owners(spans, values.shape[0]).to(values.device)
    return values.new_zeros(len(spans) + 1).index_add(0, owners, values)[:-1]


def chunk_owners(spans: Sequence[tuple[int, int]], count: int) -> torch.Tensor:
    """Return which chunk each of ``count`` values belongs to, int64, shape (count,); the number of chunks for none.

    It is made on the CPU, as a list: as tensors every chunk would be a call of its own.
    """
    owners = [len(spans)] * count
    for index, (first, after) in enumerate(spans):
        owners[first:after] = [index] * (min(after, count) - first)
    return torch.tensor(owners, dtype=torch.long)
