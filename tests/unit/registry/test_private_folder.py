"""A private folder in staging is held while it is used, gone afterwards, and swept where its owner died."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.registry.test_gc import DAY, make_old
from ual_registry.errors import StorageError
from ual_registry.registry import files as file_handling
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.files import sweep_folders
from ual_registry.registry.maintenance import Garbage
from ual_registry.registry.registry import Registry

NOW = datetime.timedelta(0)

HOLDER = """
import sys
from pathlib import Path
from ual_registry.registry.blobs import BlobStore
with BlobStore(Path(sys.argv[1])).private_folder() as folder:
    (folder / "half").write_bytes(b"half a file")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "store")


def left_behind(store: BlobStore) -> Path:
    """Return the folder of a process that was killed."""
    with hold(store) as process:
        path = folder_of(process)
        process.kill()
    return path


def folder_of(process: subprocess.Popen[str]) -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def hold(store: BlobStore) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_private_folder_is_for_its_owner_alone_and_gone_afterwards(store: BlobStore) -> None:
    with store.private_folder() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_bytes(b"x")
        assert (folder.parent, folder.stat().st_mode & 0o777) == (store.staging, 0o700)
    assert list(store.walk_staging()) == []


def test_a_private_folder_is_gone_when_its_block_fails(store: BlobStore) -> None:
    with pytest.raises(FileNotFoundError), store.private_folder() as folder:
        (folder / "none" / "file").write_bytes(b"x")
    assert list(store.walk_staging()) == []


def test_the_next_one_sweeps_what_a_killed_process_left(store: BlobStore) -> None:
    stray = left_behind(store)
    assert [path.name for path in stray.iterdir()] == ["half"]
    (store.staging / "file").write_bytes(b"a staged blob is left to gc")
    with store.private_folder() as folder:
        assert list(store.walk_staging()) == sorted([folder, store.staging / "file"])


def test_the_folder_of_a_living_process_stays(store: BlobStore) -> None:
    with hold(store) as process:
        living = folder_of(process)
        with store.private_folder() as folder:
            assert list(store.walk_staging()) == sorted([folder, living])
        process.communicate("")
    assert list(store.walk_staging()) == []


def test_nothing_is_swept_where_locks_keep_nobody_out(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = left_behind(store)
    monkeypatch.setattr(file_handling, "_lock", lambda _: True)
    with store.private_folder() as folder:
        assert list(store.walk_staging()) == sorted([folder, stray])


def test_a_link_to_a_folder_is_none_of_ours(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"x")
    with store.private_folder() as folder:
        (store.staging / "link").symlink_to(tmp_path / "elsewhere")
        sweep_folders(folder)
    assert [path.name for path in store.walk_staging()] == ["link"]
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"x"


def test_a_folder_that_was_collected_before_it_was_locked_is_given_up_for_another(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True, False])  # another has it; nobody has the next one; one's own lock is seen
    monkeypatch.setattr(file_handling, "_lock", lambda _: next(answers))
    with store.private_folder() as folder:
        assert list(store.walk_staging()) == [folder]


def test_a_store_that_cannot_be_written_is_told(store: BlobStore) -> None:
    store.root.write_bytes(b"a file")
    with pytest.raises(StorageError) as caught, store.private_folder():
        pass
    assert caught.value.message == f"cannot write {store.staging}: Not a directory"


def test_garbage_collection_deletes_stray_folders_that_are_old_enough(registry: Registry) -> None:
    stray = left_behind(registry.blobs)
    (stray / "deeper").mkdir()
    (stray / "deeper" / "rest").write_bytes(b"12345")
    found = Garbage(kind="staged", path=str(stray), size_bytes=16)
    assert registry.gc().garbage == ()
    make_old(stray, 2 * DAY)
    assert registry.gc().garbage == (found,)
    assert stray.is_dir()
    assert registry.gc(apply=True).garbage == (found,)
    assert list(registry.blobs.walk_staging()) == []


def test_garbage_collection_leaves_a_folder_that_is_in_use(registry: Registry) -> None:
    with registry.blobs.private_folder() as folder:
        os.utime(folder, (0, 0))
        assert registry.gc(grace=NOW, apply=True).garbage == ()
        assert folder.is_dir()
