"""Tokens that two vocabularies have in common: those that stand for the same text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.models.token_texts import token_texts
from ual_registry.transfers.requirements import require_tokens

__all__ = ["SharedTokens", "shared_tokens"]


@dataclass(frozen=True, slots=True)
class SharedTokens:
    """Pairs of token ids that stand for the same text, in ascending order of the source's.

    Attributes:
        source: Ids of the source, shape (n,).
        target: Ids of the target, shape (n,).
    """

    source: torch.Tensor
    target: torch.Tensor

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.source)


def shared_tokens(source: Any, target: Any, *, sizes: tuple[int, int], bases: tuple[str, str]) -> SharedTokens:
    """Return the tokens that two tokenizers decode to the same text, one to one.

    Special tokens are left out. Parts of characters decode to nothing of their own; they are compared by how the
    vocabularies write them. Where a tokenizer has several tokens for one text, the first of them counts.

    Args:
        source: A tokenizer.
        target: A tokenizer.
        sizes: How many tokens each model predicts; ids from there on are left out.
        bases: The labels of both base models, for the message.

    Raises:
        TransferError: There is none.
    """
    texts, others = (dict(token_texts(item, size)) for item, size in zip((source, target), sizes, strict=True))
    both = sorted((texts[text], others[text]) for text in texts.keys() & others.keys())
    require_tokens(len(both), bases)
    pairs = torch.tensor(both)
    return SharedTokens(pairs[:, 0].contiguous(), pairs[:, 1].contiguous())
