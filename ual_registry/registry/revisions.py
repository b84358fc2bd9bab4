"""Giving artifacts their numbers under names, many at once, in the caller's one transaction.

The number of a revision is taken from its adapter's row, which stays locked until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from ual_registry.registry.audit import now, write_logs
from ual_registry.registry.commands import insertion
from ual_registry.registry.describe import Description
from ual_registry.registry.facets import facets_of
from ual_registry.registry.labels import labels_text
from ual_registry.registry.measured import renew_measured
from ual_registry.registry.record_tables import EvaluationRow
from ual_registry.registry.reference import is_tag_key
from ual_registry.registry.statements import is_sqlite
from ual_registry.registry.tables import AdapterRow, RevisionRow, Table
from ual_registry.registry.texts import write_texts

__all__ = ["Added", "Wanted", "add_revisions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A revision to be there.

    Attributes:
        name: The adapter; made on first use.
        artifact_id: The row number of its artifact.
        description: What is known of that.
        tags: Tags of a new revision, beside those that the manifest brings; a known one keeps its own.
    """

    name: str
    artifact_id: int
    description: Description
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A revision that holds an artifact under a name.

    Attributes:
        number: Its number.
        is_new: Whether it was made now.
        is_yanked: Whether it was there and is hidden.
    """

    number: int
    is_new: bool
    is_yanked: bool


_Place = tuple[int, int]
"""The row numbers of an adapter and of an artifact; a revision has one number for both."""


def add_revisions(session: Session, wanted: Sequence[Wanted]) -> list[Added]:
    """Give artifacts the next numbers under their names; the same bytes under the same name keep their number.

    Args:
        session: An open session that writes.
        wanted: The revisions, in the order of their numbers.

    Returns:
        What became of each, in the same order.
    """
    adapters = _lock_adapters(session, {own.name for own in wanted})
    places: list[_Place] = [(adapters[own.name].id, own.artifact_id) for own in wanted]
    known = _known(session, places)
    numbers = {place: int(row.number) for place, row in known.items()}
    newest = {row.id: int(row.newest) for row in adapters.values()}
    new: dict[_Place, Wanted] = {}
    added = []
    for own, place in zip(wanted, places, strict=True):
        is_new = place not in numbers
        if is_new:
            newest[place[0]] += 1
            numbers[place], new[place] = newest[place[0]], own
        is_yanked = place in known and known[place].yanked_at is not None
        added.append(Added(number=numbers[place], is_new=is_new, is_yanked=is_yanked))
    if new:
        taken = [{"wanted": adapter, "taken": newest[adapter]} for adapter in sorted({place[0] for place in new})]
        session.execute(_TAKE_NUMBERS, taken)
        _write(session, new, numbers, adapters)
    return added


def _lock_adapters(session: Session, names: Iterable[str]) -> dict[str, Any]:
    """Keep other writers from adapters until the end, always in one order, and return their rows; new ones are made."""
    ordered = sorted(names)
    found = {row.name: row for row in session.execute(_ADAPTERS, {"names": ordered})}
    absent = [name for name in ordered if name not in found]
    if absent:
        rows = [{"name": name, "newest": 0, "created_at": now()} for name in absent]
        session.execute(insertion(session, AdapterRow).on_conflict_do_nothing(), rows)
        found |= {row.name: row for row in session.execute(_ADAPTERS, {"names": absent})}
    return found


_ADAPTERS = (
    select(AdapterRow.id, AdapterRow.name, AdapterRow.owner, AdapterRow.description, AdapterRow.newest)
    .where(AdapterRow.name.in_(bindparam("names", expanding=True)))
    .order_by(AdapterRow.name)
    .with_for_update()
)


def _known(session: Session, places: Sequence[_Place]) -> dict[_Place, Any]:
    adapters, artifacts = ({place[part] for place in places} for part in (0, 1))
    rows = session.execute(_REVISIONS, {"adapters": list(adapters), "artifacts": list(artifacts)})
    return {(row.adapter_id, row.artifact_id): row for row in rows}


_REVISIONS = select(RevisionRow.adapter_id, RevisionRow.artifact_id, RevisionRow.number, RevisionRow.yanked_at).where(
    RevisionRow.adapter_id.in_(bindparam("adapters", expanding=True)),
    RevisionRow.artifact_id.in_(bindparam("artifacts", expanding=True)),
)
_TAKE_NUMBERS = (
    update(Table.metadata.tables["adapters"])
    .where(AdapterRow.id == bindparam("wanted"))
    .values(newest=bindparam("taken"))
)


def _write(
    session: Session,
    new: Mapping[_Place, Wanted],
    numbers: Mapping[_Place, int],
    adapters: Mapping[str, Any],
) -> None:
    """Write new revisions and everything that is kept with them."""
    kept = {place: _kept(own) for place, own in new.items()}
    rows = _rows(session, new, numbers, adapters, kept)
    made = session.execute(_INSERT_REVISIONS, rows).all()
    ids = {(row.adapter_id, row.artifact_id): int(row.id) for row in made}
    tags, texts, log = [], [], []
    for place, own in new.items():
        shown = {"adapter_name": own.name, "number": numbers[place]}
        tags += [{"revision_id": ids[place], **shown, "key": key, "value": value} for key, value in kept[place].items()]
        texts.append((ids[place], _words(own, adapters[own.name], kept[place])))
        detail = {"number": numbers[place], **({"tags": dict(own.tags)} if own.tags else {})}
        log.append((own.name, own.description.digest, detail))
    if tags:
        session.execute(_INSERT_TAGS, tags)
    measured = [ids[place] for place, own in new.items() if own.description.records.get(EvaluationRow)]
    if measured:
        renew_measured(session, RevisionRow.id.in_(measured))
    write_texts(session, texts)
    write_logs(session, "add", log)


def _rows(
    session: Session,
    new: Mapping[_Place, Wanted],
    numbers: Mapping[_Place, int],
    adapters: Mapping[str, Any],
    kept: Mapping[_Place, Mapping[str, str]],
) -> list[dict[str, Any]]:
    facets, moment, lite = facets_of(session, {place[1] for place in new}), now(), is_sqlite(session.connection())
    return [
        {
            **facets[place[1]],
            "adapter_id": place[0],
            "artifact_id": place[1],
            "adapter_name": own.name,
            "number": numbers[place],
            "labels": labels_text(adapters[own.name].owner, (), kept[place], is_sqlite=lite),
            "created_at": moment,
        }
        for place, own in new.items()
    ]


def _kept(own: Wanted) -> dict[str, str]:
    """Return the tags of a new revision; one of the manifest that is too long for a tag is left out."""
    return {tag: "" for tag in own.description.tags if is_tag_key(tag)} | dict(own.tags)


def _words(own: Wanted, adapter: Any, kept: Mapping[str, str]) -> list[str | None]:
    content = [own.description.artifact[column] for column in ("title", "domain", "description")]
    labels = [part for pair in sorted(kept.items()) for part in pair]
    return [own.name, adapter.owner, adapter.description, *content, *labels]


_INSERT_TAGS = Table.metadata.tables["tags"].insert()
_INSERT_REVISIONS = (
    Table.metadata.tables["revisions"]
    .insert()
    .returning(RevisionRow.id, RevisionRow.adapter_id, RevisionRow.artifact_id)
)
