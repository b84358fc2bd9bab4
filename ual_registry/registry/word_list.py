"""Every word of every revision in the order of a page, which PostgreSQL alone keeps, and what tells that it is whole.

Its index of words leads to texts, which have to be read to know whose they are: some thousand of them for a common
word. Here a page of one word is read from one index, as far as it goes. A trigger of migration 0007 writes it where
``revision_texts`` is written. SQLite's index of words names revisions itself.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Index, MetaData, Text, cast, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ual_registry.registry.tables import NAME, WORD, RevisionRow, RevisionTextRow

__all__ = ["ServerTable", "WordRow", "differing_words"]


class ServerTable(DeclarativeBase):
    """The base of the tables that PostgreSQL alone has."""

    metadata = MetaData()


class WordRow(ServerTable):
    """A word of a revision, once, however often it stands there."""

    __tablename__ = "revision_words"

    revision_id: Mapped[int] = mapped_column(comment="Its revision.")
    number: Mapped[int] = mapped_column(comment="The revision's number.")
    word: Mapped[str] = mapped_column(WORD, comment="The word.")
    adapter_name: Mapped[str] = mapped_column(NAME, comment="The adapter's name.")

    __mapper_args__ = {"primary_key": [word, revision_id]}  # noqa: RUF012  # as SQLAlchemy reads it
    __table_args__ = (Index("ix_revision_words_revision_id", revision_id),)


Index(
    "ix_revision_words_word",
    WordRow.word,
    WordRow.adapter_name,
    WordRow.number.desc(),
    unique=True,
    postgresql_include=["revision_id"],
)


def differing_words() -> ColumnElement[bool]:
    """Return what holds where the words of a revision are not those of its text, on PostgreSQL."""
    parts = func.unnest(func.string_to_array(func.replace(RevisionTextRow.body, "\n", " "), " "))
    own = select(func.left(parts, 64).collate("C").label("word")).where(RevisionTextRow.revision_id == RevisionRow.id)
    word = own.correlate(RevisionRow).subquery().c.word
    listed = cast(WordRow.word, Text)
    written = select(func.array_agg(aggregate_order_by(word.distinct(), word))).where(word != "")
    kept = select(func.array_agg(aggregate_order_by(listed, listed))).where(
        WordRow.revision_id == RevisionRow.id,
        WordRow.adapter_name == RevisionRow.adapter_name,
        WordRow.number == RevisionRow.number,
    )
    return written.scalar_subquery().is_distinct_from(kept.correlate(RevisionRow).scalar_subquery())
