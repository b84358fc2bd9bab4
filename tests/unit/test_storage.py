"""Files appear whole or not at all, whatever the file system does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from tests.mounts import mounted
from ual_registry.air.write import write
from ual_registry.errors import StorageError
from ual_registry.interop.to_peft import to_peft
from ual_registry.storage import atomic_file, atomic_folder, check_target, is_file, is_folder, read_file

REPOSITORY = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with atomic_file(place, durable=True) as stream:
        stream.write(b"whole")
        assert not place.exists()
    assert place.read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"old")
    with atomic_file(place) as stream:
        stream.write(b"new")
        assert place.read_bytes() == b"old"
    assert place.read_bytes() == b"new"


def fail_halfway(place: Path) -> None:
    with atomic_file(place) as stream:
        stream.write(b"new")
        raise RuntimeError


def test_an_error_in_the_block_leaves_nothing_behind(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        fail_halfway(place)
    assert (names(tmp_path), place.read_bytes()) == (["a"], b"old")


def test_a_file_in_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    place = tmp_path / "none" / "a"
    with pytest.raises(StorageError) as caught, atomic_file(place):
        pass
    assert caught.value.message == f"cannot write {place}: No such file or directory"
    assert caught.value.context == {"path": str(place)}
    assert caught.value.hint == "check the path"


def test_a_file_cannot_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError) as caught, atomic_file(tmp_path / "a") as stream:
        stream.write(b"x")
    assert caught.value.message == f"cannot write {tmp_path / 'a'}: Is a directory"
    assert caught.value.hint == "give a file, not a folder"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("place", ["", ".", "..", "/", "a\0b"])
def test_a_place_without_a_name_of_its_own_is_refused(place: str) -> None:
    with pytest.raises(StorageError) as caught, atomic_file(Path(place)):
        pass
    assert caught.value.message == f"cannot write {Path(place)}: expected a name of its own"


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with atomic_folder(place) as inside:
        (inside / "x").write_text("1")
        assert not place.exists()
    assert (names(tmp_path), names(place)) == (["a"], ["x"])


@pytest.mark.parametrize("kind", ["folder", "file", "link to a folder", "link to nothing"])
def test_what_stands_in_the_place_of_a_folder_is_replaced_whole(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a"
    if kind == "folder":
        place.mkdir()
        (place / "old").write_text("1")
    elif kind == "file":
        place.write_text("1")
    else:
        place.symlink_to("../elsewhere")
    if kind == "link to a folder":
        (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
        (tmp_path.parent / "elsewhere" / "old").write_text("1")
    with atomic_folder(place) as inside:
        (inside / "new").write_text("2")
    assert (names(tmp_path), names(place), place.is_symlink()) == (["a"], ["new"], False)
    if kind == "link to a folder":
        assert names(tmp_path.parent / "elsewhere") == ["old"]


def test_an_error_in_a_folder_block_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (place / "old").write_text("1")
    with pytest.raises(StorageError) as caught, atomic_folder(place) as inside:
        (inside / "none" / "x").write_text("2")
    assert caught.value.message == f"cannot write {place}: No such file or directory"
    assert (names(tmp_path), names(place)) == (["a"], ["old"])


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.mkdir()
    (place / "old").write_text("1")
    with pytest.raises(StorageError), atomic_folder(place) as inside:
        inside.rmdir()  # the rename finds nothing to rename
    assert (names(tmp_path), names(place)) == (["a"], ["old"])


def test_a_folder_in_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    place = tmp_path / "none" / "a"
    with pytest.raises(StorageError) as caught, atomic_folder(place):
        pass
    assert caught.value.message == f"cannot write {place}: No such file or directory"


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    assert read_file(tmp_path / "a", limit_bytes=4) == b"1234"


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    with pytest.raises(StorageError) as caught:
        read_file(path, limit_bytes=3)
    assert caught.value.message == f"cannot read {path}: over the limit of 3 bytes"


def test_a_missing_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        read_file(tmp_path / "a", limit_bytes=3)
    assert caught.value.message == f"cannot read {tmp_path / 'a'}: No such file or directory"


def test_a_place_is_free_where_nothing_or_an_empty_folder_stands(tmp_path: Path) -> None:
    check_target(tmp_path / "none", force=False)
    check_target(tmp_path, force=False)


def test_a_place_in_a_missing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a"
    with pytest.raises(StorageError) as caught:
        check_target(path, force=True)
    assert caught.value.message == f"cannot write {path}: there is no folder {path.parent}"


def test_only_a_folder_of_ours_is_replaced_by_force(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(StorageError) as caught:
        check_target(tmp_path, force=True, replaceable="mark")
    assert caught.value.problem_code == "exists"
    assert caught.value.message == f"cannot replace {tmp_path}: it is a folder with other things in it"
    (tmp_path / "mark").write_text("")
    check_target(tmp_path, force=True, replaceable="mark")
    check_target(tmp_path / "mark", force=True)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
        (path / "x").write_text("")
    else:
        path.write_text("")
    with pytest.raises(StorageError) as caught:
        check_target(path, force=False)
    assert caught.value.problem_code == "exists"
    assert caught.value.message == f"cannot write {path}: it exists already"
    assert caught.value.hint == "choose another name, or pass --force to replace it"


@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_looked_at_is_a_storage_error(tmp_path: Path, force: bool) -> None:
    long = tmp_path / ("n" * 300)
    looks: list[tuple[Path, Callable[[], object]]] = [
        (long, lambda: check_target(long, force=force)),
        (long, lambda: check_target(long / "a", force=force)),
        (long, lambda: is_file(long)),
        (long / "a", lambda: is_folder(long / "a")),
    ]
    for path, look in looks:
        with pytest.raises(StorageError) as caught:
            look()
        assert caught.value.message == f"cannot read {path}: File name too long"


def test_what_is_there_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to("a")
    found = [(is_file(tmp_path / name), is_folder(tmp_path / name)) for name in ("a", "b", "none", "a/b", ".", "\0")]
    assert found == [(True, False), (True, False), (False, False), (False, False), (False, True), (False, False)]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.unit.test_storage import write_something
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_something(sys.argv[1], Path(sys.argv[2]))
"""


