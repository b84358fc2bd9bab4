"""What was measured of a revision, listed in the order of a page: written where it changes, and compared.

One row holds the least and the greatest result of a metric. A search by one end of a span then reads one index along
the order of names, where it would look up the results of one revision after the other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, or_, select
from sqlalchemy.orm import Session

from ual_registry.registry.record_tables import EvaluationRow, MeasuredRow
from ual_registry.registry.tables import RevisionRow

__all__ = ["differing_measured", "is_own", "renew_measured"]

_OWN_ARM = "adapter"
"""Measurements of a base model or a control, taken to compare with, are none of the adapter."""


def is_own() -> ColumnElement[bool]:
    """Return what holds of the results of an adapter itself."""
    return or_(EvaluationRow.arm == _OWN_ARM, EvaluationRow.arm.is_(None))


def renew_measured(session: Session, which: ColumnElement[bool]) -> None:
    """List again what was measured of revisions.

    Args:
        session: An open session that writes.
        which: Of which rows of ``RevisionRow``.
    """
    session.execute(delete(MeasuredRow).where(MeasuredRow.revision_id.in_(select(RevisionRow.id).where(which))))
    key = (RevisionRow.id, EvaluationRow.metric, RevisionRow.adapter_name, RevisionRow.number)
    found = select(*key, func.min(EvaluationRow.value), func.max(EvaluationRow.value))
    found = found.join(EvaluationRow, EvaluationRow.artifact_id == RevisionRow.artifact_id)
    names = ["revision_id", "metric", "adapter_name", "number", "lowest", "highest"]
    session.execute(insert(MeasuredRow).from_select(names, found.where(which, is_own()).group_by(*key)))


def differing_measured() -> ColumnElement[bool]:
    """Return what holds where a revision is listed with other results than those of its artifact."""
    listed = and_(
        *(MeasuredRow.revision_id == RevisionRow.id, MeasuredRow.metric == EvaluationRow.metric),
        *(MeasuredRow.adapter_name == RevisionRow.adapter_name, MeasuredRow.number == RevisionRow.number),
        *(MeasuredRow.lowest <= EvaluationRow.value, MeasuredRow.highest >= EvaluationRow.value),
    )
    own = and_(EvaluationRow.artifact_id == RevisionRow.artifact_id, is_own())
    is_missing = exists().where(own, ~exists().where(listed).correlate(RevisionRow, EvaluationRow))
    ends = [~_has_result(own, end) for end in (MeasuredRow.lowest, MeasuredRow.highest)]
    is_wrong = exists().where(MeasuredRow.revision_id == RevisionRow.id, or_(*ends))
    return or_(is_missing.correlate(RevisionRow), is_wrong.correlate(RevisionRow))


def _has_result(own: ColumnElement[bool], value: Any) -> ColumnElement[bool]:
    same = and_(own, EvaluationRow.metric == MeasuredRow.metric, EvaluationRow.value == value)
    return exists().where(same).correlate(RevisionRow, MeasuredRow)
