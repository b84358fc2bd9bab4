"""Texts as token ids with exact character offsets, and the special tokens that a tokenizer puts around every text.

The offsets that a tokenizer hands out are made for people: its post-processor may trim white space off them. Here it is
left out, so that the tokens tile the text, and what it would have put around the text is put there by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from ual_registry.errors import TrainingError

__all__ = ["Encoded", "Encoder"]

_PROBE = "a"


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
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise TrainingError(
                f"{type(tokenizer).__name__}: knows no character offsets",
                code="slow-tokenizer",
                hint="give the base model's tokenizer.json",
            )
        self.tokenizer = tokenizer
        self._plain = Tokenizer.from_str(backend.to_str())
        self._plain.post_processor = None
        self._plain.no_padding()
        self._plain.no_truncation()
        self.prefix, self.suffix = _frame(tokenizer)
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


def _frame(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that the tokenizer puts before and after every text."""
    whole = list(tokenizer(_PROBE)["input_ids"])
    bare = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
    for count in range(len(whole) - len(bare) + 1):
        if whole[count : count + len(bare)] == bare:
            return tuple(whole[:count]), tuple(whole[count + len(bare) :])
    return (), ()
