"""Files to put into a registry; the registry itself comes from ``tests.engines``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.handmade import small_adapter
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry


class Files:
    """Makes AIR files whose bytes differ in their description."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def make(self, *, parents: tuple[tuple[str, str], ...] = (), **changes: Any) -> Path:
        """Write a small adapter; ``parents`` are (digest, relation)."""
        self._count += 1
        changes.setdefault("description", f"number {self._count}")
        if parents:
            changes["lineage"] = Lineage(parents=tuple(Parent(digest=d, relation=r) for d, r in parents))
        path = self._folder / f"{self._count}.air"
        write(small_adapter(**changes), path)
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Makes AIR files."""
    (tmp_path / "files").mkdir()
    return Files(tmp_path / "files")


@pytest.fixture
def statements(registry: Registry) -> Iterator[list[str]]:
    """The first word of every statement that is sent to the database."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(str(arguments[2]).split()[0])

    event.listen(registry.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(registry.database.engine, "before_cursor_execute", note)
