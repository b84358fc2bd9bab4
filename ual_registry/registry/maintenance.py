"""Garbage: bytes in the store that no artifact refers to, and revisions that were hidden long enough ago.

The database says what is referred to. A blob goes in the transaction that makes sure, under the lock that adding the
same bytes takes too, that nobody refers to it, and the file goes before that transaction ends: a crash leaves a row
that says nothing, never an artifact without its bytes (ADR-0012).
"""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from ual_registry.digest import Digest
from ual_registry.errors import StorageError
from ual_registry.registry.audit import write_log
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.files import lock_unused, remove, size_of
from ual_registry.registry.grace import DEFAULT_GRACE, moment_before
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.session import Database
from ual_registry.registry.tables import ArtifactRow, BlobRow
from ual_registry.registry.tombstones import bury, hidden, lock_blob, revisions_of
from ual_registry.registry.transaction import transact

__all__ = ["Garbage", "GcReport", "collect", "live_digests"]

_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One thing that goes.

    Attributes:
        kind: ``blob`` (bytes that no artifact refers to), ``staged`` (what an interrupted command left), ``row`` (a
            blob's row without bytes and artifact) or ``revision`` (an artifact whose revisions are all hidden).
        digest: The digest; none for what was staged.
        path: The file in the store; none where there is none.
        size_bytes: The bytes that it frees.
        names: The revisions, as ``name@number``.
    """

    kind: str
    digest: str | None = None
    path: str | None = None
    size_bytes: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What ``gc`` found, and deleted where it was asked to.

    Attributes:
        is_applied: Whether it was deleted.
        grace_s: How old garbage must be, in seconds.
        size_bytes: The bytes that all of it frees.
        garbage: What it is.
    """

    is_applied: bool
    grace_s: int
    size_bytes: int
    garbage: tuple[Garbage, ...]


def collect(
    database: Database,
    blobs: BlobStore,
    *,
    grace: datetime.timedelta = DEFAULT_GRACE,
    apply: bool = False,
    yanked: bool = False,
    progress: Progress = silent,
) -> GcReport:
    """Find garbage, and delete it where asked to.

    Args:
        database: The database.
        blobs: The store.
        grace: How old it must be.
        apply: Whether to delete it.
        yanked: Whether to delete the bytes of artifacts whose revisions were all hidden longer than the grace ago; a
            tombstone stays, and one that an alias points to stays as it is.
        progress: Is told how far it is.

    Raises:
        RegistryUnavailableError: The database refuses.
        StorageError: The store refuses.
    """
    work = _Collection(database, blobs, moment_before(grace), apply=apply, progress=progress)
    garbage = [*(work.revisions() if yanked else ()), *work.blobs_without_artifact(), *work.rows(), *work.staged()]
    size = sum(item.size_bytes for item in garbage)
    return GcReport(is_applied=apply, grace_s=int(grace.total_seconds()), size_bytes=size, garbage=tuple(garbage))


def live_digests(session: Session, digests: Iterable[Digest]) -> set[str]:
    """Return those of some digests that an artifact with bytes refers to."""
    wanted = [str(digest) for digest in digests]
    statement = select(ArtifactRow.digest).where(ArtifactRow.digest.in_(wanted), ArtifactRow.deleted_at.is_(None))
    return set(session.scalars(statement))


class _Collection:
    """One run of ``gc``."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        before: datetime.datetime,
        *,
        apply: bool,
        progress: Progress,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._before = before
        self._apply = apply
        self._progress = progress

    def _is_old(self, state: os.stat_result) -> bool:
        return state.st_mtime <= self._before.timestamp()

    def revisions(self) -> Iterator[Garbage]:
        """Yield artifacts that are hidden everywhere, and leave a tombstone of each."""
        with self._database.session() as session:
            found = session.execute(hidden(self._before)).all()
        for done, (digest, size_bytes) in enumerate(found):
            self._progress("revisions", done, len(found))
            names = self._bury(digest) if self._apply else self._names(digest)
            if names is not None:
                # Its bytes go with those that no artifact refers to; only what is not deleted counts here.
                size = 0 if self._apply else size_bytes
                yield Garbage(kind="revision", digest=digest, size_bytes=size, names=names)

    def _names(self, digest: str) -> tuple[str, ...]:
        with self._database.session() as session:
            return tuple(f"{name}@{number}" for name, number in revisions_of(session, digest))

    def _bury(self, digest: str) -> tuple[str, ...] | None:
        return transact(self._database, lambda session: bury(session, digest, self._before))

    def blobs_without_artifact(self) -> Iterator[Garbage]:
        """Yield the blobs that no artifact refers to."""
        with self._database.session() as session:
            total = session.scalar(select(func.count()).select_from(BlobRow))
        walk = self._blobs.walk()
        done = 0
        while batch := list(islice(walk, _BATCH)):
            self._progress("blobs", done, total)
            with self._database.session() as session:
                live = live_digests(session, batch)
            loose = [digest for digest in batch if str(digest) not in live]
            yield from self._sweep(loose) if self._apply else self._look(loose)
            done += len(batch)

    def _look(self, loose: Iterable[Digest]) -> Iterator[Garbage]:
        for digest in loose:
            place = self._blobs.place(digest)
            with lock_unused(place) as state:
                if state is not None and self._is_old(state):
                    yield _blob(digest, place, state)

    def _sweep(self, loose: list[Digest]) -> Iterable[Garbage]:
        gone: dict[str, Garbage] = {}  # what went stays gone, however often the transaction is tried
        if loose:
            transact(self._database, lambda session: self._delete(session, loose, gone))
        return gone.values()

    def _delete(self, session: Session, loose: list[Digest], gone: dict[str, Garbage]) -> None:
        for digest in loose:
            lock_blob(session, str(digest))  # who adds the same bytes waits for this transaction, or this one for it
        live = live_digests(session, loose)
        for digest in loose:
            if str(digest) not in live:
                self._unlink(digest, gone)
                session.execute(delete(BlobRow).where(BlobRow.digest == str(digest)))
        if gone:
            write_log(
                session, "gc", "", digests=sorted(gone), size_bytes=sum(item.size_bytes for item in gone.values())
            )

    def _unlink(self, digest: Digest, gone: dict[str, Garbage]) -> None:
        """Delete a blob's file, unless it is young, or somebody is about to refer to it."""
        place = self._blobs.place(digest)
        with lock_unused(place) as state:
            if state is not None and self._is_old(state) and _remove(place, self._blobs.staging, state):
                gone[str(digest)] = _blob(digest, place, state)

    def rows(self) -> Iterator[Garbage]:
        """Yield the rows of blobs that have neither bytes nor an artifact."""
        artifact = exists().where(ArtifactRow.digest == BlobRow.digest, ArtifactRow.deleted_at.is_(None))
        statement = select(BlobRow.digest).where(~artifact).order_by(BlobRow.digest)
        with self._database.session() as session:
            found = [Digest.parse(digest) for digest in session.scalars(statement)]
        for digest in found:
            if not self._blobs.place(digest).exists() and (not self._apply or self._delete_row(digest)):
                yield Garbage(kind="row", digest=str(digest))

    def _delete_row(self, digest: Digest) -> bool:
        def work(session: Session) -> bool:
            lock_blob(session, str(digest))
            if live_digests(session, [digest]) or self._blobs.place(digest).exists():
                return False
            session.execute(delete(BlobRow).where(BlobRow.digest == str(digest)))
            return True

        return transact(self._database, work)

    def staged(self) -> Iterator[Garbage]:
        """Yield what interrupted commands left in staging."""
        for path in self._blobs.walk_staging():
            with lock_unused(path, folders=True) as state:
                if state is None or not self._is_old(state):
                    continue
                size = size_of(path)
                if self._apply:
                    remove(path)
                yield Garbage(kind="staged", path=str(path), size_bytes=size)


def _blob(digest: Digest, place: Path, state: os.stat_result) -> Garbage:
    return Garbage(kind="blob", digest=str(digest), path=str(place), size_bytes=state.st_size)


def _remove(place: Path, staging: Path, state: os.stat_result) -> bool:
    """Unlink a blob if it still is the file that was looked at; one that was put there meanwhile stays."""
    aside = staging / secrets.token_hex(12)
    try:
        staging.mkdir(parents=True, exist_ok=True)
        place.rename(aside)
        if aside.stat().st_ino != state.st_ino:
            aside.rename(place)  # the same bytes, which somebody is about to refer to
            return False
        aside.unlink()
    except OSError as error:
        raise StorageError.of("delete", place, error) from error
    return True
