"""Text in a script that a base model hardly knows: what it was not trained to read tells nothing of how it reads.

A tokenizer shows what its model was trained on. Of a script that was there it has tokens of several letters; any other
it spells letter by letter, or byte by byte. A language in a script that the tokenizer knows goes unnoticed.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ual_registry.models.loaded import LoadedBase

__all__ = ["script_warnings"]

_SAMPLE_CHARS = 20_000
_SAMPLE_TOKENS = 8192
_LEAST_SHARE = 0.004
_LEAST_LETTERS = 2.0


def script_warnings(bases: Iterable[LoadedBase], texts: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each base model that hardly knows the script of most letters of the texts.

    Args:
        bases: Base models with tokenizers.
        texts: The calibration text.
    """
    sample = _sample(texts)
    found = Counter(script for letter in sample if (script := _script(letter)))
    if not found:
        return
    script, count = found.most_common(1)[0]
    for base in bases:
        tokenizer = base.text_tokenizer
        letters = count / max(len(tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"]), 1)
        if letters < _LEAST_LETTERS and _known_share(tokenizer, script) < _LEAST_SHARE:
            name = script if script == "CJK" else script.title()
            yield (
                f"most of the calibration text is in {name} letters, which the tokenizer of {base.base.id} spells "
                "one by one: what a model was not trained to read says little of how it reads; give text in the "
                "adapter's language"
            )


def _sample(texts: Iterable[str]) -> str:
    parts, room = [], _SAMPLE_CHARS
    for text in texts:
        parts.append(text[:room])
        room -= len(parts[-1])
        if room <= 0:
            break
    return "\n".join(parts)


def _script(letter: str) -> str | None:
    """Return the first word of a letter's name in Unicode, such as LATIN, CYRILLIC or CJK; ``None`` for others."""
    if not letter.isalpha():
        return None
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0] or None


def _known_share(tokenizer: Any, script: str) -> float:
    """Return the share of a vocabulary that has a letter of a script, from some thousand tokens spread over it."""
    count = len(tokenizer)
    ids = range(0, count, max(count // _SAMPLE_TOKENS, 1))
    known = sum(any(_script(letter) == script for letter in tokenizer.decode([index])) for index in ids)
    return known / max(len(ids), 1)
