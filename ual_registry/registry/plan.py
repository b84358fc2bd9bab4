"""How a search is begun: with what its rarest term finds, or along the order of the page.

A database guesses how rare a term is from averages, and a limit makes a wrong guess dear: it walks through everything
in order where three rows would have answered. So the terms are counted first, each up to a bound, by one statement
that reads indexes alone. Where one is rare, the search begins there and sorts what it finds. Where all are common, the
order's index is read until the page is full.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, literal_column, null, select

from ual_registry.registry.conditions import Condition
from ual_registry.registry.order import Sorting, sorting
from ual_registry.registry.search import Searcher, terms
from ual_registry.registry.sources import Source
from ual_registry.registry.statements import Statement, is_sqlite, prepared
from ual_registry.registry.tables import ArtifactRow, RevisionRow
from ual_registry.registry.tree import Node, Order, Term, Words

__all__ = ["Plan", "choose_driver", "plan_of"]

_BOUND = {True: 10_000, False: 5_000}
"""So far every term is counted, on SQLite and on PostgreSQL; to count costs, too.

To check and sort more than that is dearer than most walks."""

_CANDIDATES_A_STEP = {True: 2, False: 1}
"""So many candidates are looked up and sorted in the time of one step of a walk, whose rows lie far apart.

Where more than one term is checked, both take alike."""

_CANDIDATES_A_KEPT_STEP = 0.2
"""The same where the index of the walk holds all that is checked."""

_STEPS_A_TEXT = 1.5
"""So many steps of a walk that looks at texts take as long as to look one text up and sort it, on PostgreSQL."""

_TRIED = 200
"""So many rows are walked to see how often everything holds."""

_ENOUGH = 10
"""A walk that meets so many of them is short; nothing need be counted."""

_ENOUGH_WORDS = 5
"""The same for words alone, which are dear to count."""

_COUNTED = 8
"""So many terms are looked at; people write fewer."""

_COMMON = frozenset({"kind", "yanked", "layers"})
"""Fields that no index finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a search begins with.

    Attributes:
        driver: The term that is looked up first; ``None`` to walk along the order.
        rest: What else must hold.
    """

    driver: Source | None
    rest: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is asked before a search.

    Attributes:
        statement: Asks for the newest row number, what a walk has met, and the counts; these are left out where it
            met enough.
        places: Where the counted terms stand among all of them.
        is_kept: Whether the index of the walk holds all that is checked.
        is_single: Whether there is one term alone.
    """

    statement: Statement
    places: tuple[int, ...]
    is_kept: bool
    is_single: bool


def choose_driver(
    connection: Connection, where: Node, values: Sequence[Any], *, limit: int, walked: Order | None = None
) -> int | None:
    """Count the terms of a query and choose; a query without a countable term costs no statement.

    Args:
        connection: An open connection.
        where: What must hold, with blanks.
        values: What these stand for.
        limit: How many rows are wanted.
        walked: The order that a walk would follow; it is tried on a few rows. ``None`` for one term alone.

    Returns:
        Which of the terms is looked up first; ``None`` to walk.
    """
    on_sqlite = is_sqlite(connection)
    ordered = _ordered(where, on_sqlite) if walked == Order() else None
    if ordered is not None:
        return ordered
    estimate = None if on_sqlite else _estimate(where)
    if estimate is not None:
        return _of_words(estimate, connection, values, limit)
    survey = _survey(where, walked, on_sqlite)
    if survey is None:
        return None
    ((everything, met, *counts),) = survey.statement.rows(connection, values)
    if counts[0] is None:
        return None
    steps = _steps_of_walk(everything or 1, counts, limit) if met is None else limit * _TRIED / max(met, 0.5)
    fewest = min(range(len(counts)), key=lambda index: counts[index])
    if counts[fewest] >= min(_BOUND[on_sqlite], steps * _candidates_a_step(survey, on_sqlite=on_sqlite)):
        return None
    return survey.places[fewest]


def plan_of(searcher: Searcher, where: Node, driver: int | None) -> Plan:
    """Return the plan that begins with one of the terms of a query.

    Args:
        searcher: Makes the conditions.
        where: What must hold, with blanks.
        driver: Which term; ``None`` for none of them.
    """
    every = terms(where)
    if driver is None:
        return Plan(driver=None, rest=every)
    first: Any = every[driver]
    return _driven_by(searcher, first, searcher.source(first), every)


