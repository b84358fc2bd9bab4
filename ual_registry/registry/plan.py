"""How a search is begun: with what its rarest term finds, or along the order of the page.

A database guesses how rare a term is from averages, and a limit makes a wrong guess dear: it walks through everything
in order where three rows would have answered. So the terms are counted first, each up to a bound, by one statement
that reads indexes alone. Where one is rare, the search begins there and sorts what it finds. Where all are common, the
order's index is read until the page is full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, null, select
from sqlalchemy.orm import Session

from ual_registry.registry.conditions import Condition
from ual_registry.registry.order import Sorting
from ual_registry.registry.search import Searcher, terms
from ual_registry.registry.sources import Source
from ual_registry.registry.tables import ArtifactRow, RevisionRow
from ual_registry.registry.tree import Node, Term, Words

__all__ = ["Plan", "make_plan"]

_BOUND = {"sqlite": 10_000, "postgresql": 5_000}
"""So far every term is counted; to check and sort more than that is dearer than most walks, and to count costs, too."""

_CANDIDATES_A_STEP = {"sqlite": 2, "postgresql": 1}
"""So many candidates are looked up and sorted in the time of one step of a walk, whose rows lie far apart.

Where more than one term is checked, both take alike."""

_CANDIDATES_A_KEPT_STEP = 0.2
"""The same where the index of the walk holds all that is checked."""

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


def make_plan(session: Session, searcher: Searcher, where: Node, *, limit: int, walked: Sorting | None = None) -> Plan:
    """Count the terms of a query and choose; a query without a countable term costs no statement.

    Args:
        session: An open session.
        searcher: Makes the conditions.
        where: What must hold.
        limit: How many rows are wanted.
        walked: The order that a walk would follow; it is tried on a few rows. ``None`` for one term alone.
    """
    every = terms(where)
    found = [node for node in every if isinstance(node, Words) or _is_countable(node)][:_COUNTED]
    sources = [searcher.source(node) for node in found]  # type: ignore[arg-type]  # both are terms
    if not sources:
        return Plan(driver=None, rest=every)
    are_words = len(every) == 1 and isinstance(every[0], Words)
    is_tried = (len(every) > 1 or are_words) and walked is not None and not walked.is_about_artifacts
    tried = _tried(searcher.condition(where), walked) if is_tried and walked is not None else None
    engine, enough = session.get_bind().dialect.name, _ENOUGH_WORDS if are_words else _ENOUGH
    everything, met, *counts = session.connection().execute(_question(sources, tried, enough, _BOUND[engine])).one()
    steps = _steps_of_walk(everything or 1, counts, limit) if met is None else limit * _TRIED / max(met, 0.5)
    fewest = None if counts[0] is None else min(range(len(sources)), key=lambda index: counts[index])
    worth = steps * _candidates_a_step(sources, every, engine)
    if fewest is None or counts[fewest] >= min(_BOUND[engine], worth):
        return Plan(driver=None, rest=every)
    return _driven_by(searcher, found[fewest], sources[fewest], every)


def _question(sources: Sequence[Source], tried: Any, enough: int, bound: int) -> Select[Any]:
    """Ask for the newest row number, what a walk has met, and the counts, which are left out where it met enough."""
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


def _candidates_a_step(sources: Sequence[Source], every: Sequence[Node], engine: str) -> float:
    if len(sources) == len(every) and all(source.is_kept for source in sources):
        return _CANDIDATES_A_KEPT_STEP
    return 1 if len(every) > 1 else _CANDIDATES_A_STEP[engine]


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
