"""What is a word to full-text search, the same on every engine.

Texts and queries go through the same function before a database sees them, so that the rules of its own tokenizer,
which differ from engine to engine, have nothing left to decide.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["words"]

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 64
"""Characters of a word that count."""


def words(text: str) -> list[str]:
    """Split a text into words: runs of letters and digits, without accents and in lower case.

    >>> words("Médecine: Llama-3.2_QA")
    ['medecine', 'llama', '3', '2', 'qa']
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [word[:_LONGEST] for word in _WORD.findall(plain.casefold())]