@functools.lru_cache(maxsize=512)
def _ordered(where: Node, on_sqlite: bool) -> int | None:
    """Return a term whose index holds what it finds in the order of names and all else that is asked.

    To walk there until the page is full is never far from the best, so that nothing need be counted.
    """
    every, searcher = terms(where), Searcher(is_sqlite=on_sqlite)
    if not all(isinstance(node, Term) for node in every):
        return None
    sources = [searcher.source(node) for node in every]  # type: ignore[arg-type]  # they are terms
    if not all(source.is_kept for source in sources):
        return None
    return next((at for at, source in enumerate(sources) if source.is_ordered), None)


@functools.lru_cache(maxsize=512)
def _estimate(where: Node) -> Statement | None:
    """Return what asks PostgreSQL how many texts it expects to hold the words; ``None`` where not they alone are asked.

    To count them reads as many rows as to find them, and the server knows how common each word is.
    """
    if not isinstance(where, Words):
        return None
    source = Searcher(is_sqlite=False).source(where)
    whole: Select[Any] = select(literal_column("1")).select_from(source.key.table)
    return prepared(source.counted_rows().union_all(whole), is_sqlite=False, is_planned_once=False, is_explained=True)


def _of_words(estimate: Statement, connection: Connection, values: Sequence[Any], limit: int) -> int | None:
    ((plans,),) = estimate.rows(connection, values)
    found, everything = (max(plan["Plan Rows"], 1) for plan in plans[0]["Plan"]["Plans"])
    return 0 if found * _STEPS_A_TEXT < limit * everything / found else None


@functools.lru_cache(maxsize=512)
def _survey(where: Node, walked: Order | None, on_sqlite: bool) -> _Survey | None:
    """Return what is asked first about questions of one form; ``None`` where nothing can be counted."""
    every, searcher = terms(where), Searcher(is_sqlite=on_sqlite)
    places = [at for at, node in enumerate(every) if isinstance(node, Words) or _is_countable(node)][:_COUNTED]
    if not places:
        return None
    sources = [searcher.source(every[at]) for at in places]  # type: ignore[arg-type]  # they are terms
    are_words = len(every) == 1 and isinstance(every[0], Words)
    order = None if walked is None else sorting(walked)
    is_tried = (len(every) > 1 or are_words) and order is not None and not order.is_about_artifacts
    tried = _tried(searcher.condition(where), order) if is_tried and order is not None else None
    statement = _question(sources, tried, _ENOUGH_WORDS if are_words else _ENOUGH, _BOUND[on_sqlite])
    return _Survey(
        statement=prepared(statement, is_sqlite=on_sqlite, is_planned_once=False),
        places=tuple(places),
        is_kept=len(places) == len(every) and all(source.is_kept for source in sources),
        is_single=len(every) == 1,
    )


def _question(sources: Sequence[Source], tried: Any, enough: int, bound: int) -> Select[Any]:
    counts = [_bounded_count(source, bound) for source in sources]
    if tried is None:
        return select(_newest(), null(), *counts)
    return select(_newest(), tried.c.met, *(case((tried.c.met < enough, count)) for count in counts))


def _tried(condition: Condition, walked: Sorting) -> Any:
    """Walk a few rows and count those for which everything holds: terms may depend on each other."""
    first = select(RevisionRow.id).order_by(*walked.by()).limit(_TRIED).correlate(None)
    return select(func.count().label("met")).where(RevisionRow.id.in_(first), condition).subquery()


def _driven_by(searcher: Searcher, first: Node, driver: Source, every: Sequence[Node]) -> Plan:
    """Look one term up, and check there at once what else is asked of the artifact."""
    rest = tuple(node for node in every if node is not first)
    if driver.key is not ArtifactRow.id:
        return Plan(driver=driver, rest=rest)
    alike = [node for node in rest if searcher.is_about_artifact(node)]
    others = tuple(node for node in rest if not searcher.is_about_artifact(node))
    return Plan(driver=searcher.narrowed(driver, alike), rest=others)


def _candidates_a_step(survey: _Survey, *, on_sqlite: bool) -> float:
    if survey.is_kept:
        return _CANDIDATES_A_KEPT_STEP
    return _CANDIDATES_A_STEP[on_sqlite] if survey.is_single else 1


def _steps_of_walk(everything: int, counts: Sequence[int], limit: int) -> float:
    """Guess how many rows a walk meets before it has found enough, as if no term depended on another."""
    share = math.prod(min(count / everything, 1.0) for count in counts)
    return min(limit / share, everything) if share else everything


def _newest() -> Any:
    return select(func.max(RevisionRow.id)).scalar_subquery()


def _is_countable(node: Node) -> bool:
    return isinstance(node, Term) and node.field not in _COMMON


def _bounded_count(source: Source, bound: int) -> Any:
    return select(func.count()).select_from(source.counted_rows().limit(bound).subquery()).scalar_subquery()
