"""Keep adapters: what the command line does with the registry, one function per verb."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ual_registry.digest import Digest
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.peft_config import CONFIG_FILE
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.records import (
    AdapterEdit,
    AddOutcome,
    AddResult,
    AliasMove,
    LogEntry,
    TagChange,
    YankResult,
)
from ual_registry.registry.registry import DEFAULT_LIMIT, LINEAGE_LIMIT, Registry
from ual_registry.registry.views import AdapterRecord, LineageGraph, Page, RevisionRecord
from ual_registry.storage import check_target, is_folder
from ual_registry.workflows.references import refuse_hub

__all__ = [
    "add",
    "add_many",
    "alias",
    "describe",
    "get",
    "lineage",
    "list_adapters",
    "log",
    "search",
    "tag",
    "unalias",
    "unyank",
    "yank",
]


def add(
    path: str | Path,
    *,
    name: str,
    aliases: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    owner: str | None = None,
    description: str | None = None,
) -> AddResult:
    """Add an AIR file as the next revision of an adapter; see ``Registry.add``.

    Raises:
        ForeignFormatError: ``path`` is a folder.
        HubError: It is an address of the Hub.
        UALError: As ``Registry.add``.
    """
    refuse_hub(str(path))
    if is_folder(Path(path)):
        raise _is_folder(path)
    return Registry.open().add(path, name=name, aliases=aliases, tags=tags, owner=owner, description=description)


def add_many(files: Sequence[str | Path], order: AddOrder, *, name_from: str) -> Iterator[AddOutcome]:
    """Add many AIR files, each under a name of its own; see ``Registry.add_many``.

    Args:
        files: The files, such as ``find_files`` returns them.
        order: What they are added as; its name does not count.
        name_from: ``file`` takes the file's name without its ending, ``manifest`` the name in its manifest.

    Yields:
        What became of each: folders first, the files in their order, each once it is there to stay.

    Raises:
        UALError: The registry cannot be used at all, or a name of the order is not allowed.
    """
    dataclasses.replace(order, name=None).check()
    # What cannot be looked at is told of like any other file that cannot be read, and stops no other.
    folders = [path for path in files if os.path.isdir(path)]  # noqa: PTH112
    yield from (AddOutcome(path=str(path), error=_is_folder(path)) for path in folders)
    named = ((path, _named(path, order, name_from)) for path in files if path not in folders)
    yield from Registry.open().add_many(named)


def _named(path: str | Path, order: AddOrder, name_from: str) -> AddOrder:
    return dataclasses.replace(order, name=Path(path).stem if name_from == "file" else None)


def _is_folder(path: str | Path) -> ForeignFormatError:
    if (Path(path) / CONFIG_FILE).is_file():
        hint = f"a PEFT folder becomes an AIR file by 'ual convert {path} FILE.air --base BASE'"
    elif next(Path(path).rglob("*.air"), None) is not None:
        hint = "the AIR files in it are added by --name-from file, or --name-from manifest"
    else:
        hint = "it holds no file whose name ends in .air"
    return ForeignFormatError(f"{path}: is a folder, expected an AIR file", code="folder", hint=hint)


def get(reference: str, target: str | Path, *, force: bool = False) -> Digest:
    """Copy the exact bytes of a revision to a file; see ``Registry.get``.

    Raises:
        StorageError: Something stands at ``target`` and ``force`` is off, or the file system refuses.
        HubError: The reference is an address of the Hub.
        UALError: As ``Registry.get``.
    """
    refuse_hub(reference)
    check_target(Path(target), force=force)
    return Registry.open().get(reference, target)


def list_adapters(
    *,
    owner: str | None = None,
    config_digest: str | None = None,
    order: str = "name",
    limit: int = DEFAULT_LIMIT,
    after: str | None = None,
) -> Page[AdapterRecord]:
    """Return adapters with their newest revision; see ``Registry.list``."""
    return Registry.open().list(owner=owner, config_digest=config_digest, order=order, limit=limit, after=after)


def search(query: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[RevisionRecord]:
    """Return the revisions that a query holds for; see ``Registry.search``."""
    return Registry.open().search(query, limit=limit, after=after)


def lineage(
    reference: str,
    *,
    up: bool = True,
    down: bool = True,
    depth: int | None = None,
    relations: Sequence[str] = (),
    limit: int | None = LINEAGE_LIMIT,
) -> LineageGraph:
    """Return ancestors and descendants; see ``Registry.lineage``."""
    return Registry.open().lineage(reference, up=up, down=down, depth=depth, relations=relations, limit=limit)


def alias(
    name: str,
    alias_name: str,
    revision: str | None = None,
    *,
    expected: int | None = None,
    protect: bool | None = None,
    force: bool = False,
    why: str | None = None,
) -> AliasMove:
    """Point an alias at a revision, protect it, or free it; see ``Registry.alias``."""
    return Registry.open().alias(name, alias_name, revision, expected=expected, protect=protect, force=force, why=why)


def unalias(
    name: str, alias_name: str, *, expected: int | None = None, force: bool = False, why: str | None = None
) -> AliasMove:
    """Delete an alias; see ``Registry.unalias``."""
    return Registry.open().unalias(name, alias_name, expected=expected, force=force, why=why)


def tag(reference: str, tags: Mapping[str, str] | None = None, *, remove: Sequence[str] = ()) -> TagChange:
    """Set and remove tags of a revision; see ``Registry.tag``."""
    return Registry.open().tag(reference, tags, remove=remove)


def yank(reference: str, *, why: str) -> YankResult:
    """Hide a revision from lists and searches; see ``Registry.yank``."""
    return Registry.open().yank(reference, why=why)


def unyank(reference: str) -> YankResult:
    """Show a revision again; see ``Registry.unyank``."""
    return Registry.open().unyank(reference)


def describe(name: str, *, owner: str | None = None, description: str | None = None) -> AdapterEdit:
    """Say who answers for an adapter and what it is for; see ``Registry.describe``."""
    return Registry.open().describe(name, owner=owner, description=description)


def log(reference: str | None = None, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[LogEntry]:
    """Return what was done, newest first; see ``Registry.log``."""
    return Registry.open().log(reference, limit=limit, after=after)
