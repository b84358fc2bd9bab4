"""Queries about the Hub: they are evaluated over headers, so what only a registry knows cannot be asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ual_registry.errors import QueryError
from ual_registry.hub.address import PREFIX
from ual_registry.registry.query import parse_query
from ual_registry.registry.tree import Node, Query, Term, Words, leaves, mistake_at
from ual_registry.registry.values import Text

__all__ = ["check_askable", "likely_words"]

_REGISTRY_ONLY = {
    "alias": "aliases are names in a registry",
    "created": "it is when a revision was added to a registry",
    "owner": "it is who answers for an adapter in a registry; --author ORG asks for the owner on the Hub",
    "tag": "tags are set in a registry; a bare word finds the tags of a file",
    "yanked": "hiding is done in a registry",
}


def check_askable(text: str) -> Query:
    """Parse a query, if headers can answer it.

    Raises:
        QueryError: It is not well formed, or asks for what only a registry knows.
    """
    _refuse_address(text)
    query = parse_query(text)
    for term in _terms(query.where):
        if term.field in _REGISTRY_ONLY:
            raise _refusal(text, term.column, term.field, _REGISTRY_ONLY[term.field])
        if term.field == "derived-from" and not all(_is_digest(value) for value in term.values):
            raise _refusal(text, term.column, term.field, "names are those of a registry; give a digest, sha256:...")
    if query.order.field in _REGISTRY_ONLY:
        raise _refusal(text, text.find("order") + 1, f"order:{query.order.field}", _REGISTRY_ONLY[query.order.field])
    return query


def _refuse_address(text: str) -> None:
    """Refuse an address, which is no term, with the option that is meant."""
    found = re.search(rf"(?<!\S){PREFIX}([^\s/]+)(/?)", text)
    if found is not None:
        error = mistake_at(text, found.start() + 1, "an address on the Hub is no part of a query")
        error.hint = f"--author {found[1]} asks for the adapters of an owner"
        if found[2]:
            error.hint = f"'ual show {text[found.start() :].split(maxsplit=1)[0]}' looks at one repository"
        raise error


def _refusal(text: str, column: int, what: str, reason: str) -> QueryError:
    error = mistake_at(text, column, f"{what} cannot be asked of the Hub: {reason}")
    error.hint = "leave it out, or search the registry, without --hub"
    return error


def _is_digest(value: object) -> bool:
    return isinstance(value, Text) and value.text.startswith("sha256:")


def likely_words(query: Query) -> tuple[str, ...]:
    """Return the texts of a query in lower case, by which likely repositories are looked at first."""
    found = [value.text for term in _terms(query.where) for value in term.values if isinstance(value, Text)]
    found += [word for node in leaves(query.where) if isinstance(node, Words) for word in node.words]
    return tuple(dict.fromkeys(text.lower() for text in found if text))


def _terms(node: Node) -> Iterator[Term]:
    return (leaf for leaf in leaves(node) if isinstance(leaf, Term))
