"""A registry of its own for every test, and files to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import small_adapter
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.write import write
from ual_registry.registry.registry import Registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's folder, not made yet."""
    place = tmp_path / "home"
    monkeypatch.setenv("UAL_HOME", str(place))
    return place


@pytest.fixture
def registry(home: Path) -> Iterator[Registry]:
    """An empty registry."""
    found = Registry.open()
    yield found
    found.database.engine.dispose()


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
