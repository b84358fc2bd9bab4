"""The search language: text to a tree, every mistake with its column.

    base:llama rank>=16 (role:mlp_gate OR role:mlp_up) NOT domain:legal "drug names" order:-created

Terms joined by a space must all hold. Which fields exist, and what each is compared with, stands in ``fields``.
"""

from __future__ import annotations

import functools
import re

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from ual_registry.errors import QueryError
from ual_registry.registry.fields import ORDERS
from ual_registry.registry.reference import quoted
from ual_registry.registry.tree import Order, Query, mistake_at
from ual_registry.registry.tree_builder import TreeBuilder

__all__ = ["MAX_CHARACTERS", "parse_order", "parse_query"]


_GRAMMAR = r"""
    start: [either]
    either: all (OR all)*
    all: one (AND? one)*
    ?one: NOT one -> negation
       | "(" either ")" -> group
       | FIELD OPERATOR values (OPERATOR value)? -> term
       | WORD -> phrase
       | QUOTED -> phrase
    values: value ("," value)*
       | "(" value ("," value)* ")"
    value: VALUE | QUOTED | ASSIGNED
    OR.4: /OR(?![^\s()"])/
    AND.4: /AND(?![^\s()"])/
    NOT.4: /NOT(?![^\s()"])/
    FIELD.3: /[A-Za-z_][A-Za-z_.-]*(?=\s*(:|>|<))/
    OPERATOR: ":" | ">=" | "<=" | ">" | "<"
    QUOTED: /"(\\.|[^"\\])*"\*?/s
    ASSIGNED.2: /[^\s()",<>]*="(\\.|[^"\\])*"\*?/s
    VALUE: /[^\s()",<>]+/
    WORD: /(?!(AND|OR|NOT)(?![^\s()"]))[^\s()",:<>=]+/
    %ignore /\s+/
"""

MAX_CHARACTERS = 10_000
_MAX_NESTED = 32
_MAX_WORDS = 500
"""Limits far above what people write, and far below what exhausts a stack or a database."""

_IN_QUOTES = r'"(?:\\.|[^"\\])*"'
_PARTS = re.compile(_IN_QUOTES + r'|[()]|[^\s()"]+', re.DOTALL)
_QUOTED = re.compile(_IN_QUOTES + r"\*?", re.DOTALL)
_BEFORE = re.compile(r'(?:\A|[\s()"])(?:AND|OR|NOT)\Z|[\s(),:<>=]\Z|\A\Z')
_BEHIND = re.compile(r'(?:AND|OR|NOT)(?![^\s()"])|[\s(),:<>=]|\Z')
"""What may touch a text in quotes."""

_SIGNS = (":", "<", ">", "=")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


@functools.lru_cache(maxsize=256)
def parse_query(text: str) -> Query:
    """Parse a query; those asked of late are known, as the pages of one search ask the same again.

    Raises:
        QueryError: It is not well formed, or too long; the message points at the column.
    """
    _check_size(text)
    _check_quotes(text)
    try:
        query: Query = TreeBuilder(text).transform(_parser().parse(text))
    except VisitError as error:
        raise error.orig_exc from error
    except UnexpectedInput as error:
        raise mistake_at(text, _column(error, text), _expectation(error, text)) from error
    return query


def parse_order(text: str) -> Order:
    """Read an order: a field, ``-`` before it turns it round.

    Raises:
        QueryError: There is no such order.
    """
    name = text.removeprefix("-")
    if name not in ORDERS:
        raise QueryError(f"order {quoted(text)}: expected one of {', '.join(ORDERS)}", context={"order": text[:100]})
    return Order(name, text != name)


def _check_size(text: str) -> None:
    """Refuse what would exhaust the stack: every word costs a few frames where it nests."""
    if len(text) > MAX_CHARACTERS:
        raise mistake_at(text, MAX_CHARACTERS + 1, f"longer than {MAX_CHARACTERS:,} characters")
    found = _NO_TEXT.search(text)
    if found:
        raise mistake_at(text, found.start() + 1, f"no text holds the character {found[0]!r}")
    opened: list[int] = []
    negations = 0
    for count, word in enumerate(_PARTS.finditer(text), start=1):
        if word[0] == "(":
            opened.append(1 + negations)
        elif word[0] == ")":
            del opened[-1:]
        negations = negations + 1 if word[0] == "NOT" else 0
        if sum(opened) + negations > _MAX_NESTED:
            raise mistake_at(text, word.start() + 1, f"more than {_MAX_NESTED} parentheses and NOT around one term")
        if count > _MAX_WORDS:
            raise mistake_at(text, word.start() + 1, f"more than {_MAX_WORDS} words")


def _check_quotes(text: str) -> None:
    """Refuse a quote in the middle of a text, which would be cut there into two that must both be found."""
    for found in _QUOTED.finditer(text):
        start, end = found.span()
        is_begun = _BEFORE.search(text[max(start - 4, 0) : start])  # the longest word that may stand there, and a sign
        if not is_begun or not _BEHIND.match(text, end):
            place = end if is_begun else start
            raise mistake_at(text, place + 1, 'a quote stands around a whole text, such as domain:"a b"')


def _column(error: UnexpectedInput, text: str) -> int:
    at_end = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
    return len(text) + 1 if at_end else int(error.pos_in_stream or 0) + 1


def _expectation(error: UnexpectedInput, text: str) -> str:
    position = _column(error, text) - 1
    before, sign = text[:position].rstrip(), text[position : position + 1]
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return "the query ends too early"
    if sign == "=":
        return "'=' alone compares nothing; write ':', such as rank:8 or tag:team=search"
    if sign == '"' and isinstance(error, UnexpectedCharacters):
        return "this quote has no end"
    if isinstance(error, UnexpectedCharacters):
        return "unexpected character; a text with spaces or signs stands in quotes"
    if sign and sign in _SIGNS and before.endswith(_SIGNS):
        return "one term has one operator, such as rank>=8"
    return "unexpected here; expected a word or a term such as role:mlp_gate"
