"""What most searches ask of an artifact and what a hit shows of it, kept in its revisions: read, and written again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from ual_registry.registry.json_sql import JsonList, JsonText, JsonWritten
from ual_registry.registry.measured import renew_measured
from ual_registry.registry.tables import ArtifactRow, BaseModelRow, RevisionRow

__all__ = ["SHOWN", "differing", "facets_of", "renew_facets"]


def _of_base(column: InstrumentedAttribute[Any]) -> ScalarSelect[Any]:
    own = BaseModelRow.id == ArtifactRow.base_model_id
    return select(column).where(own).correlate(ArtifactRow).scalar_subquery()


SHOWN = ("digest", "kind", "title", "method", "domain", "license", "parameter_count", "size_bytes")
"""The first members of ``RevisionRow.shown``, as columns of the artifact; three more follow, as below."""

_SHOWN = JsonWritten(
    JsonList(
        *(getattr(ArtifactRow, name) for name in SHOWN),
        JsonText(ArtifactRow.measurements),
        _of_base(BaseModelRow.label),
        _of_base(BaseModelRow.architecture),
    )
)

_FACETS: dict[InstrumentedAttribute[Any], ColumnElement[Any]] = {
    RevisionRow.base_model_id: ArtifactRow.base_model_id.expression,
    RevisionRow.domain_folded: func.lower(ArtifactRow.domain),
    RevisionRow.license_folded: func.lower(ArtifactRow.license),
    RevisionRow.method_folded: func.lower(ArtifactRow.method),
    RevisionRow.rank_min: ArtifactRow.rank_min.expression,
    RevisionRow.rank_max: ArtifactRow.rank_max.expression,
    RevisionRow.recovered_gain: ArtifactRow.recovered_gain.expression,
    RevisionRow.targets: ArtifactRow.targets.expression,
    RevisionRow.shown: _SHOWN,
}
"""Each with what it is of the artifact."""

_OF_ARTIFACTS = select(ArtifactRow.id, *(found.label(own.key) for own, found in _FACETS.items())).where(
    ArtifactRow.id.in_(bindparam("artifacts", expanding=True))
)


def facets_of(session: Session, artifacts: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return the columns that a revision of each artifact has of it, by the row number of the artifact."""
    found = session.execute(_OF_ARTIFACTS, {"artifacts": list(artifacts)}).mappings()
    return {row["id"]: {name: row[name] for name in _NAMES} for row in found}


_NAMES = tuple(own.key for own in _FACETS)


def renew_facets(session: Session, which: ColumnElement[bool]) -> None:
    """Write the columns again that revisions have of their artifacts, and what is listed of these.

    Args:
        session: An open session that writes.
        which: Of which rows of ``RevisionRow``.
    """
    own = ArtifactRow.id == RevisionRow.artifact_id
    values = {name: select(found).where(own).scalar_subquery() for name, found in _FACETS.items()}
    session.execute(update(RevisionRow).where(which).values(values), execution_options={"synchronize_session": False})
    renew_measured(session, which)


def differing() -> ColumnElement[bool]:
    """Return what holds where a revision, joined with its artifact, says something else than that."""
    return or_(*(own.is_distinct_from(found) for own, found in _FACETS.items()))
