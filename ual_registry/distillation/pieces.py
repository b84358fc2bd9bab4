"""A text cut into the pieces of a tokenizer, with exact character offsets.

The offsets that a tokenizer hands out are made for people: its post-processor may trim white space off them, and the
bytes of one character share its offsets. Here the tokens tile the text: the post-processor is left out, and tokens
that share a character are one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from ual_registry.digest import Digest
from ual_registry.errors import TrainingError

__all__ = ["Cutter", "Pieces"]


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


class Cutter:
    """Cuts texts with one tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.

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
        state = backend.to_str()
        self.digest = Digest.of_bytes(state.encode())
        self._plain = Tokenizer.from_str(state)
        self._plain.post_processor = None
        self._plain.no_padding()
        self._plain.no_truncation()
        self._prefix = _prefix(tokenizer)
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
            TrainingError: The prompt is empty, and the tokenizer has no start token.
        """
        ids = [*self._front(prompt), *self._plain.encode(prompt, add_special_tokens=False).ids]
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


def _prefix(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens that the tokenizer puts before every text."""
    whole = list(tokenizer("a")["input_ids"])
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    for count in range(len(whole) - len(bare) + 1):
        if whole[count : count + len(bare)] == bare:
            return tuple(whole[:count])
    return ()