def write_something(what: str, place: Path) -> None:
    """Write more than 4096 bytes as a file or a folder, and print the error that comes of it."""
    adapter = small_adapter(description="x" * 8000)
    try:
        write(adapter, place) if what == "air" else to_peft(large_peft(), place)
    except StorageError as error:
        print(error.message.partition(": ")[2])


def large_peft():
    """Return a one-module adapter of more than 4096 bytes that a PEFT folder can hold."""
    from dataclasses import replace

    from tests.handmade import floats
    from ual_registry.air.adapter import Adapter

    adapter = small_adapter(extra=(), features=())
    entry = replace(adapter.entries[2], rank=300)
    tensors = {entry.lora_A: floats(300, 4), entry.lora_B: floats(6, 300)}
    return Adapter(replace(adapter.manifest, entries=(entry,)), tensors)


@pytest.mark.parametrize("what", ["air", "peft"])
def test_a_file_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, what: str) -> None:
    """The kernel refuses bytes after a limit on the size of files, as a full disk does."""
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, what, str(tmp_path / "out")],
        cwd=REPOSITORY,
        env={**os.environ, "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("File too large\n", "")
    assert names(tmp_path) == []


@pytest.mark.parametrize("refusal", [None, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV])
@pytest.mark.parametrize("size_bytes", [0, 5, 1 << 20, 3 << 20])
def test_a_file_holds_what_is_written_whether_or_not_room_can_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int, refusal: int | None
) -> None:
    asked = []

    def take(descriptor: int, offset: int, length: int) -> None:
        asked.append((offset, length))
        if refusal is not None:
            raise OSError(refusal, os.strerror(refusal))
        os.truncate(descriptor, length)

    monkeypatch.setattr(os, "posix_fallocate", take, raising=False)
    with atomic_file(tmp_path / "a", size_bytes=size_bytes) as stream:
        stream.write(bytes(range(1, 101)) * (size_bytes // 100) + b"x" * (size_bytes % 100))
    assert (tmp_path / "a").read_bytes() == bytes(range(1, 101)) * (size_bytes // 100) + b"x" * (size_bytes % 100)
    assert asked == ([(0, size_bytes)] if size_bytes >= 1 << 20 else [])


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file system of 16 pages in memory, mounted for this test where the machine allows it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", disk):
        with pytest.raises(StorageError) as caught, atomic_file(disk / "a") as stream:
            stream.write(bytes(64 * 4096))
        assert caught.value.message == f"cannot write {disk / 'a'}: No space left on device"
        assert names(disk) == []
        with pytest.raises(StorageError) as caught, atomic_file(disk / "a", size_bytes=1 << 20):
            pytest.fail("room is taken before any work is done")
        assert caught.value.message == f"cannot write {disk / 'a'}: No space left on device"
        assert names(disk) == []
        with pytest.raises(StorageError), atomic_folder(disk / "b") as inside:
            (inside / "x").write_bytes(bytes(1 << 20))
        assert names(disk) == []

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for attempt in (atomic_file, atomic_folder):
            with pytest.raises(StorageError) as caught, attempt(disk / "c"):
                pass
            assert caught.value.message == f"cannot write {disk / 'c'}: Read-only file system"
        assert names(disk) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop the superuser")
def test_a_folder_without_write_permission_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError) as caught, atomic_file(tmp_path / "a"):
        pass
    tmp_path.chmod(0o700)
    assert caught.value.hint == "check the permissions of the file and its folder"
