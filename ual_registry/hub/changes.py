"""What a commit would change: the files that a repository shall hold beside those that it holds.

It decides which file is new, replaced, unchanged or removed. It asks the Hub nothing and sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ual_registry.digest import Digest
from ual_registry.errors import StorageError
from ual_registry.hub.content import check_content, check_file
from ual_registry.hub.model import HubFile

__all__ = ["Change", "Content", "FileChange", "compare", "differing"]


class Change(StrEnum):
    """What becomes of a file of the repository."""

    NEW = "new"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file that a repository shall hold.

    Attributes:
        path: Its path in the repository, with ``/``.
        source: The file to send, or its bytes.
        size_bytes: Its size.
        like: Path of a file that is made of the same numbers; empty where there is none.
    """

    path: str
    source: Path | bytes
    size_bytes: int
    like: str = ""
    _digests: list[str] = field(default_factory=list, repr=False, compare=False)  # one, as soon as it is known

    @classmethod
    def of_bytes(cls, path: str, data: bytes) -> Content:
        """Return a file with these bytes."""
        return cls(path=path, source=data, size_bytes=len(data))

    @classmethod
    def of_file(cls, path: str, file: Path, *, digest: Digest | None = None, like: str = "") -> Content:
        """Return a file with the bytes of a local one.

        Args:
            path: Its path in the repository.
            file: The local file.
            digest: Digest of its bytes, where that is known; else they are digested when that is needed.
            like: Path of a file that is made of the same numbers.

        Raises:
            StorageError: The file cannot be read.
        """
        try:
            size_bytes = file.stat().st_size
        except OSError as error:
            raise StorageError.of("read", file, error) from error
        return cls(path=path, source=file, size_bytes=size_bytes, like=like, _digests=[digest.hex] if digest else [])

    @property
    def is_digested(self) -> bool:
        """Whether the digest is known, so that nothing needs to be read for it."""
        return bool(self._digests)

    @property
    def sha256(self) -> str:
        """Digest of the content in hexadecimal.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self._digests:
            source = self.source
            digest = Digest.of_bytes(source) if isinstance(source, bytes) else Digest.of_file(source)
            self.note_sha256(digest.hex)
        return self._digests[0]

    def note_sha256(self, sha256: str) -> None:
        """Take the digest from whoever read the bytes anyway."""
        self._digests[:] = [sha256]

    def is_same_as(self, file: HubFile | None) -> bool:
        """Tell whether the Hub holds these very bytes.

        Raises:
            StorageError: The file cannot be read.
        """
        if file is None or file.size_bytes != self.size_bytes:
            return False
        if file.sha256 is not None:
            return file.sha256 == self.sha256
        if isinstance(self.source, bytes):
            return check_content(file, self.source) is None
        return check_file(file, self.source) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file before and after a commit.

    Attributes:
        path: Its path in the repository.
        change: What becomes of it.
        size_bytes: Its size after the commit; 0 where it is removed.
        previous_bytes: Its size before; ``None`` where it is new.
    """

    path: str
    change: Change
    size_bytes: int
    previous_bytes: int | None


def compare(
    contents: Iterable[Content], files: Mapping[str, HubFile], *, removed: Iterable[str] = ()
) -> tuple[FileChange, ...]:
    """Say what becomes of every file that a commit is about, by path.

    Args:
        contents: What the repository shall hold.
        files: What it holds.
        removed: Paths that shall go where they are there.

    Raises:
        StorageError: A file cannot be read.
    """
    found = [_changed(content, files.get(content.path)) for content in contents]
    found += [
        FileChange(path=path, change=Change.REMOVED, size_bytes=0, previous_bytes=files[path].size_bytes)
        for path in removed
        if path in files
    ]
    return tuple(sorted(found, key=lambda change: change.path))


def _changed(content: Content, file: HubFile | None) -> FileChange:
    if file is None:
        return FileChange(path=content.path, change=Change.NEW, size_bytes=content.size_bytes, previous_bytes=None)
    change = Change.UNCHANGED if content.is_same_as(file) else Change.REPLACED
    return FileChange(path=content.path, change=change, size_bytes=content.size_bytes, previous_bytes=file.size_bytes)


def differing(
    contents: Iterable[Content], files: Mapping[str, HubFile], *, removed: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the paths at which a repository does not hold what it shall hold, sorted.

    Raises:
        StorageError: A file cannot be read.
    """
    return tuple(
        change.path for change in compare(contents, files, removed=removed) if change.change is not Change.UNCHANGED
    )
