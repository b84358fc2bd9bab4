"""What is asked of a registry: each question with values that are really there, for us and, where it can, for MLflow.

The values of a search are those of a revision taken at random, so that common values are asked for often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from benchmarks.mlflow_rows import source_of
from ual_registry.registry.registry import Registry

__all__ = ["QUESTIONS", "Ask", "Question", "Subject", "subjects"]

Subject = Mapping[str, Any]
"""What a question is about: the columns of one revision taken at random."""

PAGE = 100
"""Hits on a page, for both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question put to MLflow.

    Attributes:
        method: Of ``benchmarks.mlflow_worker``.
        arguments: What it is given.
    """

    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One kind of question.

    Attributes:
        title: What is asked.
        ours: Asks our registry.
        shown: Turns our answer into what MLflow's is compared with.
        theirs: Puts it to MLflow; ``None`` where MLflow cannot be asked.
        needs: The column that the subject must have a value in.
        is_aimed: Whether the aims are about it.
    """

    title: str
    ours: Callable[[Registry, Subject], Any]
    shown: Callable[[Any], list[Any]]
    theirs: Callable[[Subject], Ask] | None = None
    needs: str = "name"
    is_aimed: bool = True


_SUBJECTS = """
    SELECT r.adapter_name AS name, r.number, a.digest, a.domain, a.license, a.recovered_gain AS recovered,
        b.label AS base, a.rank_max AS rank,
        (SELECT min(role) FROM artifact_roles WHERE artifact_id = a.id) AS role,
        (SELECT max(value) FROM tags WHERE revision_id = r.id AND key = 'team') AS team,
        (SELECT max(name) FROM aliases WHERE revision_id = r.id) AS alias,
        (SELECT max(value) FROM evaluations WHERE artifact_id = a.id AND metric = 'accuracy') AS accuracy,
        (SELECT max(body) FROM revision_texts WHERE revision_id = r.id) AS body,
        (SELECT max(parent_digest) FROM lineage_edges WHERE child_digest = a.digest) AS parent,
        (SELECT max(child_digest) FROM lineage_edges WHERE parent_digest = a.digest) AS child
    FROM revisions r JOIN artifacts a ON a.id = r.artifact_id LEFT JOIN base_models b ON b.id = a.base_model_id
    WHERE r.id = :id AND r.yanked_at IS NULL
"""


def subjects(engine: Engine, *, seed: int = 0) -> Callable[[str], Iterator[Subject]]:
    """Return a function from a column to revisions that have a value there, taken at random and without an end."""

    def draw(needs: str) -> Iterator[Subject]:
        rng = random.Random(f"{seed} {needs}")
        with engine.connect() as connection:
            last = connection.scalar(text("SELECT max(id) FROM revisions"))
            while True:
                subject = _subject(connection, rng.randint(1, last), rng)
                if subject is not None and subject[needs] is not None:
                    yield subject

    return draw


def _subject(connection: Connection, number: int, rng: random.Random) -> Subject | None:
    row = connection.execute(text(_SUBJECTS), {"id": number}).mappings().first()
    if row is None:
        return None
    words = row["body"].split()
    return {**row, "word": rng.choice(words), "first_word": row["name"].split("-")[0], "share": rng.uniform(0.5, 0.95)}


def _search(query: str) -> Callable[[Registry, Subject], Any]:
    """Ask by the search language; ``{column}`` stands for a value of the subject."""
    return lambda registry, subject: registry.search(query.format_map(subject), limit=PAGE)


def _hits(page: Any) -> list[Any]:
    return [[hit.name, hit.number] for hit in page]


def _ask(method: str, **templates: str) -> Callable[[Subject], Ask]:
    def ask(subject: Subject) -> Ask:
        return Ask(method=method, arguments={key: text.format_map(subject) for key, text in templates.items()})

    return ask


def _resolve(reference: str) -> Callable[[Registry, Subject], Any]:
    return lambda registry, subject: registry.resolve(reference.format_map(subject))


def _source(digest: Any) -> list[Any]:
    return [source_of(str(digest))]


def _lineage(reference: str, *, up: bool) -> Callable[[Registry, Subject], Any]:
    return lambda registry, subject: registry.lineage(reference.format_map(subject), up=up, down=not up)


def _edges(graph: Any) -> list[Any]:
    return [[edge.child, edge.parent] for edge in graph.edges]


QUESTIONS: Sequence[Question] = (
    Question(
        title="get by name (newest)", ours=_resolve("{name}"), shown=_source, theirs=_ask("newest", name="{name}")
    ),
    Question(
        title="get by name and number",
        ours=_resolve("{name}@{number}"),
        shown=_source,
        theirs=_ask("number", name="{name}", number="{number}"),
    ),
    Question(
        title="get by name and alias",
        ours=_resolve("{name}@{alias}"),
        shown=_source,
        theirs=_ask("alias", name="{name}", alias="{alias}"),
        needs="alias",
    ),
    Question(
        title="list of adapters, first page",
        ours=lambda registry, _: registry.list(limit=PAGE),
        shown=lambda page: [item.name for item in page],
        theirs=_ask("models", query=""),
    ),
    Question(
        title="search: base and domain",
        ours=_search('base:"{base}" domain:"{domain}"'),
        shown=_hits,
        theirs=_ask("versions", query="tags.base = '{base}' AND tags.domain = '{domain}'"),
        needs="domain",
    ),
    Question(
        title="search: base",
        ours=_search('base:"{base}"'),
        shown=_hits,
        theirs=_ask("versions", query="tags.base = '{base}'"),
    ),
    Question(
        title="search: beginning of the name",
        ours=_search("name:{first_word}*"),
        shown=_hits,
        theirs=_ask("versions", query="name LIKE '{first_word}%'"),
    ),
    Question(
        title="search: tag",
        ours=_search("tag:team={team}"),
        shown=_hits,
        theirs=_ask("versions", query="tags.team = '{team}'"),
        needs="team",
    ),
    Question(title="search: role and rank", ours=_search("role:{role} rank>={rank}"), shown=_hits, needs="role"),
    Question(title="search: full text", ours=_search("{word}"), shown=_hits, needs="body"),
    Question(title="search: metric", ours=_search("metric:accuracy>={share:.3f}"), shown=_hits),
    Question(title="search: recovered gain", ours=_search("recovered>={share:.3f}"), shown=_hits),
    Question(title="lineage up", ours=_lineage("{name}@{number}", up=True), shown=_edges, needs="parent"),
    Question(title="lineage down", ours=_lineage("{name}@{number}", up=False), shown=_edges, needs="child"),
    Question(title="lineage down, common ancestor", ours=_lineage("{parent}", up=False), shown=_edges, needs="parent"),
    Question(
        title="the same without a limit",
        ours=lambda registry, subject: registry.lineage(subject["parent"], up=False, limit=None),
        shown=_edges,
        needs="parent",
        is_aimed=False,
    ),
)
"""Every question."""
