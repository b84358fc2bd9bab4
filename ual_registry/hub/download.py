"""Fetching files of a commit: by the Hub's own client, verified here, all of them or none."""

from __future__ import annotations

import contextlib
import contextvars
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ual_registry.errors import HubError, HubUnavailableError, StorageError
from ual_registry.hub.address import is_path
from ual_registry.hub.answers import Question
from ual_registry.hub.client import Hub
from ual_registry.hub.content import Check, check_file
from ual_registry.hub.incoming import Incoming, TooLongError
from ual_registry.hub.model import HubFile, Snapshot
from ual_registry.hub.xet import has_xet

__all__ = ["THREADS", "FileCheck", "download"]

FileCheck = Callable[[HubFile, Path], str | None]
"""Says what is wrong with a file that came, expected and got; ``None`` where nothing is."""

THREADS = 8
"""Files fetched side by side."""

_PROGRESS_BYTES = 1 << 20
"""After so much more of a file, a connection that breaks is made again as often as at first."""

_PASSING = {"hub-timeout", "hub-unavailable"}


def download(
    hub: Hub,
    snapshot: Snapshot,
    files: Sequence[HubFile],
    folder: Path,
    *,
    threads: int = THREADS,
    check: FileCheck | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> dict[str, Path]:
    """Fetch files into a folder, under their paths in the repository; verified before any of them appears there.

    Args:
        hub: The Hub.
        snapshot: The repository at one commit.
        files: Which of its files.
        folder: Where to; it must be there. A process that is killed leaves a folder ``.hub-*.tmp`` in it.
        threads: How many files to fetch side by side.
        check: Says what is wrong with a file that came, as ``check_file`` does, for whoever wants more of that pass;
            by default a file is compared with the commit as it comes.
        on_bytes: Called from any thread with the number of bytes that came; negative where they must come again.

    Returns:
        The place of every file by its path in the repository.

    Raises:
        HubError: The Hub refuses, cannot be reached, or twice sends other bytes than the commit holds.
        StorageError: The file system refuses; nothing is left behind.
    """
    _refuse_strange_paths(snapshot, files)
    scratch = folder / f".hub-{secrets.token_hex(6)}.tmp"
    fetcher = _Fetcher(hub=hub, snapshot=snapshot, check=check, on_bytes=on_bytes or _ignore)
    try:
        scratch.mkdir()
        fetched = fetcher.fetch_all(files, scratch, threads)
        return {file.path: _settle(path, folder / file.path) for file, path in zip(files, fetched, strict=True)}
    except OSError as error:
        raise StorageError.of("write", folder, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _refuse_strange_paths(snapshot: Snapshot, files: Sequence[HubFile]) -> None:
    for file in files:
        if not is_path(file.path):
            question = Question(what="read", repository=snapshot.repository, revision=snapshot.commit)
            raise question.fault(
                HubError, code="hub-answer", reason=f"{file.path[:100]!r} is no path of a file in a repository"
            )


def _ignore(count: int) -> None:
    del count


def _settle(fetched: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(place)
    return place


class _StoppedError(Exception):
    """Ends the fetching of a file because another one failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetcher:
    """Fetches files of one commit.

    Attributes:
        hub: The Hub.
        snapshot: The commit.
        check: Says what is wrong with a file that came.
        on_bytes: Called with the number of bytes that came.
        is_over: Set where nothing more shall be fetched.
        transfers: What was begun in the Xet store.
    """

    hub: Hub
    snapshot: Snapshot
    check: FileCheck | None
    on_bytes: Callable[[int], None]
    is_over: threading.Event = field(default_factory=threading.Event)
    transfers: list[Any] = field(default_factory=list)

    def fetch_all(self, files: Sequence[HubFile], scratch: Path, threads: int) -> list[Path]:
        """Fetch files side by side; the first failure ends the others."""
        pool = ThreadPoolExecutor(max_workers=max(1, min(threads, len(files))))
        try:
            tasks: list[Future[Path]] = [
                pool.submit(contextvars.copy_context().run, self._fetch, file, scratch) for file in files
            ]
            wait(tasks, return_when=FIRST_EXCEPTION)
        finally:
            self._end()
            pool.shutdown(cancel_futures=True)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, _StoppedError):
                raise error
        return [task.result() for task in tasks]

    def _end(self) -> None:
        """Fetch nothing more; what is done already does not mind."""
        self.is_over.set()
        for transfer in tuple(self.transfers):
            with contextlib.suppress(Exception):
                transfer.cancel()

    def _fetch(self, file: HubFile, scratch: Path) -> Path:
        """Fetch one file, and once again where other bytes came than were asked for."""
        faults = []
        for attempt in ("first", "second"):
            path, fault = self._fetch_once(file, scratch / attempt)
            if fault is None:
                return path
            path.unlink(missing_ok=True)
            faults.append(fault)
        question = Question(
            what="read", repository=self.snapshot.repository, revision=self.snapshot.commit, path=file.path
        )
        raise question.fault(
            HubError,
            code="hub-content",
            reason=f"{faults[-1]}, twice",
            hint="something between you and the Hub changes bytes, or its copy is damaged; try another network",
        )

    def _fetch_once(self, file: HubFile, scratch: Path) -> tuple[Path, str | None]:
        """Fetch a file, and say what is wrong with it.

        A large file may be in the Xet store, about which a request of its own tells. Any other file is at its address.
        """
        way = self._by_xet if file.sha256 is not None and has_xet() else self._by_http
        came: list[int] = []
        path = scratch / file.path
        fault: str | None = "nothing came"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fault = way(file, scratch, came)
        except TooLongError:
            fault = f"more than {file.size_bytes} bytes came (expected {file.size_bytes})"
        finally:
            if fault is not None:
                self.on_bytes(-sum(came))
        return path, fault

    def _by_xet(self, file: HubFile, scratch: Path, came: list[int]) -> str | None:
        """Fetch a file from the Xet store, or from its address where it is not there."""
        snapshot, path = self.snapshot, scratch / file.path

        def fetch() -> bool:
            self.on_bytes(-sum(came))
            came.clear()
            name = self.hub.xet.name(snapshot, file)
            if name is None:
                return False
            self.hub.xet.fetch(
                snapshot, file, path, name=name, headers=self.hub.headers(), on_bytes=note, begun=self._begun
            )
            return True

        def note(count: int) -> None:
            came.append(count)
            self.on_bytes(count)

        try:
            is_there = self.hub.ask(fetch, "read", snapshot.repository, revision=snapshot.commit, path=file.path)
        except HubError:
            if self.is_over.is_set():
                raise _StoppedError from None
            raise
        return (self.check or check_file)(file, path) if is_there else self._by_http(file, scratch, came)

    def _begun(self, transfer: Any) -> None:
        """Note what is to be cancelled where all is over."""
        self.transfers.append(transfer)
        if self.is_over.is_set():
            raise _StoppedError

    def _by_http(self, file: HubFile, scratch: Path, came: list[int]) -> str | None:
        """Fetch a file from its address."""
        own = Check(file) if self.check is None else None
        with (scratch / file.path).open("wb") as stream:
            self._receive(Incoming(file, stream, own, self._noted(came)), file)
        return own.fault() if own is not None else (self.check or check_file)(file, scratch / file.path)

    def _noted(self, came: list[int]) -> Callable[[int], None]:
        def note(count: int) -> None:
            if self.is_over.is_set():
                raise _StoppedError
            came.append(count)
            self.on_bytes(count)

        return note

    def _receive(self, incoming: Incoming, file: HubFile) -> None:
        """Take in a file, and go on with it where the connection breaks after much came."""
        from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub is used

        snapshot, url = self.snapshot, self.hub.file_url(self.snapshot, file)
        counted = {constants.X_HF_DOWNLOAD_COUNTER: "1"}  # as its own downloads are, for the statistics of authors

        def fetch() -> None:
            headers = {**self.hub.headers(), **counted, "Accept-Encoding": "identity"}
            incoming.go_on(url, headers, constants.HF_HUB_DOWNLOAD_TIMEOUT)

        while True:
            before = incoming.position
            try:
                self.hub.ask(fetch, "read", snapshot.repository, revision=snapshot.commit, path=file.path)
            except HubUnavailableError as error:
                if incoming.position < before + _PROGRESS_BYTES or error.problem_code not in _PASSING:
                    raise
            else:
                return
