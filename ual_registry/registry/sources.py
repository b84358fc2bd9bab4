"""Where the terms of a query look: one small function per field.

A condition is said of ``RevisionRow`` alone. Where a term asks about another table, that table is asked by a subquery,
so that no revision is found twice, and no database can begin elsewhere than the plan says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, exists, func, literal_column, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute

from ual_registry.registry.conditions import Condition, Values, lies, lies_in, matches, one_of_few, plain, unindexed
from ual_registry.registry.measured import is_own
from ual_registry.registry.order import Sorting
from ual_registry.registry.record_tables import EvaluationRow, MeasuredRow
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    BaseModelRow,
    EntryRow,
    RevisionRow,
    RoleRow,
    Table,
    TagRow,
)
from ual_registry.registry.values import Pair, Span, Text

__all__ = ["SOURCES", "Source", "artifact_source", "check_of", "condition_of", "source_of"]

_REVISIONS = Table.metadata.tables["revisions"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where one term looks.

    Attributes:
        key: The column that names a revision, artifact or adapter.
        link: The column of ``RevisionRow`` that it is equal to.
        where: What holds there.
        check: What holds for a revision that is found already, where that is cheaper to say otherwise.
        counted: What is counted instead of ``where``: something wider that an index alone can answer.
        is_kept: Whether the indexes that are walked in the order of names hold all that a check of a revision reads.
        is_ordered: Whether an index holds what is found in the order of names, with all that is kept.
        order: By which columns of its own an index holds what is found in the order of names; ``None`` for none.
        listed: Where the same is found in the order of names, if it stands in two places.
    """

    key: Any
    link: Any
    where: Condition
    check: Condition | None = None
    counted: Condition | None = None
    is_kept: bool = False
    is_ordered: bool = False
    order: Sorting | None = None
    listed: Source | None = None

    @property
    def is_of_revision(self) -> bool:
        """Whether it asks about the row of the revision itself."""
        return bool(self.key.table is _REVISIONS)

    def keys(self) -> Select[Any]:
        """Return what is found, as a select."""
        return select(self.key).where(self.where).correlate(None)

    def is_among_found(self) -> Condition:
        """Return the condition by which a walk asks whether a row is one of what is found, which is looked up once.

        That it is said to be true keeps PostgreSQL from beginning with what is found.
        """
        return plain(self.link).in_(self.keys()).is_(true())

    def counted_rows(self) -> Select[Any]:
        """Return what is counted, as a select that reads indexes alone: at least as much as is found."""
        where = self.where if self.counted is None else self.counted
        return select(literal_column("1")).select_from(self.key.table).where(where).correlate(None)

    def condition(self) -> Condition:
        """Return the condition to check a revision by, which is found already."""
        if self.check is not None:
            return self.check
        where = self.unindexed()
        return where if self.is_of_revision else exists().where(self.key == self.link, where).correlate(RevisionRow)

    def unindexed(self) -> Condition:
        """Return the condition of the row itself, when it is found already."""
        return unindexed(self.where, self.key.table)


def artifact_source(where: Condition) -> Source:
    """Return where a term about artifacts looks."""
    return Source(ArtifactRow.id, RevisionRow.artifact_id, where)


def _text(found: InstrumentedAttribute[Any]) -> Callable[[Values], Source]:
    return lambda values: artifact_source(matches(found, values, fold=True))


def _facet_text(found: InstrumentedAttribute[Any], own: InstrumentedAttribute[Any]) -> Callable[[Values], Source]:
    """Look up by a column of the artifact, and check by what the revision keeps of it."""
    kept = plain(own)
    return lambda values: _facet(matches(found, values, fold=True), matches(kept, values, fold=True, is_folded=True))


def _facet(where: Condition, check: Condition) -> Source:
    return Source(ArtifactRow.id, RevisionRow.artifact_id, where, check=check, is_kept=True)


def _revision_source(where: Condition, check: Condition | None = None, *, is_ordered: bool = False) -> Source:
    """Return where a term looks that asks about columns of the revision which the indexes of a walk hold."""
    return Source(RevisionRow.id, RevisionRow.id, where, check=check, is_kept=True, is_ordered=is_ordered)


