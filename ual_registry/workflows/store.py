"""Keep adapters: what the command line does with the registry, one function per verb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ual_registry.digest import Digest
from ual_registry.errors import ForeignFormatError
from ual_registry.registry.records import AdapterRecord, AddResult, AliasMove, LineageGraph, RevisionRecord
from ual_registry.registry.registry import DEFAULT_LIMIT, Registry
from ual_registry.storage import check_target

__all__ = ["add", "alias", "get", "lineage", "list_adapters", "search"]


def add(path: str | Path, *, name: str, aliases: Sequence[str] = ()) -> AddResult:
    """Add an AIR file as the next revision of an adapter; see ``Registry.add``.

    Raises:
        ForeignFormatError: ``path`` is a folder.
        UALError: As ``Registry.add``.
    """
    if Path(path).is_dir():
        raise ForeignFormatError(
            f"{path}: is a folder, expected an AIR file",
            code="folder",
            hint=f"a PEFT folder becomes an AIR file by 'ual convert {path} FILE.air --base BASE'",
        )
    return Registry.open().add(path, name=name, aliases=aliases)


def get(reference: str, target: str | Path, *, force: bool = False) -> Digest:
    """Copy the exact bytes of a revision to a file; see ``Registry.get``.

    Raises:
        StorageError: Something stands at ``target`` and ``force`` is off, or the file system refuses.
        UALError: As ``Registry.get``.
    """
    check_target(Path(target), force=force)
    return Registry.open().get(reference, target)


def list_adapters() -> tuple[AdapterRecord, ...]:
    """Return every adapter with its newest revision; see ``Registry.list``."""
    return Registry.open().list()


def search(query: str, *, limit: int = DEFAULT_LIMIT) -> tuple[RevisionRecord, ...]:
    """Return the revisions that a query holds for; see ``Registry.search``."""
    return Registry.open().search(query, limit=limit)


def lineage(reference: str, *, up: bool = True, down: bool = True) -> LineageGraph:
    """Return ancestors and descendants; see ``Registry.lineage``."""
    return Registry.open().lineage(reference, up=up, down=down)


def alias(name: str, alias_name: str, revision: str, *, expected: int | None = None) -> AliasMove:
    """Point an alias at a revision; see ``Registry.alias``."""
    return Registry.open().alias(name, alias_name, revision, expected=expected)
