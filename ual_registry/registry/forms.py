"""The form of a question: its tree with blanks where the values stand, and the values beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.registry.blanks import Blank, after
from ual_registry.registry.tree import Node, Not, Term, Words
from ual_registry.registry.values import Pair, Span, Text

__all__ = ["Form", "form_of"]

_IN_FULL = frozenset({"yanked"})
"""Fields whose few values make other statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A tree with blanks.

    Attributes:
        where: The tree; that of another question of this form is equal to it.
        values: What the blanks stand for, by their numbers.
    """

    where: Node
    values: tuple[Any, ...]

    def blank(self, value: Any) -> tuple[Form, Blank]:
        """Return the form with one more value, and the blank of that."""
        blank = Blank(len(self.values), type(value))
        return Form(where=self.where, values=(*self.values, value)), blank


def form_of(where: Node, digests: Mapping[str, str]) -> Form:
    """Return the form of a tree.

    Args:
        where: The tree.
        digests: The digest of every reference that it names.
    """
    maker = _Maker(digests)
    return Form(where=maker.node(where), values=tuple(maker.values))


class _Maker:
    """Walks through a tree and gathers its values."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self.values: list[Any] = []
        self._digests = digests

    def node(self, node: Node) -> Node:
        if isinstance(node, Term):
            if node.field in _IN_FULL:
                return node
            value = self._digest if node.field == "derived-from" else self._value
            return Term(node.field, tuple([value(each) for each in node.values]))
        if isinstance(node, Words):
            return Words(self._blank(node.words, is_alone=len(node.words) == 1), node.is_prefix)
        if isinstance(node, Not):
            return Not(self.node(node.part))
        return type(node)(tuple([self.node(part) for part in node.parts]))

    def _value(self, value: Any) -> Any:
        if isinstance(value, Text):
            is_endless = value.is_prefix and after(value.text) is None
            return Text(self._blank(value.text, is_endless=is_endless), value.is_prefix)
        if isinstance(value, Pair):
            return Pair(self._blank(value.key), None if value.value is None else self._value(value.value))
        low, high = (None if end is None else self._blank(end) for end in (value.low, value.high))
        return Span(low=low, high=high, includes_low=value.includes_low, includes_high=value.includes_high)

    def _digest(self, value: Any) -> Text:
        return Text(self._blank(self._digests[value.text]))

    def _blank(self, value: Any, *, is_endless: bool = False, is_alone: bool = False) -> Any:
        """Return a blank in the place of a value, whatever type the tree says of that."""
        self.values.append(value)
        return Blank(len(self.values) - 1, type(value), is_endless=is_endless, is_alone=is_alone)
