"""What a mirror has done so far, in a file that outlives it: one line of JSON for each thing that is settled.

A line is on the disk before the next step begins. Whoever is killed while writing leaves at worst a torn last line,
which the next run cuts off. A line that cannot be read counts as not there, so that its work is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from ual_registry.errors import RegistryConflictError, RegistryError, StorageError

__all__ = ["OUTCOMES", "Journal", "Mirrored", "Refusal", "Settled", "Task"]

OUTCOMES = ("new", "unchanged", "refused", "no-adapter")
"""What can become of something; the last is a repository with nothing in it that could be mirrored."""

_FORM = 1
_KEY_DIGITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is mirrored where; each task has a journal of its own.

    Attributes:
        endpoint: Address of the Hub.
        source: What is mirrored, as it was given.
        target: Where to: a registry, or ``hf:ORG``.
    """

    endpoint: str
    source: str
    target: str

    @property
    def file_name(self) -> str:
        """Name of the journal's file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A revision that is at both ends.

    Attributes:
        name: The adapter in the registry.
        number: Its revision.
        digest: Digest of the bytes.
        path: The file in the repository.
        is_new: Whether it was brought there now.
    """

    name: str
    number: int
    digest: str
    path: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something was not mirrored.

    Attributes:
        code: Code of the error.
        message: Its message.
        hint: What to do about it.
        path: The file or folder in the repository, where it is about one of several.
    """

    code: str
    message: str
    hint: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one repository, or of one revision on its way there.

    Attributes:
        item: What was mirrored: a repository of the Hub, or ``name@3`` of the registry.
        repository: The repository on the Hub.
        commit: Its commit; ``None`` where it was not reached.
        outcome: One of ``OUTCOMES``.
        mirrored: What is at both ends now.
        refusals: Why something is not.
        is_lasting: Whether the same commit would be refused again, whenever it is tried.
        tool: Version of this program.
    """

    item: str
    repository: str
    commit: str | None
    outcome: str
    mirrored: tuple[Mirrored, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    is_lasting: bool = False
    tool: str = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Settled:
        """Read what ``asdict`` gives.

        Raises:
            TypeError: A value is missing or not known.
        """
        mirrored = tuple(Mirrored(**item) for item in document["mirrored"])
        refusals = tuple(Refusal(**item) for item in document["refusals"])
        return cls(**{**document, "mirrored": mirrored, "refusals": refusals})


class Journal:
    """The journal of one task; made by ``open``, and used by many threads.

    Args:
        path: The file.
        task: What it is about.
        stream: The file, opened for reading and appending.
    """

    def __init__(self, path: Path, task: Task, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._lock = threading.Lock()
        self._settled = _read(path, task, stream)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, task: Task) -> Iterator[Journal]:
        """Open the journal of a task, or begin it; one process at a time.

        Args:
            folder: Where journals are kept; made where it is missing.
            task: What is mirrored where.

        Raises:
            RegistryConflictError: Another process has it open.
            RegistryError: It is of another version of this program, or about something else.
            StorageError: The file system refuses.
        """
        path = folder / task.file_name
        with _translated(path):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(path, task), contextlib.ExitStack() as stack:
            with _translated(path):
                journal = cls(path, task, stack.enter_context(path.open("a+b")))
            yield journal

    def settled(self, item: str) -> Settled | None:
        """Return what became of an item, where that is known."""
        with self._lock:
            return self._settled.get(item)

    def write(self, settled: Settled) -> None:
        """Note what became of an item, and wait until that is on the disk; the same again is not noted again.

        Raises:
            StorageError: The file system refuses; what was noted before stays.
        """
        with self._lock:
            if self._settled.get(settled.item) == settled:
                return
            with _translated(self.path):
                _append(self._stream, asdict(settled))
            self._settled[settled.item] = settled


def _read(path: Path, task: Task, stream: BinaryIO) -> dict[str, Settled]:
    """Read what is there, cut off a torn end, and write the first line where there is none."""
    stream.seek(0)
    data = stream.read()
    whole, newline, _ = data.rpartition(b"\n")
    stream.truncate(len(whole) + len(newline))
    first, *lines = whole.split(b"\n")
    if not first:
        _append(stream, {"form": _FORM, **asdict(task)})
        _sync_folder(path.parent)
        return {}
    if _document(first) != {"form": _FORM, **asdict(task)}:
        raise RegistryError(
            f"{path}: is no journal of form {_FORM} for this mirror",
            context={"path": str(path)},
            code="mirror-journal",
            hint="move it away; what is mirrored already is found again",
        )
    found = (_settled(line) for line in lines)
    return {settled.item: settled for settled in found if settled is not None}


def _document(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _settled(line: bytes) -> Settled | None:
    try:
        return Settled.parse(_document(line))
    except (TypeError, KeyError):
        return None


def _append(stream: BinaryIO, document: Mapping[str, Any]) -> None:
    """Add a line; a line that could be written in part alone is taken back."""
    end = stream.seek(0, os.SEEK_END)
    try:
        stream.write(json.dumps(document).encode("ascii") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            stream.truncate(end)
        raise


def _sync_folder(folder: Path) -> None:
    """Let the name of a new file outlive a power cut, where the system can do that for folders."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError.of("write", path, error) from error


@contextlib.contextmanager
def _locked(path: Path, task: Task) -> Iterator[None]:
    """Be the only process at a journal; the system lets go of it where this process dies."""
    lock = filelock.FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise RegistryConflictError(
            f"another process mirrors {task.source} to {task.target} now",
            context={"source": task.source, "target": task.target},
            code="mirror-busy",
            hint="wait for it, or stop it",
        ) from error
    except OSError as error:
        raise StorageError.of("lock", path, error) from error
    try:
        yield
    finally:
        lock.release()
