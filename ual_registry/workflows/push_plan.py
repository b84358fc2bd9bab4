"""What a push changes: the files and the card that a repository shall hold, beside what it holds at a commit."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ual_registry.errors import HubError
from ual_registry.hub.card import BEGIN, END, make_card
from ual_registry.hub.changes import Change, Content, FileChange, compare
from ual_registry.hub.client import Hub
from ual_registry.hub.model import HubFile, Snapshot
from ual_registry.workflows.push_material import PEFT_FILES, PICTURE_FILE, Material

__all__ = ["CARD_FILE", "Plan", "make_plan"]

CARD_FILE = "README.md"
_CARD_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a repository shall hold of what a push is about.

    Attributes:
        contents: Its files.
        removed: Paths that shall be gone.
        files: What becomes of every one of them, by path.
        card_diff: The change of the card as a unified diff; empty where it stays as it is.
    """

    contents: tuple[Content, ...]
    removed: tuple[str, ...]
    files: tuple[FileChange, ...]
    card_diff: str

    @property
    def changes_nothing(self) -> bool:
        """Whether the repository holds all of it already."""
        return all(file.change is Change.UNCHANGED for file in self.files)


def make_plan(hub: Hub, repository: str, material: Material, snapshot: Snapshot | None) -> Plan:
    """Compare what shall be pushed with what a branch holds; its card is read, nothing else.

    Args:
        hub: The Hub.
        repository: The repository.
        material: What shall be pushed.
        snapshot: What the branch holds; ``None`` where it is not there.

    Raises:
        HubError: The card that is there cannot be read (``hub-card`` where it is no text).
        StorageError: A file cannot be read.
    """
    files = snapshot.files if snapshot else {}
    removed = _outdated(material, files)
    held = material.paths | (files.keys() - set(removed))
    old = _cards(hub, material, snapshot)
    new = {path: _new_card(repository, material, held, path, existing) for path, existing in old.items()}
    written = (Content.of_bytes(path, text.encode()) for path, text in new.items())
    contents = (material.air, *material.others, *written)
    return Plan(
        contents=contents,
        removed=removed,
        files=compare(contents, files, removed=removed),
        card_diff="\n".join(filter(None, (_diff(path, old[path], new[path]) for path in new))),
    )


def _cards(hub: Hub, material: Material, snapshot: Snapshot | None) -> dict[str, str | None]:
    """Return the cards of this adapter as they are: in its folder, and the repository's page where that is its own.

    The page of a repository with several adapters belongs to the first of them, or to what people wrote.
    """
    own = material.prefix + CARD_FILE
    found = {
        path: None if snapshot is None else _read_card(hub, snapshot, path) for path in dict.fromkeys((own, CARD_FILE))
    }
    page = found[CARD_FILE]
    if own != CARD_FILE and page is not None and material.air.path not in page:
        del found[CARD_FILE]
    return found


def _new_card(repository: str, material: Material, held: Collection[str], path: str, existing: str | None) -> str:
    picture = material.prefix + PICTURE_FILE
    card = make_card(
        material.manifest,
        air_path=material.air.path,
        digest=str(material.digest),
        has_peft=all(material.prefix + name in held for name in PEFT_FILES),
        picture=picture if picture in held else None,
        existing=existing,
        repository=repository,
    )
    return card if path == CARD_FILE else _from_folder(card, material.prefix)


def _from_folder(card: str, prefix: str) -> str:
    """Let the links of a card in a folder count from there; in the part that is made, what people wrote stays."""
    before, begin, rest = card.partition(BEGIN)
    made, end, after = rest.partition(END)
    return f"{before}{begin}{made.replace(f']({prefix}', '](')}{end}{after}"


def _outdated(material: Material, files: Mapping[str, HubFile]) -> tuple[str, ...]:
    """Return what came with an AIR file that is replaced, and is not itself: it would contradict the new one."""
    if material.air.path not in files or material.air.is_same_as(files[material.air.path]):
        return ()
    names = (material.prefix + name for name in (*PEFT_FILES, PICTURE_FILE))
    return tuple(path for path in names if path in files and path not in material.paths)


def _read_card(hub: Hub, snapshot: Snapshot, path: str) -> str | None:
    file = snapshot.files.get(path)
    if file is None:
        return None
    try:
        return hub.read_small(snapshot, file, limit_bytes=_CARD_LIMIT_BYTES).decode()
    except UnicodeDecodeError as error:
        raise HubError(
            f"{snapshot.repository}: {path} is no text in UTF-8, at byte {error.start}",
            code="hub-card",
            context={"repository": snapshot.repository, "commit": snapshot.commit, "path": path},
            hint="mend it on the Hub first; what was written there by hand is kept, so it must be readable",
        ) from error


def _diff(path: str, existing: str | None, card: str) -> str:
    before = "/dev/null" if existing is None else f"a/{path}"
    lines = difflib.unified_diff(_lines(existing or ""), _lines(card), before, f"b/{path}", lineterm="")
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    return text.split("\n")[: -1 if text.endswith("\n") else None] if text else []
