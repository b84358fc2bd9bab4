"""From lark's tree to ours: fields, operators and values are checked, and each mistake is told with its column."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from lark import Token, Transformer

from ual_registry.registry.fields import FIELDS, ORDERS, Kind
from ual_registry.registry.tree import All, Any_, Node, Not, Order, Query, Term, Words, mistake_at
from ual_registry.registry.values import BYTE_UNITS, BadValueError, Text, Value, read_measure, read_span, read_value
from ual_registry.registry.words import words

__all__ = ["TreeBuilder"]

_LEFT_BEHIND = re.compile(r"\b(?:params|size)\s*(?::|[<>]=?)\s*[0-9.]+\s+\Z")
"""A number that a unit belongs to, and a space."""

_MAX_VALUES = 50
_MAX_REFERENCES = 8
"""Limits far above what people write, and far below what exhausts a database."""


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A part with the orders that stand in it; ``None`` where nothing else does."""

    node: Node | None
    orders: tuple[Order, ...]
    column: int


class TreeBuilder(Transformer[Token, Any]):
    """Turns lark's tree into ours, and checks fields, operators and values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._references = 0

    def start(self, children: list[Any]) -> Query:
        """Return the whole query; an empty one holds always."""
        found = children[0] if children else All(())
        if not isinstance(found, _Ordered):
            return Query(found)
        if len(found.orders) > 1:
            self._fail(found.column, "one query has one order")
        return Query(All(()) if found.node is None else found.node, found.orders[0])

    def either(self, children: list[Any]) -> Any:
        """Join parts of which some must hold."""
        parts = children[::2]  # the others are the words OR
        if len(parts) == 1:
            return parts[0]
        ordered = [part for part in parts if isinstance(part, _Ordered)]
        for part in ordered:
            if part.node is None:
                self._fail(part.column, "order is no term; OR needs one on both sides")
        nodes: list[Any] = [part.node if isinstance(part, _Ordered) else part for part in parts]
        node = Any_(tuple(nodes))
        return self._with_orders(node, ordered)

    def all(self, children: list[Any]) -> Any:
        """Join parts that must all hold."""
        children = [child for child in children if not isinstance(child, Token)]  # the words AND
        ordered = [child for child in children if isinstance(child, _Ordered)]
        nodes = tuple(child for child in children if not isinstance(child, _Ordered))
        node = nodes[0] if len(nodes) == 1 else All(nodes) if nodes else None
        return self._with_orders(node, ordered)

    @staticmethod
    def _with_orders(node: Node | None, ordered: list[_Ordered]) -> Any:
        orders = tuple(order for part in ordered for order in part.orders)
        return _Ordered(node, orders, ordered[-1].column) if orders else node

    def negation(self, children: list[Any]) -> Node:
        """Turn a part into its opposite."""
        return Not(self._inner(children[1]))

    def group(self, children: list[Any]) -> Node:
        """Take a part out of its parentheses."""
        return self._inner(children[0])

    def _inner(self, child: Any) -> Node:
        if isinstance(child, _Ordered):
            self._fail(child.column, "order concerns the whole query; it stands outside of parentheses and NOT")
        node: Node = child
        return node

    def phrase(self, children: list[Token]) -> Words:
        """Turn bare words, or a text in quotes, into words that follow each other."""
        token = children[0]
        if token in {"and", "or", "not"}:
            self._fail_at(token, f"{str(token)!r} is an ordinary word here; write {token.upper()}, or put it in quotes")
        if _LEFT_BEHIND.search(self._text[: token.start_pos]) and token.upper() in BYTE_UNITS:
            self._fail_at(token, f"a unit stands right behind its number, such as 1{token}")
        if token.startswith("-") and len(token) > 1:
            self._fail_at(token, "a word cannot begin with '-'; write NOT, or put it in quotes")
        text = self._unquoted(token)
        found = tuple(words(text.text))
        if not found:
            self._fail_at(token, "expected a letter or digit to look for")
        return Words(found, text.is_prefix)

    def value(self, children: list[Token]) -> Token:
        """Pass the text of a value on."""
        return children[0]

    def values(self, children: list[Token]) -> list[Token]:
        """Pass the texts of a set on."""
        return children

    def term(self, children: list[Any]) -> Term | _Ordered:
        """Check one term and return it."""
        name, operator, values, *rest = children
        if len(values) > _MAX_VALUES:
            self._fail_at(values[_MAX_VALUES], f"more than {_MAX_VALUES} values of one term")
        if name == "order":
            return self._order(operator, values, rest)
        known, key = str(name), None
        if known.startswith("eval."):
            known, key = "metric", known.removeprefix("eval.")
        if known not in FIELDS:
            near = difflib.get_close_matches(known, FIELDS, n=1)
            self._fail_at(name, f"unknown field {known!r}" + (f"; did you mean {near[0]}?" if near else ""))
        if key is not None:
            found: tuple[Value, ...] = (self._measured(name, Text(key), operator, values, rest),)
        elif rest and FIELDS[known].kind is not Kind.METRIC:
            self._fail_at(rest[0], "unexpected here; one term has one operator")
        elif rest or (len(values) == 1 and FIELDS[known].kind is Kind.METRIC):
            found = (self._metric(operator, values, rest),)
        else:
            found = tuple(self._value(known, operator, value, len(values) > 1) for value in values)
        return Term(known, found, self._at(values[0]))

    def _value(self, name: str, operator: Token, token: Token, is_set: bool) -> Value:
        if is_set and operator != ":":
            self._fail_at(operator, f"several values are compared by ':', not by {str(operator)!r}")
        text = self._unquoted(token)
        is_span = FIELDS[name].kind in {Kind.COUNT, Kind.AMOUNT, Kind.BYTES, Kind.NUMBER, Kind.TIME}
        if not is_span and operator != ":":
            self._fail_at(operator, f"{name} is compared by ':', not by {str(operator)!r}")
        self._count_references(name, token)
        try:
            if is_span:
                return read_span(name, str(operator), text.text + "*" * text.is_prefix)
            return read_value(name, text) if FIELDS[name].kind is not Kind.METRIC else read_measure(text, None, None)
        except BadValueError as error:
            self._fail_at(token, str(error))

    def _metric(self, operator: Token, values: list[Token], rest: list[Token]) -> Value:
        if operator != ":":
            self._fail_at(operator, "expected metric:NAME, then its value, such as metric:accuracy>=0.8")
        if len(values) > 1:
            self._fail_at(rest[0], "several metrics have no common value")
        second, compared = rest or (None, None)
        return self._measure(values[0], self._unquoted(values[0]), second, compared)

    def _measured(self, name: Token, metric: Text, operator: Token, values: list[Token], rest: list[Token]) -> Value:
        if rest or len(values) > 1:
            self._fail_at(rest[0] if rest else values[1], "unexpected here; a metric has one value")
        return self._measure(name, metric, operator, values[0])

    def _measure(self, name: Token, metric: Text, operator: Token | None, token: Token | None) -> Value:
        try:
            return read_measure(metric, operator and str(operator), None if token is None else self._plain(token))
        except BadValueError as error:
            self._fail_at(token if token is not None and metric.text else name, str(error))

    def _order(self, operator: Token, values: list[Token], rest: list[Token]) -> _Ordered:
        text = str(values[0])
        name = text.removeprefix("-")
        if operator != ":" or len(values) > 1 or rest:
            self._fail_at(operator, "expected order:FIELD or order:-FIELD")
        if name not in ORDERS:
            self._fail_at(values[0], f"unknown order {name!r} (known: {', '.join(ORDERS)})")
        return _Ordered(None, (Order(name, text != name),), self._at(values[0]))

    def _count_references(self, name: str, token: Token) -> None:
        self._references += FIELDS[name].kind is Kind.REFERENCE
        if self._references > _MAX_REFERENCES:
            self._fail_at(token, f"more than {_MAX_REFERENCES} lineages in one query")

    def _plain(self, token: Token) -> str:
        text = self._unquoted(token)
        return text.text + "*" * text.is_prefix

    def _unquoted(self, token: Token) -> Text:
        """Take quotes, escapes and the star at the end away."""
        is_prefix = token.endswith("*")
        text = token.removesuffix("*")
        if token.type in {"QUOTED", "ASSIGNED"}:
            key, _, quoted = text[:-1].partition('"')  # KEY= before the quote, or nothing
            return Text(key + re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL), is_prefix)
        if "*" in text:
            self._fail_at(token, "'*' stands at the end of a text alone; elsewhere it needs quotes")
        return Text(text, is_prefix)

    @staticmethod
    def _at(token: Token) -> int:
        return int(token.start_pos or 0) + 1

    def _fail_at(self, token: Token, message: str) -> NoReturn:
        self._fail(self._at(token), message)

    def _fail(self, column: int, message: str) -> NoReturn:
        raise mistake_at(self._text, column, message)
