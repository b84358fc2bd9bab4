"""What differs between two manifests, field by field, each with its JSON path.

Entries are paired by stack, layer, role and expert, extra tensors by their names; the digests that a manifest holds
follow from the rest and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ual_registry.air.codec import encode
from ual_registry.air.model import Entry, Manifest

__all__ = ["Change", "ChangeKind", "changes_of", "only_entries"]

_DERIVED = ("tensor_digest", "manifest_digest")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class ChangeKind(StrEnum):
    """What became of a field on the way from the first manifest to the second."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs.

    Attributes:
        kind: Whether the field was added, removed or changed.
        path: Where it stands, such as ``manifest.entries[3].rank``; in the second manifest where it was added, else in
            the first.
        before: Its value in the first manifest; ``None`` where it was added.
        after: Its value in the second one; ``None`` where it was removed.
    """

    kind: ChangeKind
    path: str
    before: Any = None
    after: Any = None


def changes_of(first: Manifest, second: Manifest) -> tuple[Change, ...]:
    """Return every field that differs, in the order of the paths' fields.

    Entries that only one of the manifests has are left to ``only_entries``.
    """
    before, after = (_without_entries(manifest) for manifest in (first, second))
    found = list(_object_changes("manifest", before, after))
    places = {entry.key: entry for entry in second.entries}
    for index, entry in enumerate(first.entries):
        if entry.key in places:
            path = f"manifest.entries[{index}]"
            found += _object_changes(path, encode(entry), encode(places[entry.key]))
    return tuple(found)


def only_entries(first: Manifest, second: Manifest) -> tuple[Entry, ...]:
    """Return the entries of the first manifest whose stack, layer, role and expert the second one does not have."""
    held = {entry.key for entry in second.entries}
    return tuple(entry for entry in first.entries if entry.key not in held)


def _without_entries(manifest: Manifest) -> dict[str, Any]:
    document = {key: value for key, value in encode(manifest).items() if key not in ("entries", *_DERIVED)}
    # Keyed by name, an extra tensor that was added moves no other.
    return {**document, "extra": {extra.name: extra.tensor for extra in manifest.extra}}


def _changes(path: str, before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _object_changes(path, before, after)
    elif _is_list(before) and _is_list(after):
        yield from _list_changes(path, before, after)
    elif not _is_same(before, after):
        yield Change(kind=ChangeKind.CHANGED, path=path, before=before, after=after)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_same(before: Any, after: Any) -> bool:
    """Compare as JSON does: ``true`` is no number, and 1.0 is 1."""
    return before == after and isinstance(before, bool) == isinstance(after, bool)


def _object_changes(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in (*before, *(key for key in after if key not in before)):
        place = f"{path}.{key}" if _PLAIN_KEY.match(key) else f"{path}[{key!r}]"
        if key not in after:
            yield Change(kind=ChangeKind.REMOVED, path=place, before=before[key])
        elif key not in before:
            yield Change(kind=ChangeKind.ADDED, path=place, after=after[key])
        else:
            yield from _changes(place, before[key], after[key])


def _list_changes(path: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    shared = min(len(before), len(after))
    for index in range(shared):
        yield from _changes(f"{path}[{index}]", before[index], after[index])
    for index in range(shared, len(before)):
        yield Change(kind=ChangeKind.REMOVED, path=f"{path}[{index}]", before=before[index])
    for index in range(shared, len(after)):
        yield Change(kind=ChangeKind.ADDED, path=f"{path}[{index}]", after=after[index])
