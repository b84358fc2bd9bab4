"""In which order a file comes to the disk: bytes, their place, and only then the rows that speak of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, RegistryNotFoundError
from ual_registry.registry import adding, importing
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.files import Hold
from ual_registry.registry.registry import Registry


@pytest.fixture
def made(files: Files) -> list[Path]:
    """Files to add."""
    return [files.make() for _ in range(5)]


@pytest.fixture
def events(registry: Registry, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is flushed, renamed and committed, in order; files are told by where they are, not by their names."""
    assert made  # these were flushed before
    found: list[str] = []
    flush, replace = os.fsync, Path.replace
    root = registry.blobs.root

    def shown(path: Path) -> str:
        place = path.relative_to(root)
        return (".", f"{place}", f"{place.parent}/*", "sha256/*/*")[len(place.parts)]

    def flushed(descriptor: int) -> None:
        found.append(f"flush {shown(Path(f'/proc/self/fd/{descriptor}').readlink())}")
        flush(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        found.append(f"rename {shown(path)} to {shown(Path(target))}")
        return replace(path, target)

    def committed(_: object) -> None:
        found.append("commit")

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    event.listen(registry.database.engine, "commit", committed)
    yield found
    event.remove(registry.database.engine, "commit", committed)


FILE = ["flush staging/*", "rename staging/* to sha256/*/*"]


def test_the_rows_come_when_bytes_and_place_are_on_the_disk(
    registry: Registry, made: list[Path], events: list[str]
) -> None:
    registry.add(made[0], name="a", aliases=["good"])
    # The blob's folder, the one that it was made in, and that of the store, which is new as well.
    assert events[:2] == FILE
    assert sorted(events[2:-1]) == ["flush .", "flush sha256", "flush sha256/*"]
    assert events[-1] == "commit"
    events.clear()

    registry.add(made[0], name="a")
    assert events[:2] == FILE
    assert sorted(events[2:-1]) == ["flush sha256", "flush sha256/*"]
    assert events[-1] == "commit"


def test_the_rows_of_many_come_when_all_of_them_are_on_the_disk(
    registry: Registry, made: list[Path], events: list[str]
) -> None:
    jobs = [(path, AddOrder(name=f"a{number}")) for number, path in enumerate(made)]
    assert all(outcome.result is not None for outcome in registry.add_many(jobs))
    last_rename = max(place for place, word in enumerate(events) if word.startswith("rename"))
    assert (events.count(FILE[0]), events.count(FILE[1])) == (5, 5)
    assert set(events[last_rename + 1 : -1]) == {"flush sha256/*", "flush sha256", "flush ."}
    assert (events.count("commit"), events[-1]) == (1, "commit")


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks: a collection of garbage takes what another process has just put there."""

    def collected(holds: Iterable[Hold]) -> None:
        for hold in holds:
            Path(f"/proc/self/fd/{hold._stream.fileno()}").readlink().unlink(missing_ok=True)

    monkeypatch.setattr(adding, "flush_folders", collected)


@pytest.mark.usefixtures("no_locks")
def test_bytes_that_are_gone_before_their_rows_are_written_have_none(registry: Registry, files: Files) -> None:
    path = files.make()
    with pytest.raises(RegistryNotFoundError, match="does not hold it"):
        registry.add(path, name="a")
    (outcome,) = registry.add_many([(path, AddOrder(name="a"))])
    assert isinstance(outcome.error, RegistryNotFoundError)
    assert (list(registry.list()), list(registry.log()), registry.fsck().faults) == ([], [], ())


def test_bytes_that_are_gone_before_an_import_writes_their_rows_have_none(
    registry: Registry, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest.parse(registry.add(files.make(), name="a").digest)
    registry.export(tmp_path / "out")
    other = Registry.open(tmp_path / "other")
    genuine = importing.transact

    def collected(*arguments: Any) -> Any:
        other.blobs.place(digest).unlink()
        return genuine(*arguments)

    monkeypatch.setattr(importing, "transact", collected)
    with pytest.raises(RegistryNotFoundError, match="does not hold it"):
        other.import_(tmp_path / "out")
    assert (list(other.list()), other.fsck().faults) == ([], ())
    other.database.engine.dispose()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_blob_of_another_size_is_refused_by_its_size(
    registry: Registry, files: Files, tmp_path: Path, change: int
) -> None:
    path = files.make()
    registry.add(path, name="a")
    place, size = registry.find("a"), path.stat().st_size
    os.truncate(place, size + change)
    with pytest.raises(DigestMismatchError) as caught:
        registry.get("a", tmp_path / "out.air")
    assert caught.value.message == f"{place}: stored bytes have {size + change} bytes, expected {size}"
    assert not (tmp_path / "out.air").exists()
