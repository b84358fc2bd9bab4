"""What the tokens of a vocabulary stand for: texts, and the bytes of those that are parts of characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["BROKEN", "token_bytes", "token_texts"]

BROKEN = "\ufffd"
"""What a decoder makes of a part of a character."""

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_texts(tokenizer: Any, size: int) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield what every token stands for with its id, from the last to the first, so that the first one stays.

    A token is decoded behind a letter: many decoders strip the space that a text begins with.

    Args:
        tokenizer: A tokenizer.
        size: Ids from there on are left out.

    Yields:
        ``("", text)`` and the id; ``(BROKEN, what the vocabulary writes)`` where a token is a part of a character.
    """
    special = set(tokenizer.all_special_ids)
    known = sorted(index for index in tokenizer.get_vocab().values() if index < size and index not in special)
    if not known:
        return  # an empty batch is decoded to one empty text
    letter = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    start = tokenizer.decode(letter, clean_up_tokenization_spaces=False)
    decoded = tokenizer.batch_decode([[*letter, index] for index in known], clean_up_tokenization_spaces=False)
    written = tokenizer.convert_ids_to_tokens(known)
    for index, text, own in reversed(list(zip(known, decoded, written, strict=True))):
        if BROKEN in text:
            yield (BROKEN, own), index
        elif text.startswith(start) and len(text) > len(start):
            yield ("", text[len(start) :]), index


def token_bytes(tokenizer: Any, size: int) -> dict[int, bytes]:
    """Return what every token below ``size`` stands for, by its id; special tokens and unknown parts are left out."""
    found = {}
    for (kind, text), index in token_texts(tokenizer, size):
        data = _part(text) if kind == BROKEN else text.encode("utf-8", "replace")
        if data:
            found[index] = data
    return found


def _part(written: str) -> bytes | None:
    """Return the bytes of a part of a character, as byte-level vocabularies or those that fall back to bytes write it.

    >>> list(_part("<0xE2>")), list(_part("âĤ")), _part("is no part")
    ([226], [226, 130], None)
    """
    if found := _BYTE.fullmatch(written):
        return bytes.fromhex(found[1])
    known = [_BYTE_LETTERS.get(letter) for letter in written]
    return None if None in known else bytes(value for value in known if value is not None)


def _byte_letters() -> dict[str, int]:
    """Return the byte of every letter of the byte-level alphabet: printable Latin-1 stands for itself.

    Source: Radford et al., GPT-2, encoder.py, ``bytes_to_unicode``.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in plain]
    return {chr(value): value for value in plain} | {chr(256 + place): value for place, value in enumerate(others)}


_BYTE_LETTERS = _byte_letters()
