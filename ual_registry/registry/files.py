"""Files of the blob store: made locked, flushed to the disk, and looked at without waiting for whoever holds them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ual_registry.errors import StorageError

__all__ = [
    "Hold",
    "check_outside",
    "entries",
    "flush_folders",
    "lock_unused",
    "make_folder",
    "make_for_blob",
    "new_file",
    "new_folder",
    "own_file",
    "remove",
    "size_of",
    "sweep_folders",
]

_FLUSHES = 8
"""How many folders are flushed side by side."""


class Hold:
    """Keeps a blob from being deleted as long as it is not released; a process that ends releases all of its own.

    Args:
        stream: The open, locked file.
        changed: The folders that have a new entry by it.
    """

    def __init__(self, stream: BinaryIO, *, changed: Sequence[Path] = ()) -> None:
        self._stream = stream
        self.changed = changed

    def release(self) -> None:
        """Let go of the blob; its row is there by now, or will never be."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StorageError: The file system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", folder, error) from error


def make_for_blob(folder: Path) -> tuple[Path, ...]:
    """Make a folder for blobs and those above it where they are missing.

    Returns:
        The folders to flush, so that no power cut undoes an entry: the one above, too, which another process may have
        changed a moment ago.
    """
    is_new = not folder.parent.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return (folder, folder.parent, *[folder.parent.parent] * is_new)


@contextlib.contextmanager
def new_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file for writing, locked and under a random name; it is gone after the block unless it was renamed.

    Raises:
        StorageError: The file system refuses.
    """
    make_folder(folder)
    path, stream = _locked_file(folder)
    try:
        yield path, stream
    finally:
        with contextlib.suppress(OSError):  # whoever kept it has flushed it; on a full disk closing fails once more
            stream.close()
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def own_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open and lock a file in a folder of one's own; it is gone after the block unless it was renamed.

    Raises:
        StorageError: The file system refuses, or somebody else holds the file.
    """
    try:
        stream = path.open("r+b")
    except OSError as error:
        raise StorageError.of("read", path, error) from error
    with stream:
        if not _lock(stream.fileno()):
            raise StorageError(f"cannot take {path}: another process holds it", context={"path": str(path)})
        try:
            yield path, stream
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _locked_file(folder: Path) -> tuple[Path, BinaryIO]:
    """Make a file and lock it; one that a collection of garbage found in between is given up for another."""
    while True:
        path = folder / secrets.token_hex(12)
        try:
            stream = path.open("xb")
        except OSError as error:
            raise StorageError.of("write", path, error) from error
        if _lock(stream.fileno()) and _is_at(path, stream.fileno()):
            return path, stream
        stream.close()
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Make a new folder, locked and under a random name; it is gone after the block with everything in it.

    Raises:
        StorageError: The file system refuses.
    """
    make_folder(parent)
    path, descriptor = _locked_folder(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it; one that a collection of garbage found in between is given up for another."""
    while True:
        path = parent / secrets.token_hex(12)
        try:
            path.mkdir(mode=0o700)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # it was collected already
        except OSError as error:
            raise StorageError.of("write", path, error) from error
        if _lock(descriptor) and _is_at(path, descriptor):
            return path, descriptor
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.rmdir()


def sweep_folders(own: Path) -> None:
    """Delete the folders that interrupted commands left beside one's own; where locks do not work, none is touched.

    Raises:
        StorageError: The file system refuses.
    """
    with lock_unused(own, folders=True) as state:
        if state is not None:
            return  # one's own lock keeps nobody out here, so that of others would not either
    for path in entries(own.parent):
        if path != own and path.is_dir() and not path.is_symlink():
            with lock_unused(path, folders=True) as state:
                if state is not None:
                    remove(path)


def remove(path: Path) -> None:
    """Delete a file, or a folder with everything in it; one that is gone already is no mistake.

    Raises:
        StorageError: The file system refuses.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError.of("delete", path, error) from error


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of everything in a folder; what is gone meanwhile counts nothing."""
    found = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    size = 0
    for item in found:
        with contextlib.suppress(OSError):
            state = item.lstat()
            size += state.st_size if stat.S_ISREG(state.st_mode) else 0
    return size


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock an open file; tell whether nobody else has. Where a file system knows no locks, nobody has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
    return True


@contextlib.contextmanager
def lock_unused(path: Path, *, folders: bool = False) -> Iterator[os.stat_result | None]:
    """Lock a file that nobody is about to refer to, for the time of the block.

    Args:
        path: A blob or a staged file.
        folders: Whether a folder will do, too.

    Yields:
        Its state; ``None`` where it is gone, no regular file, or held by somebody.

    Raises:
        StorageError: The file system refuses.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:  # gone, or a link, which is none of ours
            raise StorageError.of("read", path, error) from error
        yield None
        return
    try:
        state = os.fstat(descriptor)
        is_ours = stat.S_ISREG(state.st_mode) or (folders and stat.S_ISDIR(state.st_mode))
        yield state if is_ours and _lock(descriptor) else None
    finally:
        os.close(descriptor)


def entries(folder: Path) -> list[Path]:
    """Return what stands in a folder, sorted; nothing where there is none."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError.of("read", folder, error) from error


def flush_folders(holds: Iterable[Hold]) -> None:
    """Make the places of blobs survive a power cut, each folder once.

    A few are flushed side by side: the disk takes what waits for it together.

    Raises:
        StorageError: The file system refuses.
    """
    folders = list(dict.fromkeys(folder for hold in holds for folder in hold.changed))
    if len(folders) <= 1:
        for folder in folders:
            _flush_folder(folder)
        return
    with ThreadPoolExecutor(min(len(folders), _FLUSHES)) as pool:
        list(pool.map(_flush_folder, folders))  # raises what one of them met


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError.of("write", folder, error) from error


def check_outside(target: Path, database: Path | None, store: Path) -> None:
    """Refuse to write a file where the registry itself lives.

    Args:
        target: The file.
        database: The registry's database, where that is a file.
        store: The folder of its blobs.

    Raises:
        StorageError: The file is the database, one that belongs to it, or lies in the store.
    """
    place = Path(os.path.realpath(target))
    own = Path(os.path.realpath(database)) if database is not None else None
    is_database = own is not None and place.parent == own.parent and place.name.removeprefix(own.name) in _BESIDE
    if is_database or place.is_relative_to(os.path.realpath(store)):
        raise StorageError(
            f"cannot write {target}: it belongs to the registry",
            context={"path": str(target)},
            code="exists",
            hint="choose a place outside of the registry",
        )


_BESIDE = frozenset({"", "-wal", "-shm", "-journal", ".lock"})
"""What the names of a database's files end in."""
