"""Texts as token ids with exact character offsets, and the special tokens that a tokenizer puts around every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.models.plain_tokens import frame, plain_tokenizer

__all__ = ["Encoded", "Encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A text as tokens.

    Attributes:
        ids: Token ids.
        spans: First character of each token and the one after its last.
    """

    ids: list[int]
    spans: list[tuple[int, int]]


class Encoder:
    """Encodes texts with one tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Attributes:
        prefix: Special tokens before every text.
        suffix: Special tokens after every text.
        end: The token that ends a text; ``None`` where the tokenizer has none.
        pad: What rows are filled up with; it is never looked at.

    Raises:
        TrainingError: The tokenizer is not backed by ``tokenizers``, so that it knows no offsets.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._plain = plain_tokenizer(tokenizer)
        self.prefix, self.suffix = frame(tokenizer)
        self.end: int | None = tokenizer.eos_token_id
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad: int = next(token for token in known if token is not None)
        self._special = tuple(token for token in tokenizer.all_special_tokens if token.strip())

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens."""
        return frozenset(self.tokenizer.all_special_ids)

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts, without special tokens around them."""
        found = self._plain.encode_batch(list(texts), add_special_tokens=False)
        return [Encoded(ids=own.ids, spans=own.offsets) for own in found]

    def holds_special(self, text: str) -> bool:
        """Tell whether a text spells a special token, which is read as that token."""
        return any(token in text for token in self._special)

    def ends_with_special(self, text: str) -> bool:
        """Tell whether a text ends with a special token."""
        return text.endswith(self._special) or self._ends_with_added(text)

    def _ends_with_added(self, text: str) -> bool:
        added = self.tokenizer.get_added_vocab()
        return any(text.endswith(token) for token in added if token.strip())
