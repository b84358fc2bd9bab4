"""From the tree of a query to SQL, for one database; what a field means stands in ``sources``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement, and_, column, exists, false, func, literal, literal_column, or_, table, true

from ual_registry.registry.conditions import Condition, joined
from ual_registry.registry.lineage import descendants
from ual_registry.registry.order import Sorting
from ual_registry.registry.sources import SOURCES, Source, artifact_source, check_of, condition_of, source_of
from ual_registry.registry.tables import ArtifactRow, RevisionRow, RevisionTextRow
from ual_registry.registry.tree import All, Any_, Node, Not, Term, Words
from ual_registry.registry.word_list import WordRow

__all__ = ["Searcher", "terms"]

_INDEX = table("revision_texts_fts", column("rowid"), column("revision_texts_fts"))
"""The full-text index of SQLite; its column of the same name is how it is asked."""

_WORDS = func.to_tsvector(literal_column("'simple'"), RevisionTextRow.body)
"""What the index of PostgreSQL is made of."""

_BY_NAME = Sorting(columns=((WordRow.adapter_name, False), (WordRow.number, True)))


class Searcher:
    """Turns trees with blanks (``forms``) into conditions for one database.

    Args:
        is_sqlite: Whether the database is SQLite's.
    """

    def __init__(self, *, is_sqlite: bool) -> None:
        self._is_sqlite = is_sqlite

    def condition(self, node: Node) -> Condition:
        """Return the condition of a tree; what is unknown does not hold, and its opposite does."""
        if isinstance(node, Term) and node.field in SOURCES:
            return condition_of(node.field, node.values)
        if isinstance(node, (Term, Words)):
            return self.source(node).condition()
        if isinstance(node, Not):
            return self.condition(node.part).is_not(true())
        if isinstance(node, Any_):
            return joined(or_, [false(), *map(self.condition, node.parts)])
        return self._all(node)

    def _all(self, node: All) -> Condition:
        """Check what is asked about the artifact together, so that it is looked up once."""
        about: list[Condition] = []
        others: list[Condition] = []
        for part in node.parts:
            if self.is_about_artifact(part):
                about.append(self.check(part))
            else:
                others.append(self.condition(part))
        together = [_about_artifact(about)] if about else []
        return joined(and_, [true(), *together, *others])

    def source(self, node: Term | Words) -> Source:
        """Return where a term looks."""
        if isinstance(node, Words):
            return self._word(node) if self._is_listed(node) else self.words(node)
        if node.field == "derived-from":
            return artifact_source(or_(*(self._derived(value) for value in node.values)))
        return source_of(node.field, node.values)

    def is_about_artifact(self, node: Node) -> TypeGuard[Term]:
        """Tell whether a term asks about the row of an artifact, and nothing cheaper tells."""
        if not isinstance(node, Term):
            return False
        source = self.source(node)
        return source.key is ArtifactRow.id and source.check is None

    def check(self, node: Term) -> Condition:
        """Return what holds of the row that a term asks about, when that row is found already."""
        known = node.field in SOURCES
        return check_of(node.field, node.values) if known else self.source(node).unindexed()

    def narrowed(self, source: Source, others: Sequence[Term]) -> Source:
        """Check other terms about the same row where one is looked up, before its revisions are."""
        return dataclasses.replace(source, where=joined(and_, [source.where, *map(self.check, others)]))

    def _derived(self, value: Any) -> Condition:
        return ArtifactRow.digest.in_(descendants(value.text))

    def _is_listed(self, node: Words) -> bool:
        """Tell whether one whole word is asked for, of an engine that lists them."""
        words: Any = node.words
        return words.is_alone and not node.is_prefix and not self._is_sqlite

    def _word(self, node: Words) -> Source:
        """Ask the list of words."""
        found = WordRow.word == _phrase(node, "first")
        check = _holds_words(node, func.strpos)
        return Source(WordRow.revision_id, RevisionRow.id, found, check=check, order=_BY_NAME)

    def words(self, node: Words) -> Source:
        """Ask the full-text index of the engine."""
        if self._is_sqlite:
            found = _INDEX.c.revision_texts_fts.op("MATCH")(_phrase(node, "phrase"))
            return Source(_INDEX.c.rowid, RevisionRow.id, found, check=_holds_words(node, func.instr))
        found = _WORDS.bool_op("@@")(func.to_tsquery(literal_column("'simple'"), _phrase(node, "lexemes")))
        return Source(RevisionTextRow.revision_id, RevisionRow.id, found, check=_holds_words(node, func.strpos))


def _phrase(node: Words, reading: str) -> ColumnElement[Any]:
    """Return the words as one bound text."""
    words: Any = node.words
    found: ColumnElement[Any] = words.read(f"{reading}_prefix" if node.is_prefix else reading).bound()
    return found


def _holds_words(node: Words, find: Callable[..., ColumnElement[int]]) -> Condition:
    """Look for words in a text itself: to check one row by the index takes as long as to find a hundred in it.

    Words and texts went through the same function, so that between words there is one space or line break.
    """
    body = literal(" ") + func.replace(RevisionTextRow.body, "\n", " ") + " "
    may_hold = find(RevisionTextRow.body, _phrase(node, "first")) > 0  # most texts do not, and are not copied for it
    found = and_(may_hold, find(body, _phrase(node, "held")) > 0)
    return exists().where(RevisionTextRow.revision_id == RevisionRow.id, found).correlate(RevisionRow)


def _about_artifact(conditions: Sequence[Condition]) -> Condition:
    return exists().where(ArtifactRow.id == RevisionRow.artifact_id, joined(and_, conditions)).correlate(RevisionRow)


def terms(node: Node) -> tuple[Node, ...]:
    """Return the parts of a tree that must all hold, each for itself."""
    if isinstance(node, All):
        return tuple(term for part in node.parts for term in terms(part))
    return (node,)
