"""How a search is begun: with what its rarest term finds, along the order of the page, or along it with that at hand.

A database guesses how rare a term is from averages, and a limit makes a wrong guess dear: it walks through everything
in order where three rows would have answered. So the terms are counted first, each up to a bound, by one statement
that reads indexes alone. Where one is rare, the search begins there and sorts what it finds. Where all are common, the
order's index is read until the page is full. Between the two, what the rarest finds is gathered first, from its index
alone, and the order's index is read with that at hand, so that no row is looked up on the way.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, case, func, literal_column, null, select
from sqlalchemy.sql.util import ClauseAdapter
from sqlalchemy.sql.visitors import iterate

from ual_registry.registry.conditions import Condition
from ual_registry.registry.order import Sorting, sorting
from ual_registry.registry.search import Searcher, terms
from ual_registry.registry.sources import Source
from ual_registry.registry.statements import Statement, is_sqlite, prepared
from ual_registry.registry.tables import ArtifactRow, RevisionRow, Table
from ual_registry.registry.tree import Node, Order, Term, Words

__all__ = ["WALK", "Plan", "Start", "choose_start", "plan_of"]

_BOUND = {True: 10_000, False: 8_000}
"""So far a term is counted, on SQLite and on PostgreSQL; to count costs, too.

To check and sort more than that is dearer than most walks."""

_KEPT_BOUND = {True: 3_000, False: 1_000}
"""The same where the index of the walk holds what is checked, so that a walk is short."""

_LISTED_BOUND = 1_000
"""The same where what is asked is listed in the order of the walk, too; more than that is met there soon."""

_A_STEP = {True: 1.2, False: 1.1}
"""So long a step of a walk takes that looks a row up, where to look a candidate up and to sort it takes 1.

Where more than one term is checked, both take alike."""

_A_KEPT_STEP = {True: 0.2, False: 0.05}
"""The same where the index of the walk holds all that is checked."""

_A_SHORT_STEP = {True: 0.13, False: 0.06}
"""The same where a step only asks whether the row was gathered."""

_A_GATHERED = {True: 0.3, False: 0.1}
"""So long it takes to gather one candidate for that."""

_A_TEXT, _A_GATHERED_TEXT, _A_SHORT_STEP_OF_TEXTS = 0.9, 0.17, 0.045
"""To look up, to gather and to pass by, on PostgreSQL, where a step of a walk that looks at a text takes 1."""

_TRIED = 200
"""So many rows are walked to see how often everything holds."""

_ENOUGH = 10
"""A walk that meets so many of them is short; nothing need be counted."""

_ENOUGH_WORDS = 40
"""The same for words alone: a few may stand together, as those of one name do."""

_APART = 2
"""So many times longer than chance has it a walk is taken to be: what belongs together stands together."""

_COUNTED = 8
"""So many terms are looked at; people write fewer."""

_RARE = frozenset({"name", "title", "tag", "alias", "digest", "derived-from"})
"""Fields of which few revisions share a value."""

_COMMON = frozenset({"kind", "yanked", "layers"})
"""Fields that no index finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a search is begun.

    Attributes:
        term: Which of its terms is looked up first; ``None`` to walk along the order and check each row.
        is_gathered: Whether what it finds is only gathered, to walk along the order with it.
        is_listed: Whether it is looked up where the same is listed in the order of names.
    """

    term: int | None = None
    is_gathered: bool = False
    is_listed: bool = False


WALK = Start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a search begins with.

    Attributes:
        driver: The term that is looked up first; ``None`` to walk along the order.
        gathered: The term that is looked up once for a walk; ``None`` for none.
        rest: What else must hold.
    """

    driver: Source | None = None
    gathered: Source | None = None
    rest: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Survey:
    """What is asked before a search.

    Attributes:
        statement: Asks for the newest row number, what a walk has met, and the counts; these are left out where it
            met enough.
        places: Where the counted terms stand among all of them.
        bounds: How far each is counted.
        may_gather: Whether it may be worth while to gather what each of them finds.
        is_listed: Whether the one term that is asked for is also listed in the order of the walk.
        is_guided: Whether what a walk has met says more of it than the counts do, since terms depend on each other.
        a_step: How long a step of a walk takes.
        are_words: Whether words are asked for, and nothing else.
    """

    statement: Statement
    places: tuple[int, ...]
    bounds: tuple[int, ...]
    may_gather: tuple[bool, ...]
    is_listed: bool
    is_guided: bool
    a_step: float
    are_words: bool


