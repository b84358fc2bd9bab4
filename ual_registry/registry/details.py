"""From rows to records: what a page shows stands in one row for each hit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ual_registry.registry.moments import utc
from ual_registry.registry.summaries import NO_TARGETS, measurements_of, read_targets
from ual_registry.registry.tables import Table
from ual_registry.registry.views import RevisionRecord

__all__ = ["COLUMNS", "MAX_PAGE", "records"]

MAX_PAGE = 10_000
"""Rows of a page."""

_REVISIONS = Table.metadata.tables["revisions"]

COLUMNS = tuple(
    _REVISIONS.c[name]
    for name in (
        *("adapter_name", "number", "created_at", "yanked_at", "yank_reason", "recovered_gain"),
        *("targets", "shown", "labels"),
    )
)
"""What is read of a revision, in this order."""

_NO_LABELS = "[null,[],{}]"


def records(rows: Sequence[Any]) -> list[RevisionRecord]:
    """Return the records of rows of ``COLUMNS``, which may have further columns behind those."""
    texts = [f"{row[7][:-1]},{(row[8] or _NO_LABELS)[1:]}" for row in rows]  # one list of both
    return [_record(row, parts) for row, parts in zip(rows, json.loads(f"[{','.join(texts)}]"), strict=True)]


def _record(row: Any, parts: list[Any]) -> RevisionRecord:
    name, number, created_at, yanked_at, reason, recovered_gain, texts, *_ = row
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, measured, *others = parts
    base, architecture, owner, aliases, tags = others
    targets = NO_TARGETS if texts is None else read_targets(texts)
    return RevisionRecord(
        name=name,
        number=number,
        digest=digest,
        created_at=utc(created_at),
        owner=owner,
        aliases=tuple(aliases),
        tags=tags,
        kind=kind,
        title=title,
        base=base,
        architecture=architecture,
        method=method,
        domain=domain,
        license=license_,
        ranks=targets.ranks,
        roles=targets.roles,
        targets=targets.summaries,
        parameter_count=parameter_count,
        size_bytes=size_bytes,
        recovered_gain=recovered_gain,
        evaluations=() if measured is None else measurements_of(measured),
        yank_reason=None if yanked_at is None else reason or "",
    )
