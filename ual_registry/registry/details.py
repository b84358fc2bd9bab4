"""From rows to records: what a page shows stands in one row for each hit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ual_registry.registry.making import maker
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
    return [_record(row) for row in rows]


_parsed = json.JSONDecoder().raw_decode
_made = maker(RevisionRecord)


def _record(row: Any) -> RevisionRecord:
    name, number, created_at, yanked_at, reason, recovered_gain, texts = row[:7]
    parts, _ = _parsed(f"{row[7][:-1]},{(row[8] or _NO_LABELS)[1:]}")  # one list of both; another is gone by the next
    digest, kind, title, method, domain, license_, parameter_count, size_bytes, measured = parts[:9]
    base, architecture, owner, aliases, tags = parts[9:]
    targets = NO_TARGETS if texts is None else read_targets(texts)
    return _made(  # in the order of its fields
        name,
        number,
        digest,
        utc(created_at),
        owner,
        tuple(aliases),
        tags,
        kind,
        title,
        base,
        architecture,
        method,
        domain,
        license_,
        targets.ranks,
        targets.roles,
        targets.summaries,
        parameter_count,
        size_bytes,
        recovered_gain,
        measurements_of(measured) if measured else (),
        None if yanked_at is None else reason or "",
    )
