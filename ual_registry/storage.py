"""Writing to the file system without ever leaving half a file.

A file is written under a temporary name beside its place and renamed when it is complete; a folder likewise.
Whatever the system refuses (full disk, read-only folder, missing parent) becomes a ``StorageError``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ual_registry.errors import StorageError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "check_target",
    "file_size",
    "is_file",
    "is_folder",
    "read_at_most",
    "read_file",
]

_WORTH_ROOM_BYTES = 1 << 20
"""From what size on room is taken at once; less is written sooner than asked for."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what the system refuses as an error of ours."""
    try:
        yield
    except OSError as error:
        raise StorageError.of("read", path, error) from error


def is_file(path: Path) -> bool:
    """Tell whether a path is that of a file, or of a link to one.

    Raises:
        StorageError: The system does not tell, such as in a folder that this user may not enter.
    """
    with _reading(path):
        return path.is_file()


def is_folder(path: Path) -> bool:
    """Tell whether a path is that of a folder, or of a link to one.

    Raises:
        StorageError: The system does not tell, such as in a folder that this user may not enter.
    """
    with _reading(path):
        return path.is_dir()


def file_size(path: Path) -> int:
    """Return how many bytes a file has.

    Raises:
        StorageError: The system does not tell, or there is no file.
    """
    with _reading(path):
        return path.stat().st_size


def read_file(path: Path, *, limit_bytes: int) -> bytes:
    """Read a small file whole.

    Raises:
        StorageError: It cannot be read, or has more than ``limit_bytes``.
    """
    data = read_at_most(path, limit_bytes=limit_bytes)
    if data is None:
        raise StorageError(f"cannot read {path}: over the limit of {limit_bytes} bytes", context={"path": str(path)})
    return data


def read_at_most(path: Path, *, limit_bytes: int) -> bytes | None:
    """Read a small file whole; ``None`` where it has more than ``limit_bytes``, for those with an error of their own.

    Raises:
        StorageError: It cannot be read.
    """
    with _reading(path), path.open("rb") as stream:
        data = stream.read(limit_bytes + 1)
    return data if len(data) <= limit_bytes else None


def check_target(path: Path, *, force: bool, replaceable: str | None = None) -> None:
    """Check, before any work is done, that ``path`` can be written and that nothing is lost by it.

    Args:
        path: Where a file or folder shall be written.
        force: Whether to replace what is there.
        replaceable: Name of the file that marks a folder as one of ours; no other folder is ever replaced.

    Raises:
        StorageError: Something is there already, its folder is missing, or it cannot be told.
    """
    if not is_folder(path.absolute().parent):
        raise StorageError(
            f"cannot write {path}: there is no folder {path.parent}",
            context={"path": str(path)},
            hint="make the folder first, or check the path",
        )
    _check_kind(path)
    if not force:
        _check_free(path)
    elif _holds_something(path) and not (replaceable and is_file(path / replaceable)):
        raise StorageError(
            f"cannot replace {path}: it is a folder with other things in it",
            context={"path": str(path)},
            code="exists",
            hint="choose another name, or remove the folder yourself",
        )


def _check_kind(path: Path) -> None:
    """Refuse a device, a pipe or a socket: a file would take its place, and nothing could bring it back."""
    with _reading(path):
        is_ordinary = path.is_file() or path.is_dir() or not path.exists()
    if not is_ordinary:
        raise StorageError(
            f"cannot write {path}: it is no file but a device, a pipe or a socket",
            context={"path": str(path)},
            code="exists",
            hint="choose the name of a file",
        )


def _holds_something(path: Path) -> bool:
    """Tell whether a path is that of a folder with something in it."""
    with _reading(path):
        return path.is_dir() and any(path.iterdir())


def _check_free(path: Path) -> None:
    with _reading(path):
        is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_free:
        raise StorageError(
            f"cannot write {path}: it exists already",
            context={"path": str(path)},
            code="exists",
            hint="choose another name, or pass --force to replace it",
        )


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = False, size_bytes: int = 0) -> Iterator[BinaryIO]:
    """Open a stream whose bytes appear at ``path`` when the block ends without an error.

    Args:
        path: The final place; what is there is replaced.
        durable: Whether to wait until the bytes are on the disk (``fsync``).
        size_bytes: How many will be written, where it is known: room for them is taken at once, which makes writing
            them a third faster on ext4, and a full disk is told before any work is done.

    Raises:
        StorageError: The file system refuses; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as stream:
            _take_room(stream.fileno(), size_bytes)
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError.of("write", path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _take_room(descriptor: int, size_bytes: int) -> None:
    """Have the file system set aside room for a new file, where it can."""
    if size_bytes >= _WORTH_ROOM_BYTES and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV}:
                raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder that is renamed to ``path`` when the block ends without an error.

    A folder that stands at ``path`` is replaced as a whole.

    Raises:
        StorageError: The file system refuses; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        _replace_folder(temporary, path)
    except OSError as error:
        raise StorageError.of("write", path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, place: Path) -> None:
    """Put ``new`` at ``place``; what stood there is gone only when the new one is there."""
    if not os.path.lexists(place):
        new.rename(place)
        return
    old = _temporary(place)
    place.rename(old)
    try:
        new.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()


def _temporary(path: Path) -> Path:
    if not path.name or path.name == ".." or "\0" in str(path):
        raise StorageError(
            f"cannot write {path}: expected a name of its own", context={"path": str(path)}, hint="give a new name"
        )
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
