"""Groups of tokens in which the predictions of two models can be compared: tokens that go on with the same bytes.

Two models seldom cut a text alike. Where one says ``bank`` and then ``ing``, the other may say ``banking`` at once; a
comparison of equal tokens alone would take the two for different predictions. So every token of the target stands in
the group of the longest source token that it begins with. A source token that no target token begins with stands in
the group of the longest target token that it begins with itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.models.token_texts import token_bytes

__all__ = ["TokenGroups", "grouped", "token_groups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGroups:
    """The group of every token of two models, from 0; tokens of no group have the number ``count``.

    Attributes:
        source: Shape (tokens that the source predicts,).
        target: Shape (tokens that the target predicts,).
        count: How many groups there are; each has tokens of both models.
    """

    source: torch.Tensor
    target: torch.Tensor
    count: int

    def __len__(self) -> int:
        """Return how many groups there are."""
        return self.count


def token_groups(source: Any, target: Any, *, sizes: tuple[int, int]) -> TokenGroups:
    """Group the tokens of two tokenizers by the bytes that they go on with; there may be no group.

    Special tokens are in no group, nor are tokens of which no token of the other model has the first byte.

    Args:
        source: A tokenizer.
        target: A tokenizer.
        sizes: How many tokens each model predicts; ids from there on are left out.
    """
    own, other = (token_bytes(item, size) for item, size in zip((source, target), sizes, strict=True))
    return grouped(own, other, sizes=sizes)


def grouped(own: Mapping[int, bytes], other: Mapping[int, bytes], *, sizes: tuple[int, int]) -> TokenGroups:
    """Group tokens by what they stand for, ids of the source and of the target; groups are in the order of the bytes.

    Args:
        own: The bytes of the source's tokens.
        other: The bytes of the target's tokens.
        sizes: How many tokens each model predicts.
    """
    known = frozenset(own.values())
    heads = _heads(frozenset(other.values()), known)
    numbers = {head: number for number, head in enumerate(sorted(set(heads.values())))}
    begun = _heads(known - numbers.keys(), heads.keys())
    leads = {head: head for head in numbers} | {text: heads[head] for text, head in begun.items()}
    return TokenGroups(
        source=_numbered(own, leads, numbers, sizes[0]),
        target=_numbered(other, heads, numbers, sizes[1]),
        count=len(numbers),
    )


def _heads(texts: Collection[bytes], known: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the longest known beginning of every text that has one."""
    longest = max(map(len, known), default=0)
    found = {}
    for text in texts:
        for length in range(min(len(text), longest), 0, -1):
            if text[:length] in known:
                found[text] = text[:length]
                break
    return found


def _numbered(
    texts: Mapping[int, bytes], leads: Mapping[bytes, bytes], numbers: Mapping[bytes, int], size: int
) -> torch.Tensor:
    found = torch.full((size,), len(numbers))
    known = [(index, numbers[leads[text]]) for index, text in texts.items() if text in leads]
    if known:
        places, groups = torch.tensor(known).T
        found[places] = groups
    return found