def _domain(values: Values) -> Source:
    columns = (RevisionRow.domain_folded, plain(RevisionRow.domain_folded))
    where, check = (matches(found, values, fold=True, is_folded=True) for found in columns)
    return _revision_source(where, check, is_ordered=len(values) == 1 and not values[0].is_prefix)


def _recovered(values: Values) -> Source:
    columns = (RevisionRow.recovered_gain, plain(RevisionRow.recovered_gain))
    return _revision_source(*(lies_in(found, values) for found in columns))


def _number(found: InstrumentedAttribute[Any]) -> Callable[[Values], Source]:
    return lambda values: artifact_source(lies_in(found, values))


def _name(values: Values) -> Source:
    """Look adapters up by name, so that their revisions are found in the order of names."""
    check = matches(RevisionRow.adapter_name, values, fold=True)
    return Source(AdapterRow.name, RevisionRow.adapter_name, matches(AdapterRow.name, values, fold=True), check=check)


def _owner(values: Values) -> Source:
    return Source(AdapterRow.name, RevisionRow.adapter_name, matches(AdapterRow.owner, values, fold=True))


def _role(values: Values) -> Source:
    return Source(RoleRow.artifact_id, RevisionRow.artifact_id, matches(RoleRow.role, values, fold=False))


def _rank(values: Values) -> Source:
    own = (ArtifactRow.id, ArtifactRow.rank_min, ArtifactRow.rank_max)
    kept = (RevisionRow.artifact_id, plain(RevisionRow.rank_min), plain(RevisionRow.rank_max))
    return _facet(*(or_(*(_has_rank(span, *columns) for span in values)) for columns in (own, kept)))


def _has_rank(span: Span, artifact_id: Any, smallest: Any, largest: Any) -> Condition:
    """Compare the extremes; only where both ends of the span lie between them, the ranks between are looked at."""
    above = Span(low=span.low, includes_low=span.includes_low)
    below = Span(high=span.high, includes_high=span.includes_high)
    parts = [lies(largest, above)] if span.low is not None else []
    parts += [lies(smallest, below)] if span.high is not None else []
    if len(parts) > 1:
        between = exists().where(RoleRow.artifact_id == artifact_id, lies(RoleRow.rank, span))
        parts.append(or_(lies(smallest, above), lies(largest, below), between))
    return and_(*parts)


def _layers(values: Values) -> Source:
    return Source(RoleRow.artifact_id, RevisionRow.artifact_id, or_(*map(_reaches, values)))


def _reaches(span: Span) -> Condition:
    """Compare the blocks of a role in short; only where both ends are given, an entry between them is looked for."""
    parts = []
    if span.low is not None:
        parts.append(lies(RoleRow.layer_max, Span(low=span.low, includes_low=span.includes_low)))
    if span.high is not None:
        parts.append(lies(RoleRow.layer_min, Span(high=span.high, includes_high=span.includes_high)))
    if len(parts) > 1:
        parts.append(exists().where(EntryRow.artifact_id == RoleRow.artifact_id, lies(EntryRow.layer, span)))
    return and_(*parts)


def _base(values: Values) -> Source:
    columns = (BaseModelRow.label, BaseModelRow.architecture, BaseModelRow.model_type)
    found = or_(*(matches(found, values, fold=True) for found in columns), *map(_is_behind_slash, values))
    return _of_base(found)


def _of_base(where: Condition) -> Source:
    found = select(BaseModelRow.id).where(where)
    check = one_of_few(plain(RevisionRow.base_model_id), found)
    return _revision_source(RevisionRow.base_model_id.in_(found), check)


def _is_behind_slash(value: Text) -> Condition:
    """Compare what stands behind a ``/`` of a label, as Hub ids have it: ``org/model``."""
    text: Any = value.text
    pattern = text.read("behind_slash_prefix" if value.is_prefix else "behind_slash")
    return func.lower(BaseModelRow.label).like(pattern.bound(), escape="\\")


def _architecture(values: Values) -> Source:
    return _of_base(matches(BaseModelRow.architecture, values, fold=True))


def _metric(values: Values) -> Source:
    found = or_(*(_measured(pair) for pair in values))
    listed = _listed(values[0]) if len(values) == 1 else None
    where = and_(found, is_own())
    return Source(EvaluationRow.artifact_id, RevisionRow.artifact_id, where, counted=found, listed=listed)


