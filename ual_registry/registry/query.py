"""The search language: text to a tree, every mistake with its column.

    base:llama rank>=16 (role:mlp_gate OR role:mlp_up) NOT domain:legal

Terms joined by a space must all hold. Which fields exist, and what each compares, is one table.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, VisitError

from ual_registry.air.roles import ROLES
from ual_registry.errors import QueryError

__all__ = ["FIELDS", "All", "Any_", "Comparison", "Field", "Kind", "Node", "Not", "parse_query"]


class Kind(StrEnum):
    """What a field is compared with."""

    TEXT = "text"
    NUMBER = "number"
    ROLE = "role"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the language and what it means."""

    kind: Kind
    help: str


FIELDS: dict[str, Field] = {
    "base": Field(Kind.TEXT, "base model: its label, architecture or model type"),
    "role": Field(Kind.ROLE, "some entry plays this role"),
    "rank": Field(Kind.NUMBER, "some entry has this rank"),
    "domain": Field(Kind.TEXT, "the field that the adapter serves"),
    "name": Field(Kind.TEXT, "the adapter's name"),
    "method": Field(Kind.TEXT, "lora, or the projection that made the adapter"),
    "license": Field(Kind.TEXT, "SPDX expression"),
}
"""Every field of the search language."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One term: field, operator (``:``, ``>=``, ``<=``, ``>``, ``<``), value."""

    field: str
    operator: str
    value: str | int


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; no part at all holds always."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any_:  # noqa: N801  # `Any` would hide typing's
    """Some part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


Node = Comparison | All | Any_ | Not

_GRAMMAR = r"""
    start: [either]
    either: all ("OR" all)*
    all: one+
    one: "NOT" one -> negation
       | "(" either ")" -> group
       | FIELD OPERATOR value -> term
    value: WORD | STRING
    FIELD.2: /[A-Za-z_]+(?=\s*(:|>=|<=|>|<))/
    OPERATOR: ":" | ">=" | "<=" | ">" | "<"
    STRING: /"(\\.|[^"\\])*"/
    WORD: /[^\s()":<>]+/
    %ignore /\s+/
"""


_MAX_NESTED = 32
_MAX_WORDS = 500
"""Limits far above what people write and far below what exhausts a stack."""

_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|[()]|[^\s()"]+', re.DOTALL)


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def parse_query(text: str) -> Node:
    """Parse a query.

    Raises:
        QueryError: It is not well formed, or too long; the message points at the column.
    """
    _check_size(text)
    try:
        tree = _parser().parse(text)
        node: Node = _Builder(text).transform(tree)
    except VisitError as error:
        raise error.orig_exc from error
    except UnexpectedInput as error:
        raise _mistake(text, _column(error, text), _expectation(error)) from error
    return node


def _check_size(text: str) -> None:
    """Refuse what would exhaust the stack: every word costs a few frames where it nests."""
    opened: list[int] = []
    negations = 0
    for count, word in enumerate(_WORDS.finditer(text), start=1):
        if word[0] == "(":
            opened.append(1 + negations)
        elif word[0] == ")":
            del opened[-1:]
        negations = negations + 1 if word[0] == "NOT" else 0
        if sum(opened) + negations > _MAX_NESTED:
            raise _mistake(text, word.start() + 1, f"more than {_MAX_NESTED} parentheses and NOT around one term")
        if count > _MAX_WORDS:
            raise _mistake(text, word.start() + 1, f"more than {_MAX_WORDS} words")


def _column(error: UnexpectedInput, text: str) -> int:
    at_end = isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")
    return len(text) + 1 if at_end else int(error.pos_in_stream or 0) + 1


def _expectation(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedCharacters):
        return "expected a term such as rank>=16, NOT, OR or a parenthesis"
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return "the query ends too early"
    return "unexpected here; expected a term such as role:mlp_gate"


def _mistake(text: str, column: int, message: str) -> QueryError:
    shown = re.sub(r"\s", " ", text)  # one line, so that the mark stands where it should
    return QueryError(
        f"query, column {column}: {message}\n  {shown}\n  {' ' * (column - 1)}^",
        context={"column": column},
        hint=f"fields: {', '.join(FIELDS)}",
    )


class _Builder(Transformer[Token, Any]):
    """Turns lark's tree into ours, and checks fields, operators and values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, children: list[Node]) -> Node:
        """Return the whole query; an empty one holds always."""
        return children[0] if children else All(())

    def either(self, children: list[Node]) -> Node:
        """Join parts of which some must hold."""
        return children[0] if len(children) == 1 else Any_(tuple(children))

    def all(self, children: list[Node]) -> Node:
        """Join parts that must all hold."""
        return children[0] if len(children) == 1 else All(tuple(children))

    def negation(self, children: list[Node]) -> Node:
        """Turn a part into its opposite."""
        return Not(children[0])

    def group(self, children: list[Node]) -> Node:
        """Take a part out of its parentheses."""
        return children[0]

    def value(self, children: list[Token]) -> Token:
        """Take the text of a value, quotes and escapes removed."""
        token = children[0]
        if token.type == "STRING":
            text = token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
            return Token("STRING", text, start_pos=token.start_pos)
        return token

    @v_args(inline=True)
    def term(self, field: Token, operator: Token, value: Token) -> Node:
        """Check one term and return its comparison."""
        if str(field) not in FIELDS:
            raise self._mistake(field, f"unknown field {str(field)!r}")
        kind = FIELDS[str(field)].kind
        if kind is Kind.NUMBER:
            return Comparison(str(field), str(operator), self._number(value))
        if operator != ":":
            raise self._mistake(operator, f"{field} is compared by ':', not by {str(operator)!r}")
        if kind is Kind.ROLE and str(value) not in ROLES:
            raise self._mistake(value, f"unknown role {str(value)!r} (known: {', '.join(ROLES)})")
        return Comparison(str(field), ":", str(value))

    def _number(self, value: Token) -> int:
        if not value.isdecimal() or len(value) > 9:
            raise self._mistake(value, f"expected a whole number, got {str(value)!r}")
        return int(value)

    def _mistake(self, token: Token, message: str) -> QueryError:
        return _mistake(self._text, int(token.start_pos or 0) + 1, message)
