"""What a hit shows of what may change, kept in its revision: who owns it, its aliases and its tags, as one JSON text.

It is written anew in the transaction that changes one of them, which holds the adapter's row: no other writes then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from ual_registry.registry.json_sql import JsonAll, JsonList, JsonPairs, JsonText, JsonWritten
from ual_registry.registry.tables import AdapterRow, AliasRow, RevisionRow, TagRow

__all__ = ["differing_labels", "labels_text", "renew_labels"]


def labels_text(owner: str | None, aliases: Sequence[str], tags: Mapping[str, str], *, is_sqlite: bool) -> str:
    """Return the text of a new revision as the engine itself would write it.

    Args:
        owner: Who answers for the adapter.
        aliases: Those that point to it.
        tags: Its tags.
        is_sqlite: For which engine.
    """
    whole = [owner, sorted(aliases), dict(sorted(tags.items()))]
    if is_sqlite:
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    *first, pairs = (json.dumps(part, ensure_ascii=False, separators=(", ", " : ")) for part in whole)
    return f"[{', '.join(first)}, {f'{{ {pairs[1:-1]} }}' if tags else pairs}]"


def _all(function: type[Any], *columns: Any) -> ColumnElement[str]:
    """Return what all rows of a revision have in some columns, sorted by the first of them."""
    own = columns[0].class_.revision_id == RevisionRow.id
    found = select(*columns).where(own).order_by(columns[0]).correlate(RevisionRow).subquery()
    return JsonText(select(function(*found.c)).scalar_subquery())


_OWNER = select(AdapterRow.owner).where(AdapterRow.id == RevisionRow.adapter_id).correlate(RevisionRow)
_LABELS = JsonWritten(
    JsonList(_OWNER.scalar_subquery(), _all(JsonAll, AliasRow.name), _all(JsonPairs, TagRow.key, TagRow.value))
)


def renew_labels(session: Session, which: ColumnElement[bool]) -> None:
    """Write the labels of revisions anew; the caller holds the rows of their adapters.

    Args:
        session: An open session that writes; what it has not yet written is written first.
        which: Of which rows of ``RevisionRow``.
    """
    session.flush()
    statement = update(RevisionRow).where(which).values(labels=_LABELS)
    session.execute(statement, execution_options={"synchronize_session": False})


def differing_labels() -> ColumnElement[bool]:
    """Return what holds where a revision keeps other labels than it has."""
    return RevisionRow.labels.is_distinct_from(_LABELS)
