"""A text cut into the pieces of a tokenizer, with exact character offsets.

The bytes of one character share its offsets, so tokens that share a character are one piece.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.errors import TrainingError
from ual_registry.models.plain_tokens import frame, plain_tokenizer, tokenizer_digest

__all__ = ["Cutter", "Pieces"]

_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text as token ids, and where the tokens can be told apart.

    Attributes:
        ids: Token ids, those of special tokens in front first.
        prefix: How many special tokens stand in front.
        first: The first token that belongs to the completion and has a token before it, as an index of ``ids``.
        bounds: Indices of ``ids`` at which a piece ends, ascending; the first piece begins at ``prefix``.
        ends: The character offset at which each of these pieces ends, ascending.
    """

    ids: tuple[int, ...]
    prefix: int
    first: int
    bounds: tuple[int, ...]
    ends: tuple[int, ...]

    def within(self, limit: int | None) -> Pieces:
        """Return the pieces that end among the first tokens; ``None`` takes all."""
        if limit is None or len(self.ids) <= limit:
            return self
        held = bisect.bisect_right(self.bounds, limit)
        return replace(self, ids=self.ids[:limit], bounds=self.bounds[:held], ends=self.ends[:held])


class Cutter:
    """Cuts texts with one tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        TrainingError: The tokenizer is not backed by ``tokenizers``, so that it knows no offsets.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._plain = plain_tokenizer(tokenizer)
        self.digest = tokenizer_digest(tokenizer)
        self._prefix, _ = frame(tokenizer)
        self._start = next(
            (token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None), None
        )

    def cut(self, prompt: str, completion: str) -> Pieces:
        """Cut prompt and completion as one text.

        A token that holds characters of both belongs to the completion. Where the prompt is empty, a start token is
        put in front if the tokenizer has one, so that the first token has something to follow.
        """
        found = self._plain.encode(prompt + completion, add_special_tokens=False)
        front = self._front(prompt)
        offsets = found.offsets
        bounds, ends = [], []
        for index, (_, end) in enumerate(offsets):
            if index + 1 == len(offsets) or (offsets[index + 1][0] >= end and offsets[index + 1][1] > end):
                bounds.append(len(front) + index + 1)
                ends.append(end)
        own = next((index for index, (_, end) in enumerate(offsets) if end > len(prompt)), len(offsets))
        return Pieces(
            ids=(*front, *found.ids),
            prefix=len(front),
            first=max(len(front) + own, 1),
            bounds=tuple(bounds),
            ends=tuple(ends),
        )

    def prompt_ids(self, prompt: str) -> list[int]:
        """Return the token ids that a model is to go on from.

        Raises:
            TrainingError: The prompt is empty and the tokenizer has no start token, or has no token for the prompt.
        """
        ids = [*self._front(prompt), *self._plain.encode(prompt, add_special_tokens=False).ids]
        if not ids and prompt:
            raise TrainingError(
                f"cannot generate from {prompt[:_SHOWN_CHARACTERS]!r}: the tokenizer has no token for it",
                code="no-tokens",
                hint="give text in a script that the source base can read",
            )
        if not ids:
            raise TrainingError(
                "cannot generate from an empty prompt: the tokenizer has neither a start nor an end token",
                code="no-start-token",
                hint="give prompts",
            )
        return ids

    def _front(self, prompt: str) -> tuple[int, ...]:
        if prompt or self._prefix or self._start is None:
            return self._prefix
        return (self._start,)
