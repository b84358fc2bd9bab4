"""Texts as tokenizers take them: characters alone."""

from __future__ import annotations

__all__ = ["characters"]


def characters(text: str) -> str:
    r"""Return a text with a question mark for every half of a surrogate pair, at which a tokenizer would stop.

    >>> characters("a\ud800é")
    'a?é'
    """
    return text.encode("utf-8", "replace").decode()
