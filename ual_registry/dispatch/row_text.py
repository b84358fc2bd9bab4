"""The text of one row, token by token: what is certain is given out at once, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["RowText"]

_CONTEXT_TOKENS = 6
"""Tokens before the new ones that are decoded along: some tokenizers write a token's space by what stands before."""
_HALF_CHARACTER = "\ufffd"


class RowText:
    """Decodes what a model goes on with after a prompt, up to a stop text.

    Args:
        tokenizer: A fast tokenizer of transformers.
        prompt: Token ids of the prompt.
        stop: Texts that end the row and are left out of it.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._ids = list(prompt[-_CONTEXT_TOKENS:])
        self._done = len(self._ids)
        self._start = 0
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Take in a token and return the text that is certain now; it may be empty."""
        self._ids.append(token)
        found = self._decoded()
        return self._given(found)

    def end(self) -> str:
        """Return what was held back, since nothing more comes."""
        found = self._given(self._decoded(is_last=True))
        rest, self._held = self._held, ""
        return found + rest

    def _decoded(self, *, is_last: bool = False) -> str:
        """Return the text of the tokens that were not decoded yet; nothing where they end within a character."""
        before = self._text(self._ids[self._start : self._done])
        whole = self._text(self._ids[self._start :])
        if whole.endswith(_HALF_CHARACTER) and not is_last:
            return ""
        self._start, self._done = self._done, len(self._ids)
        return whole[len(before) :]

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _given(self, text: str) -> str:
        """Cut at a stop text, and hold back what may be the beginning of one."""
        if self.is_stopped:
            return ""
        text = self._held + text
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Return how long the longest beginning of a stop text is that the text ends with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
