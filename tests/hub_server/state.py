"""What the Hub holds: accounts, repositories, their commits, branches and tags."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.hub_server.git import blob_id, commit_id, folder_ids, pointer
from tests.hub_server.objects import LargeObjects

__all__ = ["GIT_ATTRIBUTES", "Account", "Commit", "File", "Hub", "Repository", "is_large"]

GIT_ATTRIBUTES = b"".join(
    f"*{ending} filter=lfs diff=lfs merge=lfs -text\n".encode() for ending in (".air", ".bin", ".png", ".safetensors")
)
"""What a new repository holds."""

_LARGE_ENDINGS = (".air", ".bin", ".gguf", ".npz", ".pickle", ".pkl", ".png", ".pt", ".pth", ".safetensors")


def is_large(path: str, size_bytes: int, threshold_bytes: int) -> bool:
    """Whether a file is kept outside git."""
    return size_bytes > 0 and (path.endswith(_LARGE_ENDINGS) or size_bytes >= threshold_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whom a token belongs to.

    Attributes:
        name: The user.
        role: ``read`` or ``write``: what the token allows.
        organizations: Where the user may write besides their own name.
    """

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def may_write(self, repository: str) -> bool:
        """Whether the repository belongs to the user or to one of their organizations."""
        return repository.split("/", maxsplit=1)[0] in (self.name, *self.organizations)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a commit: small with its content, or large with its digest.

    Attributes:
        size_bytes: Its size.
        content: Its content, where it is in git itself.
        sha256: Its digest, where it is kept outside.
    """

    size_bytes: int
    content: bytes | None = None
    sha256: str | None = None

    @classmethod
    def small(cls, content: bytes) -> File:
        """Make a file that is in git itself."""
        return cls(size_bytes=len(content), content=content)

    @property
    def in_git(self) -> bytes:
        """What git holds: the content, or the pointer to it."""
        return self.content if self.sha256 is None else pointer(self.sha256, self.size_bytes)  # type: ignore[return-value]

    @property
    def blob_id(self) -> str:
        """The name of what git holds."""
        return blob_id(self.in_git)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit.

    Attributes:
        oid: Its name, 40 hexadecimal digits.
        parent: The commit before, or ``None``.
        title: The first line of its message.
        message: The rest.
        author: The user.
        date: When it was made.
        files: Its files by path.
    """

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: datetime
    files: Mapping[str, File]


@dataclass(slots=True, kw_only=True)
class Repository:
    """A repository; change it only under the lock of its hub.

    Attributes:
        id: ``owner/name``.
        is_private: Whether only its owner sees it.
        gated: ``auto`` or ``manual``, or ``None``.
        granted: Users whom a gated repository lets in.
        is_disabled: Whether the Hub has taken it away.
        created: When it was made.
        downloads: How often it is said to have been downloaded.
        objects: Where large files are.
        history: All commits by name, oldest first.
        branches: Tips by name.
        tags: Commits by name.
    """

    id: str
    objects: LargeObjects
    is_private: bool = False
    gated: str | None = None
    granted: set[str] = field(default_factory=set)
    is_disabled: bool = False
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    downloads: int = 0
    history: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str = "main") -> Commit | None:
        """Find a commit by branch, tag, or the first digits of its name."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid in self.history:
            return self.history[oid]
        matches = [name for name in self.history if name.startswith(revision)] if len(revision) >= 7 else []
        return self.history[matches[0]] if len(matches) == 1 else None

    def line(self, revision: str = "main") -> list[Commit]:
        """Give a commit and those before it, newest first."""
        commit, found = self.find(revision), []
        while commit:
            found.append(commit)
            commit = self.history.get(commit.parent or "")
        return found

    @property
    def commits(self) -> list[Commit]:
        """The commits of ``main``, newest first."""
        return self.line()

    @property
    def tip(self) -> str:
        """The name of the newest commit of ``main``."""
        return self.branches["main"]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Read the files of a commit by path.

        Raises:
            KeyError: There is no such revision.
        """
        commit = self.find(revision)
        if commit is None:
            raise KeyError(revision)
        return {path: self.read(file) for path, file in commit.files.items()}

    def read(self, file: File) -> bytes:
        """Read a file, large or small."""
        return file.in_git if file.sha256 is None else self.objects.read(file.sha256)

    def commit(
        self, files: Mapping[str, File], *, title: str, author: str, branch: str = "main", message: str = ""
    ) -> Commit:
        """Put a commit with exactly these files on a branch, which is made where there is none."""
        seconds, parent = int(time.time()), self.branches.get(branch)
        ordered = dict(sorted(files.items()))
        tree = folder_ids({path: file.blob_id for path, file in ordered.items()})[""]
        text = title + (f"\n\n{message}" if message else "") + "\n"
        commit = Commit(
            oid=commit_id(tree=tree, parent=parent, author=author, seconds=seconds, message=text),
            parent=parent,
            title=title,
            message=message,
            author=author,
            date=datetime.fromtimestamp(seconds, UTC),
            files=ordered,
        )
        self.history[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit


class Hub:
    """Everything that the Hub holds.

    Args:
        objects: Where large files are.
        large_bytes: From this size on a file is kept outside git, whatever its name.
    """

    def __init__(self, objects: LargeObjects, *, large_bytes: int) -> None:
        self.lock = threading.RLock()
        self.objects = objects
        self.large_bytes = large_bytes
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}
        self.keep_large: Callable[[str], None] = lambda _: None

    def create(self, repository: str, *, is_private: bool = False, author: str = "system") -> Repository:
        """Make a repository with its first commit."""
        with self.lock:
            made = Repository(id=repository, objects=self.objects, is_private=is_private)
            made.commit({".gitattributes": File.small(GIT_ATTRIBUTES)}, title="initial commit", author=author)
            self.repositories[repository] = made
            self.moved.pop(repository, None)
            return made

    def rename(self, old: str, new: str) -> None:
        """Give a repository another id; the old one leads to it."""
        with self.lock:
            found = self.repositories.pop(old)
            found.id = new
            self.repositories[new] = found
            self.moved[old] = new

    def file(self, path: str, content: bytes) -> File:
        """Make a file of some content, and keep it outside git where it is large."""
        if not is_large(path, len(content), self.large_bytes):
            return File.small(content)
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.objects.has(sha256):
            self.objects.write([content])
        self.keep_large(sha256)
        return File(size_bytes=len(content), sha256=sha256)
