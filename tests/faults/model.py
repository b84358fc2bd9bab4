"""What a registry must hold after a row of actions, said without a registry, and what one does hold."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import (
    AdapterRow,
    AliasRow,
    ArtifactRow,
    AuditRow,
    BlobRow,
    EntryRow,
    RevisionRow,
    RevisionTextRow,
    TagRow,
)

__all__ = ["EMPTY", "Action", "State", "after", "choose", "perform", "snapshot"]

State = dict[str, Any]
"""``adapters`` by name: owner, revisions (digest, tags, whether yanked), aliases; ``log``: how many entries."""

Action = dict[str, Any]

EMPTY: State = {"adapters": {}, "log": 0}

_NAMES = ("medical", "legal", "code")
_ALIASES = ("production", "candidate")
_OWNERS = ("ada", "grace")


def choose(chance: random.Random, state: State, files: Sequence[tuple[str, str]]) -> Action:
    """Choose an action that a registry in this state can do.

    Args:
        chance: Where randomness comes from.
        state: The state.
        files: Path and digest of each file that may be added.
    """
    path, digest = chance.choice(files)
    names = sorted(state["adapters"])
    do = chance.choice(["add", "add", "alias", "tag", "yank"]) if names else "add"
    if do == "add":
        aliases = [chance.choice(_ALIASES)] if chance.random() < 0.5 else []
        owner = chance.choice([None, *_OWNERS])
        tags = {"run": str(chance.randrange(9))}
        name = chance.choice(_NAMES)
        return {
            "do": do,
            "name": name,
            "path": path,
            "digest": digest,
            "aliases": aliases,
            "tags": tags,
            "owner": owner,
        }
    name = chance.choice(names)
    number = chance.randrange(len(state["adapters"][name]["revisions"])) + 1
    if do == "alias":
        return {"do": do, "name": name, "alias": chance.choice(_ALIASES), "number": number}
    if do == "tag":
        return {"do": do, "name": name, "number": number, "tags": {chance.choice("ab"): str(chance.randrange(3))}}
    return {"do": do, "name": name, "number": number, "undo": chance.random() < 0.5}


def perform(registry: Registry, action: Action) -> None:
    """Do an action."""
    name, number = action["name"], action.get("number")
    if action["do"] == "add":
        registry.add(action["path"], name=name, aliases=action["aliases"], tags=action["tags"], owner=action["owner"])
    elif action["do"] == "alias":
        registry.alias(name, action["alias"], str(number))
    elif action["do"] == "tag":
        registry.tag(f"{name}@{number}", action["tags"])
    elif action["undo"]:
        registry.unyank(f"{name}@{number}")
    else:
        registry.yank(f"{name}@{number}", why="chance")


def after(state: State, action: Action) -> State:
    """Return the state after an action."""
    state = copy.deepcopy(state)
    fresh: dict[str, Any] = {"owner": None, "revisions": [], "aliases": {}}
    adapter = state["adapters"].setdefault(action["name"], fresh)
    number = action.get("number")
    if action["do"] == "add":
        number = _add(state, adapter, action)
    revision = adapter["revisions"][number - 1]
    new_tags = {**revision["tags"], **action.get("tags", {})}
    _change(state, revision, "tags", new_tags)
    for alias in [action["alias"]] if "alias" in action else action.get("aliases", []):
        _change(state, adapter["aliases"], alias, number)
    if action["do"] == "yank":
        _change(state, revision, "is_yanked", not action["undo"])
    return state


def _add(state: State, adapter: dict[str, Any], action: Action) -> int:
    digests = [revision["digest"] for revision in adapter["revisions"]]
    if action["digest"] not in digests:
        adapter["revisions"].append({"digest": action["digest"], "tags": action["tags"], "is_yanked": False})
        digests.append(action["digest"])
        state["log"] += 1
    if action["owner"] is not None:
        _change(state, adapter, "owner", action["owner"])
    return digests.index(action["digest"]) + 1


def _change(state: State, place: dict[str, Any], key: str, value: Any) -> None:
    state["log"] += place.get(key) != value
    place[key] = value


def snapshot(registry: Registry) -> State:
    """Return what a registry holds, and check that nothing in it is half.

    Raises:
        AssertionError: A row lacks its blob, its description, its predecessor or its words.
    """
    with registry.database.session() as session:
        found: State = {"adapters": {}, "log": session.scalar(select(func.count()).select_from(AuditRow))}
        for adapter in session.scalars(select(AdapterRow)):
            rows = session.execute(_revisions(adapter.id)).all()
            assert [row.number for row in rows] == list(range(1, adapter.newest + 1)), "numbers without a gap"
            found["adapters"][adapter.name] = {
                "owner": adapter.owner,
                "revisions": [_revision(session, row) for row in rows],
                "aliases": _aliases(session, adapter.id),
            }
        _check_artifacts(session, registry)
    return found


def _revisions(adapter_id: int) -> Any:
    columns = (RevisionRow.id, RevisionRow.number, RevisionRow.yanked_at, ArtifactRow.digest)
    statement = select(*columns).join(RevisionRow.artifact).where(RevisionRow.adapter_id == adapter_id)
    return statement.order_by(RevisionRow.number)


def _revision(session: Session, row: Row[Any]) -> dict[str, Any]:
    tags = session.execute(select(TagRow.key, TagRow.value).where(TagRow.revision_id == row.id))
    assert session.get(RevisionTextRow, row.id) is not None, "words of every revision"
    return {
        "digest": row.digest,
        "tags": {tag.key: tag.value for tag in tags},
        "is_yanked": row.yanked_at is not None,
    }


def _aliases(session: Session, adapter_id: int) -> dict[str, int]:
    statement = select(AliasRow.name, RevisionRow.number).join(RevisionRow, RevisionRow.id == AliasRow.revision_id)
    return {row.name: row.number for row in session.execute(statement.where(AliasRow.adapter_id == adapter_id))}


def _check_artifacts(session: Session, registry: Registry) -> None:
    entries = select(func.count()).where(EntryRow.artifact_id == ArtifactRow.id).correlate(ArtifactRow)
    columns = (ArtifactRow.digest, ArtifactRow.entry_count, entries.scalar_subquery().label("entries"))
    for row in session.execute(select(*columns)):
        digest = Digest.parse(row.digest)
        assert row.entry_count == row.entries, "a description in full"
        assert session.get(BlobRow, row.digest) is not None, "a blob's row"
        assert Digest.of_file(Path(registry.blobs.find(digest))) == digest, "a blob in full"
