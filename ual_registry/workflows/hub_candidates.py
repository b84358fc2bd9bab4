"""Which repositories of the Hub a query may mean: tags narrow them, and the likely ones come first.

Two kinds are asked for. Those with tags of ours are narrowed by all that the tags answer. Those with an adapter in the
format of PEFT alone say little in their tags: only the base model narrows them, and a word, which can stand in their
names alone. Where a query asks for what such an adapter never says, they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ual_registry.hub.card_tags import TagFilters, TagTerm, tag_filters
from ual_registry.hub.client import Hub
from ual_registry.hub.model import ListedModel
from ual_registry.registry.search import terms
from ual_registry.registry.tree import Node, Query, Term, Words
from ual_registry.registry.values import Span, Text, Value
from ual_registry.workflows.hub_query import likely_words

__all__ = ["MOST_LISTED", "Candidates", "find_candidates"]

MOST_LISTED = 200
"""So far a list is read, unless more repositories are to be looked at; the Hub gives up to 1,000 in one answer."""

_OUR_TAG = "air"
_PEFT_TAG = "peft"
_BASE_TAG = "base_model:adapter:"
_RANK_TAG = "air:rank:"
_LIKELY_IN_NAMES = {"base", "architecture"}
_SAID_IN_AIR_ALONE = {"domain", "license", "title", "metric", "recovered", "derived-from", "digest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Repositories that a query may mean.

    Attributes:
        repositories: They, the likely ones first.
        is_complete: Whether the lists were read to their ends.
    """

    repositories: tuple[ListedModel, ...]
    is_complete: bool


def find_candidates(hub: Hub, query: Query, *, author: str | None = None, limit: int = MOST_LISTED) -> Candidates:
    """List the repositories that a query may mean.

    Args:
        hub: The Hub.
        query: The query.
        author: Whose repositories; ``None`` for everybody's.
        limit: How far each list is read at least.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
    """
    limit = max(limit, MOST_LISTED)
    required = terms(query.where)
    wanted = tag_filters([term for node in required if isinstance(node, Term) for term in _tag_terms(node)])
    asked: list[tuple[Sequence[str], str | None]] = [(wanted.filters, None)]
    asked += [(_peft_filters(wanted), search) for search in _peft_searches(required)]
    lists = [list(hub.list_models(filters=tags, author=author, search=search, limit=limit)) for tags, search in asked]
    own = [item for item in lists[0] if wanted.accepts(item.tags) or not _tells_rank(item)]
    foreign = [item for found in lists[1:] for item in found if _OUR_TAG not in item.tags]
    unique = {item.repository: item for item in [*own, *_likely_first(foreign, query)]}
    is_complete = all(len(found) < limit for found in (lists[0], lists[-1]))
    return Candidates(repositories=tuple(unique.values()), is_complete=is_complete)


def _peft_searches(required: Sequence[Node]) -> list[str | None]:
    """Return which words to look for in the names of PEFT adapters, list by list; ``None`` lists them all.

    A word of the query must stand in the name, as nothing else of theirs is text. That of a base model often does.
    """
    if any(isinstance(node, Term) and node.field in _SAID_IN_AIR_ALONE for node in required):
        return []
    names = [max(node.words, key=len) for node in required if isinstance(node, Words)]
    if names:
        return [max(names, key=len)]
    said = [term for node in required if isinstance(node, Term) for term in _tag_terms(node)]
    bases = [term.value.rstrip("*") for term in said if term.field in _LIKELY_IN_NAMES and "/" not in term.value]
    return [*bases[:1], None]


def _tells_rank(item: ListedModel) -> bool:
    """Tell whether tags say ranks; where a card says nothing, its header decides."""
    return any(tag.lower().startswith(_RANK_TAG) for tag in item.tags)


def _peft_filters(wanted: TagFilters) -> list[str]:
    return [_PEFT_TAG, *(tag for tag in wanted.filters if tag.startswith(_BASE_TAG))]


def _likely_first(found: Sequence[ListedModel], query: Query) -> list[ListedModel]:
    """Order repositories by how many words of the query stand in their names and tags, most first."""
    words = likely_words(query)

    def count(item: ListedModel) -> int:
        text = " ".join((item.repository, *item.tags)).lower()
        return sum(word in text for word in words)

    return sorted(found, key=count, reverse=True)


def _tag_terms(term: Term) -> Iterator[TagTerm]:
    """Yield what a term says, as far as a tag can; one of several values is no single tag."""
    if len(term.values) == 1:
        yield from _said(term.field, term.values[0])


def _said(field: str, value: Value) -> Iterator[TagTerm]:
    if isinstance(value, Text):
        yield TagTerm(field=field, value=value.text + "*" * value.is_prefix)
    elif isinstance(value, Span) and isinstance(value.low, int) and value.low == value.high:
        yield TagTerm(field=field, value=str(value.low))
    elif isinstance(value, Span):
        if isinstance(value.low, int):
            yield TagTerm(field=field, comparison=">=" if value.includes_low else ">", value=str(value.low))
        if isinstance(value.high, int):
            yield TagTerm(field=field, comparison="<=" if value.includes_high else "<", value=str(value.high))
