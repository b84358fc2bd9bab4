"""A file in a private folder of the store becomes a blob where it lies: checked, flushed and renamed, not copied."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.registry.conftest import Files
from ual_registry.air.read import open_legal
from ual_registry.digest import Digest
from ual_registry.errors import FormatError, StorageError
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.files import own_file
from ual_registry.registry.intake import take_in
from ual_registry.registry.registry import Registry


def moved(registry: Registry, path: Path, name: str = "med") -> Digest:
    (outcome,) = registry.add_many([(path, AddOrder(name=name, is_moved=True))])
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return Digest.parse(outcome.result.digest)


def test_the_file_itself_becomes_the_blob(registry: Registry, files: Files) -> None:
    made = files.make()
    with registry.blobs.private_folder() as folder:
        path = folder / "adapter.air"
        shutil.copy(made, path)
        inode = path.stat().st_ino
        digest = moved(registry, path)
        assert list(folder.iterdir()) == []
    assert digest == Digest.of_file(made)
    place = registry.blobs.find(digest)
    assert (place.stat().st_ino, place.read_bytes()) == (inode, made.read_bytes())
    assert list(registry.blobs.walk_staging()) == []
    assert registry.resolve("med@1") == digest


def test_what_was_looked_at_before_is_not_read_again(registry: Registry, files: Files) -> None:
    known = Digest("ab" * 32)  # not that of its bytes, which nobody looks at
    with registry.blobs.private_folder() as folder:
        path = folder / "adapter.air"
        shutil.copy(files.make(), path)
        found = open_legal(path)
        intake = replace(take_in(found, None), digest=known)
        found.source.close()
        (outcome,) = registry.add_many([(path, AddOrder(name="med", is_moved=True, intake=intake))])
    assert outcome.result is not None
    assert (outcome.result.digest, list(registry.blobs.walk())) == (str(known), [known])


def test_the_same_bytes_twice_are_one_blob(registry: Registry, files: Files) -> None:
    made = files.make()
    registry.add(made, name="first")
    with registry.blobs.private_folder() as folder:
        shutil.copy(made, folder / "adapter.air")
        digest = moved(registry, folder / "adapter.air", "second")
    assert list(registry.blobs.walk()) == [digest]
    assert registry.resolve("first") == registry.resolve("second") == digest


def test_a_file_that_is_not_legal_is_gone_and_no_blob(registry: Registry, files: Files) -> None:
    data = bytearray(files.make().read_bytes())
    data[-1] ^= 1
    with registry.blobs.private_folder() as folder:
        path = folder / "adapter.air"
        path.write_bytes(data)
        with pytest.raises(FormatError) as caught:
            moved(registry, path)
        assert caught.value.problem_code == "tensor-digest"
        assert list(folder.iterdir()) == []
    assert list(registry.blobs.walk()) == []


def test_a_file_that_another_holds_is_left_alone(registry: Registry, files: Files) -> None:
    with registry.blobs.private_folder() as folder:
        path = folder / "adapter.air"
        shutil.copy(files.make(), path)
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with pytest.raises(StorageError) as caught:
                moved(registry, path)
            assert caught.value.message == f"cannot take {path}: another process holds it"
        assert path.is_file()
    assert list(registry.blobs.walk()) == []


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, own_file(tmp_path / "none"):
        pass
    assert caught.value.message == f"cannot read {tmp_path / 'none'}: No such file or directory"