def choose_start(
    connection: Connection, where: Node, values: Sequence[Any], *, limit: int, walked: Order | None = None
) -> Start:
    """Count the terms of a query and choose; a query without a countable term costs no statement.

    Args:
        connection: An open connection.
        where: What must hold, with blanks.
        values: What these stand for.
        limit: How many rows are wanted.
        walked: The order that a walk would follow; it is tried on a few rows. ``None`` for one term alone.
    """
    on_sqlite = is_sqlite(connection)
    ordered = _ordered(where, on_sqlite) if walked == Order() else None
    if ordered is not None:
        return Start(term=ordered)
    estimate = None if on_sqlite else _estimate(where)
    if estimate is not None:
        return _of_words(estimate, connection, values, limit)
    survey = _survey(where, walked, on_sqlite)
    if survey is None:
        return WALK
    ((everything, met, walked_so_far, *counts),) = survey.statement.rows(connection, values)
    if counts[0] is None:
        return _of_many(survey, everything, met / (walked_so_far or _TRIED), limit, on_sqlite=on_sqlite)
    if survey.is_listed:
        return Start(term=0, is_listed=counts[0] == survey.bounds[0])
    steps = _steps_of_walk(everything or 1, counts, limit)
    if met is not None and survey.is_guided:
        tried = limit * _TRIED / max(met, 0.5)
        steps = max(steps, tried) if survey.are_words else tried
    fewest = min(range(len(counts)), key=lambda index: counts[index])
    found, term = counts[fewest], survey.places[fewest]
    is_counted = found < survey.bounds[fewest]
    ways = {WALK: steps * survey.a_step}
    if is_counted:
        ways[Start(term=term)] = found
    if survey.may_gather[fewest] and (is_counted or met is not None):
        ways[Start(term=term, is_gathered=True)] = found * _A_GATHERED[on_sqlite] + steps * _A_SHORT_STEP[on_sqlite]
    return min(ways, key=lambda way: ways[way])


def _of_many(survey: _Survey, everything: int, share: float, limit: int, *, on_sqlite: bool) -> Start:
    """Choose where a walk has met many, of which nothing else is known."""
    if survey.is_guided or not survey.may_gather[0]:
        return WALK
    steps, found = limit / share, everything * share
    gathered = found * _A_GATHERED[on_sqlite] + steps * _A_SHORT_STEP[on_sqlite]
    return WALK if steps * survey.a_step < gathered else Start(term=survey.places[0], is_gathered=True)


def plan_of(searcher: Searcher, where: Node, start: Start) -> Plan:
    """Return the plan that begins with one of the terms of a query.

    Args:
        searcher: Makes the conditions.
        where: What must hold, with blanks.
        start: How it is begun.
    """
    every = terms(where)
    if start.term is None:
        return Plan(rest=every)
    first: Any = every[start.term]
    if start.is_gathered:
        rest = tuple(node for node in every if node is not first)
        return Plan(gathered=searcher.source(first), rest=rest)
    source = searcher.source(first)
    return _driven_by(searcher, first, source.listed if start.is_listed and source.listed else source, every)


@functools.lru_cache(maxsize=512)
def _ordered(where: Node, on_sqlite: bool) -> int | None:
    """Return a term whose index holds what it finds in the order of names and all else that is asked.

    To walk there until the page is full is never far from the best, so that nothing need be counted.
    """
    every, searcher = terms(where), Searcher(is_sqlite=on_sqlite)
    if not all(isinstance(node, (Term, Words)) for node in every):
        return None
    sources = [searcher.source(node) for node in every]  # type: ignore[arg-type]  # they are terms
    if len(sources) == 1 and (sources[0].order is not None or (not on_sqlite and _is_of_names(every[0]))):
        return 0
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
    source = Searcher(is_sqlite=False).words(where)
    whole: Select[Any] = select(literal_column("1")).select_from(source.key.table)
    return prepared(source.counted_rows().union_all(whole), is_sqlite=False, is_planned_once=False, is_explained=True)