def _listed(pair: Pair) -> Source | None:
    """Compare the greatest result with a lower end, or the least with an upper one; of both, that would not be all."""
    where = MeasuredRow.metric == pair.key
    if isinstance(pair.value, Span):
        if pair.value.low is not None and pair.value.high is not None:
            return None
        where = and_(where, lies(MeasuredRow.highest if pair.value.high is None else MeasuredRow.lowest, pair.value))
    return Source(MeasuredRow.revision_id, RevisionRow.id, where, order=_BY_NAME_OF_RESULT)


_BY_NAME_OF_RESULT = Sorting(columns=((MeasuredRow.adapter_name, False), (MeasuredRow.number, True)))


def _measured(pair: Pair) -> Condition:
    named = EvaluationRow.metric == pair.key
    return and_(named, lies(EvaluationRow.value, pair.value)) if isinstance(pair.value, Span) else named


_BY_NAME_OF_TAG = Sorting(columns=((TagRow.adapter_name, False), (TagRow.number, True)))


def _tag(values: Values) -> Source:
    is_exact = len(values) == 1 and isinstance(values[0].value, Text) and not values[0].value.is_prefix
    found = or_(*(_tagged(pair) for pair in values))
    return Source(TagRow.revision_id, RevisionRow.id, found, order=_BY_NAME_OF_TAG if is_exact else None)


def _tagged(pair: Pair) -> Condition:
    named = TagRow.key == pair.key
    return and_(named, matches(TagRow.value, (pair.value,), fold=False)) if isinstance(pair.value, Text) else named


def _alias(values: Values) -> Source:
    return Source(AliasRow.revision_id, RevisionRow.id, matches(AliasRow.name, values, fold=False))


def _created(values: Values) -> Source:
    """Look at the row of the revision; no index of a walk holds the moment, so that it is none of what is kept."""
    return Source(RevisionRow.id, RevisionRow.id, lies_in(RevisionRow.created_at, values))


def _yanked(values: Values) -> Source:
    asked = {word == "true" for word in ("true", "false") for value in values if _holds(value, word)}
    is_yanked = RevisionRow.yanked_at.is_not(None)
    parts = [is_yanked if wanted else ~is_yanked for wanted in sorted(asked)]
    return _revision_source(or_(*parts))


def _holds(value: Text, word: str) -> bool:
    return word.startswith(value.text) if value.is_prefix else word == value.text


def _kind(values: Values) -> Source:
    return artifact_source(matches(ArtifactRow.kind, values, fold=False))


def _digest(values: Values) -> Source:
    return artifact_source(matches(ArtifactRow.digest, values, fold=False))


SOURCES: dict[str, Callable[[Values], Source]] = {
    "name": _name,
    "owner": _owner,
    "title": _text(ArtifactRow.title),
    "base": _base,
    "architecture": _architecture,
    "method": _facet_text(ArtifactRow.method, RevisionRow.method_folded),
    "domain": _domain,
    "license": _facet_text(ArtifactRow.license, RevisionRow.license_folded),
    "kind": _kind,
    "role": _role,
    "rank": _rank,
    "layers": _layers,
    "params": _number(ArtifactRow.parameter_count),
    "size": _number(ArtifactRow.size_bytes),
    "recovered": _recovered,
    "metric": _metric,
    "created": _created,
    "tag": _tag,
    "alias": _alias,
    "digest": _digest,
    "yanked": _yanked,
}
"""Every field but that of descendants, which needs to know their ancestor."""


@functools.lru_cache(maxsize=2048)
def source_of(field: str, values: Values) -> Source:
    """Return where a term looks; to make the expressions takes longer than to compare a row by them."""
    return SOURCES[field](values)


@functools.lru_cache(maxsize=2048)
def check_of(field: str, values: Values) -> Condition:
    """Return what holds of the row that a term asks about, when that row is found already."""
    return source_of(field, values).unindexed()


@functools.lru_cache(maxsize=2048)
def condition_of(field: str, values: Values) -> Condition:
    """Return the condition to check a revision by, which is found already."""
    return source_of(field, values).condition()
