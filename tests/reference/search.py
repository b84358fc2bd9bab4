"""The search language in the most obvious way: trees written as text, and asked of plain records one by one.

No SQL, no index, no plan; what the registry finds must be what is found here.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ual_registry.registry.tree import All, Any_, Node, Not, Query, Term, Words
from ual_registry.registry.values import Pair, Span, Text
from ual_registry.registry.views import RevisionRecord
from ual_registry.registry.words import words

__all__ = ["find", "format_node", "format_query"]


def format_query(query: Query) -> str:
    """Write a query so that the parser reads the same tree."""
    order = "-" * query.order.is_descending + query.order.field
    return f"{format_node(query.where)} order:{order}".strip()


def format_node(node: Node) -> str:
    """Write a tree; every part of several stands in parentheses."""
    if isinstance(node, Term):
        return f"{node.field}{_values(node)}"
    if isinstance(node, Words):
        return _quoted(" ".join(node.words)) + "*" * node.is_prefix
    if isinstance(node, Not):
        return f"NOT ({format_node(node.part)})"
    return (" OR " if isinstance(node, Any_) else " ").join(f"({format_node(part)})" for part in node.parts)


def _values(term: Term) -> str:
    (first, *more) = term.values
    if isinstance(first, Span) and not more and (first.low is None) != (first.high is None):
        return _one_sided(first)
    if isinstance(first, Pair) and isinstance(first.value, Span):
        return f":{_quoted(first.key)}{_one_sided(first.value)}"
    return ":(" + ",".join(_value(value) for value in term.values) + ")"


def _value(value: Any) -> str:
    if isinstance(value, Text):
        return _quoted(value.text) + "*" * value.is_prefix
    if isinstance(value, Pair):
        text = value.value
        return _quoted(value.key) if text is None else _quoted(f"{value.key}={text.text}") + "*" * text.is_prefix
    high = value.high
    if isinstance(high, datetime.datetime):
        high -= datetime.timedelta(seconds=1)  # a time means its whole second
    return f"{_number(value.low)}..{_number(high)}"


def _one_sided(span: Span) -> str:
    if span.low is not None:
        return (">=" if span.includes_low else ">") + _number(span.low)
    return ("<=" if span.includes_high else "<") + _number(span.high)


def _number(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime.datetime) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def find(
    query: Query, records: Sequence[RevisionRecord], digests: Mapping[str, str], parents: Mapping[str, set[str]]
) -> list[RevisionRecord]:
    """Return the records that a query holds for, in its order.

    Args:
        query: The query.
        records: All of them, in the order in which they were added.
        digests: The digest of every reference.
        parents: The parents of every digest.
    """
    asks = _asks_for_yanked(query.where)
    found = [
        (number, record)
        for number, record in enumerate(records)
        if (asks or record.yank_reason is None) and _holds(query.where, record, digests, parents)
    ]
    return [record for _, record in sorted(found, key=functools.cmp_to_key(_comparison(query)))]


def _asks_for_yanked(node: Node) -> bool:
    if isinstance(node, Term):
        return node.field == "yanked"
    if isinstance(node, Not):
        return _asks_for_yanked(node.part)
    return isinstance(node, (All, Any_)) and any(_asks_for_yanked(part) for part in node.parts)


def _comparison(query: Query) -> Any:
    order, sign = query.order, -1 if query.order.is_descending else 1
    keys = {"created": "created_at", "size": "size_bytes", "params": "parameter_count", "recovered": "recovered_gain"}

    def key(record: RevisionRecord) -> Any:
        if order.field == "rank":
            return max(record.ranks, default=None)
        return record.name if order.field == "name" else getattr(record, keys[order.field])

    def compare(one: tuple[int, RevisionRecord], two: tuple[int, RevisionRecord]) -> int:
        first, second = key(one[1]), key(two[1])
        if first != second:
            is_less = second is not None and (first is None or first < second)  # nothing is the smallest
            return -sign if is_less else sign
        if order.field == "name":
            return two[1].number - one[1].number
        return sign * (one[0] - two[0])

    return compare


def _holds(node: Node, record: RevisionRecord, digests: Mapping[str, str], parents: Mapping[str, set[str]]) -> bool:
    if isinstance(node, Not):
        return not _holds(node.part, record, digests, parents)
    if isinstance(node, All):
        return all(_holds(part, record, digests, parents) for part in node.parts)
    if isinstance(node, Any_):
        return any(_holds(part, record, digests, parents) for part in node.parts)
    if isinstance(node, Words):
        return _stands(node, _texts(record))
    if node.field == "derived-from":
        ancestors = _ancestors(record.digest, parents)
        return any(digests[value.text] in ancestors for value in node.values)  # type: ignore[union-attr]
    return any(_compare(node.field, value, record) for value in node.values)


def _ancestors(digest: str, parents: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [digest]
    while waiting:
        new = parents.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _texts(record: RevisionRecord) -> list[str]:
    parts = [record.name, record.owner, record.domain, record.title]
    parts += [text for tag in sorted(record.tags.items()) for text in tag]
    return [word for part in parts if part for word in words(part)]


def _stands(node: Words, text: Sequence[str]) -> bool:
    wanted = list(node.words)
    for start in range(len(text) - len(wanted) + 1):
        here = list(text[start : start + len(wanted)])
        if node.is_prefix and here[-1].startswith(wanted[-1]):
            here[-1] = wanted[-1]
        if here == wanted:
            return True
    return False


def _lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def _text(value: Text, text: str | None, *, folded: bool = True) -> bool:
    if text is None:
        return False
    own, asked = (_lower(text), _lower(value.text)) if folded else (text, value.text)
    return own.startswith(asked) if value.is_prefix else own == asked


def _span(span: Span, number: Any) -> bool:
    if number is None:
        return False
    if span.low is not None and (number < span.low or (number == span.low and not span.includes_low)):
        return False
    return not (span.high is not None and (number > span.high or (number == span.high and not span.includes_high)))


def _compare(field: str, value: Any, record: RevisionRecord) -> bool:
    texts = {"name": record.name, "owner": record.owner, "title": record.title, "method": record.method}
    texts |= {"domain": record.domain, "license": record.license, "architecture": record.architecture}
    numbers = {"params": record.parameter_count, "size": record.size_bytes, "recovered": record.recovered_gain}
    if field in texts:
        return _text(value, texts[field])
    if field in numbers:
        return _span(value, numbers[field])
    return _SPECIAL[field](value, record)


def _base(value: Text, record: RevisionRecord) -> bool:
    if _text(value, record.base) or _text(value, record.architecture):
        return True
    label, asked = _lower(record.base or ""), "/" + _lower(value.text)
    return asked in label if value.is_prefix else label.endswith(asked)


def _layers(span: Span, record: RevisionRecord) -> bool:
    """Every role of the records here touches every block from its first to its last."""
    return any(
        _span(span, layer)
        for target in record.targets
        if target.first_layer is not None and target.last_layer is not None
        for layer in range(target.first_layer, target.last_layer + 1)
    )


def _metric(pair: Pair, record: RevisionRecord) -> bool:
    return any(
        found.metric == pair.key
        and found.arm in {None, "adapter"}
        and (pair.value is None or (isinstance(pair.value, Span) and _span(pair.value, found.value)))
        for found in record.evaluations
    )


def _tag(pair: Pair, record: RevisionRecord) -> bool:
    if pair.key not in record.tags:
        return False
    return not isinstance(pair.value, Text) or _text(pair.value, record.tags[pair.key], folded=False)


_SPECIAL: dict[str, Any] = {
    "base": _base,
    "kind": lambda value, record: _text(value, record.kind, folded=False),
    "role": lambda value, record: any(_text(value, role, folded=False) for role in record.roles),
    "rank": lambda span, record: any(_span(span, rank) for rank in record.ranks),
    "layers": _layers,
    "metric": _metric,
    "created": lambda span, record: _span(span, record.created_at),
    "tag": _tag,
    "alias": lambda value, record: any(_text(value, alias, folded=False) for alias in record.aliases),
    "digest": lambda value, record: _text(value, record.digest, folded=False),
    "yanked": lambda value, record: _text(value, "false" if record.yank_reason is None else "true", folded=False),
}