def _of_words(estimate: Statement, connection: Connection, values: Sequence[Any], limit: int) -> Start:
    ((plans,),) = estimate.rows(connection, values)
    found, everything = (max(plan["Plan Rows"], 1) for plan in plans[0]["Plan"]["Plans"])
    steps = _steps_of_walk(everything, [found], limit)
    ways = {WALK: steps, Start(term=0): found * _A_TEXT}
    ways[Start(term=0, is_gathered=True)] = found * _A_GATHERED_TEXT + steps * _A_SHORT_STEP_OF_TEXTS
    return min(ways, key=lambda way: ways[way])


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
    is_listed = len(every) == 1 and walked == Order() and sources[0].listed is not None
    is_tried = len(every) > 1 or are_words or (not on_sqlite and not is_listed and _may_be_common(every[0]))
    tried = None
    if is_tried and order is not None and not order.is_about_artifacts:
        tried = _tried(searcher.condition(where), order, None if on_sqlite or are_words else _ENOUGH)
    bounds = [_KEPT_BOUND[on_sqlite] if source.is_kept else _BOUND[on_sqlite] for source in sources]
    bounds = [_LISTED_BOUND] if is_listed else bounds
    counts = list(map(_bounded_count, sources, bounds))
    enough = _ENOUGH_WORDS if are_words else _ENOUGH
    return _Survey(
        statement=prepared(_question(counts, tried, enough), is_sqlite=on_sqlite),
        places=tuple(places),
        bounds=tuple(bounds),
        may_gather=tuple([walked == Order() and _is_gathered(source) for source in sources]),
        is_listed=is_listed,
        is_guided=tried is not None and (len(every) > 1 or are_words),
        a_step=_a_step(sources, len(every), on_sqlite=on_sqlite),
        are_words=are_words,
    )


def _is_gathered(source: Source) -> bool:
    """Tell whether a walk would have to look up what a term asks, and would meet it in no order of its own."""
    return not source.is_kept and source.link is not RevisionRow.adapter_name


def _a_step(sources: Sequence[Source], count: int, *, on_sqlite: bool) -> float:
    if len(sources) == count and all(source.is_kept for source in sources):
        return _A_KEPT_STEP[on_sqlite]
    return _A_STEP[on_sqlite] if count == 1 else 1


def _question(counts: Sequence[Any], tried: Any, enough: int) -> Select[Any]:
    if tried is None:
        return select(_newest(), null(), null(), *counts)
    is_rare = tried.c.met < literal_column(str(enough))
    return select(_newest(), tried.c.met, tried.c.walked, *(case((is_rare, count)) for count in counts))


def _tried(condition: Condition, walked: Sorting, enough: int | None) -> Any:
    """Walk a few rows and count those for which everything holds: terms may depend on each other.

    Of the rows, what the condition reads is taken along, so that an index which holds all of that need not be left.

    Args:
        condition: What must hold.
        walked: In which order.
        enough: Where to stop, and to tell how many rows were walked until then; ``None`` walks them all.
    """
    owner = Table.metadata.tables["revisions"]
    read = {found.name for found in iterate(condition) if isinstance(found, Column) and found.table.name == owner.name}
    columns = [owner.c[name] for name in sorted(read | {"id"})]
    size: Any = literal_column(str(_TRIED))
    place = literal_column("0") if enough is None else func.row_number().over()
    first = select(*columns, place.label("place")).order_by(*walked.by()).limit(size).correlate(None).subquery("first")
    met = select(first.c.place).where(ClauseAdapter(first).traverse(condition))
    if enough is None:
        return select(func.count().label("met"), null().label("walked")).select_from(met.subquery()).subquery()
    met = met.limit(literal_column(str(enough)))
    found = met.subquery()
    return select(func.count().label("met"), func.max(found.c.place).label("walked")).select_from(found).subquery()


def _driven_by(searcher: Searcher, first: Node, driver: Source, every: Sequence[Node]) -> Plan:
    """Look one term up, and check there at once what else is asked of the artifact."""
    rest = tuple(node for node in every if node is not first)
    if driver.key is not ArtifactRow.id:
        return Plan(driver=driver, rest=rest)
    alike = [node for node in rest if searcher.is_about_artifact(node)]
    others = tuple(node for node in rest if not searcher.is_about_artifact(node))
    return Plan(driver=searcher.narrowed(driver, alike), rest=others)


def _steps_of_walk(everything: int, counts: Sequence[int], limit: int) -> float:
    """Guess how many rows a walk meets before it has found enough, as if no term depended on another."""
    share = math.prod(min(count / everything, 1.0) for count in counts)
    return min(_APART * limit / share, everything) if share else everything


def _newest() -> Any:
    return select(func.max(RevisionRow.id)).scalar_subquery()


def _is_of_names(node: Node) -> bool:
    """Tell whether names are asked for; to find them all takes PostgreSQL hardly longer than to count them."""
    return isinstance(node, Term) and node.field == "name"


def _is_countable(node: Node) -> bool:
    return isinstance(node, Term) and node.field not in _COMMON


def _may_be_common(node: Node) -> bool:
    """Tell whether many revisions share what is asked as a rule, so that to count them takes long."""
    return isinstance(node, Term) and node.field not in _RARE


def _bounded_count(source: Source, bound: int) -> Any:
    rows = source.counted_rows().limit(literal_column(str(bound)))
    return select(func.count()).select_from(rows.subquery()).scalar_subquery()
