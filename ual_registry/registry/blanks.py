"""Blanks: what stands in a question for a value, so that questions which differ in values alone have one statement.

A value is bound as it is or as one of the readings below, such as in lower case; which one, the name of the bound
parameter says. No value becomes part of a statement.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, BindParameter, Double, String, bindparam
from sqlalchemy.types import TypeEngine

from ual_registry.registry.tables import TIME

__all__ = ["READINGS", "Blank", "after", "reading_of"]

_LAST_CHARACTER = 0x10FFFF

_FOLDED = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""What both engines do by ``lower``: SQLite knows no other letters, nor PostgreSQL in the collation C."""


def _folded(text: str) -> str:
    return text.translate(_FOLDED)


def after(prefix: str) -> str | None:
    """Return the first text behind all that begin so; none where there is no such text.

    >>> after("med"), after("")
    ('mee', None)
    """
    stem = prefix.rstrip(chr(_LAST_CHARACTER))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)  # between them there are no characters


def _behind_slash(text: str) -> str:
    """Take their meaning from the signs of LIKE."""
    return "%/" + re.sub(r"([\\%_])", r"\\\1", _folded(text))


def _lexemes(words: tuple[str, ...]) -> str:
    """Words hold letters and digits alone, so that they cannot be syntax."""
    return " <-> ".join(f"'{word}'" for word in words)


READINGS: Mapping[str, Callable[[Any], Any]] = {
    "same": lambda value: value,
    "folded": _folded,
    "after": after,
    "folded_after": lambda text: after(_folded(text)),
    "behind_slash": _behind_slash,
    "behind_slash_prefix": lambda text: _behind_slash(text) + "%",
    "phrase": lambda words: f'"{" ".join(words)}"',
    "phrase_prefix": lambda words: f'"{" ".join(words)}"*',
    "lexemes": _lexemes,
    "lexemes_prefix": lambda words: _lexemes(words) + ":*",
    "first": lambda words: words[0],
    "first_prefix": lambda words: words[0],
    "held": lambda words: f" {' '.join(words)} ",
    "held_prefix": lambda words: f" {' '.join(words)}",
}
"""What may be made of a value before it is bound."""

_TYPES: Mapping[type, TypeEngine[Any]] = {
    str: String(),
    tuple: String(),
    int: BigInteger(),
    float: Double(),
    datetime.datetime: TIME,
}
"""How values of each type are bound; the words of a phrase as one text."""

_NAME = re.compile(r"blank_([a-z_]+)_(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Blank:
    """The place of a value.

    Attributes:
        number: Of the value in its question, from 0.
        kind: Its type.
        reading: What is made of it.
        is_endless: Whether it is a text that no text lies behind which does not begin so.
        is_alone: Whether it is one word, not several that stand one after the other.
    """

    number: int
    kind: type
    reading: str = "same"
    is_endless: bool = False
    is_alone: bool = False

    def read(self, reading: str) -> Blank:
        """Return the same place with another reading."""
        return dataclasses.replace(self, reading=reading)

    def bound(self) -> BindParameter[Any]:
        """Return the parameter of a statement."""
        return bindparam(f"blank_{self.reading}_{self.number}", type_=_TYPES[self.kind])

    __clause_element__ = bound
    """So that a column can be compared with it."""


def reading_of(name: str) -> tuple[Callable[[Any], Any], int] | None:
    """Return what is made of which value for a parameter; ``None`` where it belongs to no blank."""
    found = _NAME.match(name)
    return None if found is None else (READINGS[found[1]], int(found[2]))
