"""Checking a registry: every blob against its digest, every row against what it refers to.

What a crash may leave, bytes without a row, is no fault; ``gc`` deletes it. A fault is what loses something: bytes
that are gone or changed, a row that leads nowhere, rows that say other things than the bytes (``deep``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import func, select, update

from ual_registry.digest import Digest
from ual_registry.errors import UALError
from ual_registry.registry.audit import now
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.fsck_records import differences
from ual_registry.registry.fsck_rows import broken_rows
from ual_registry.registry.grace import moment_before
from ual_registry.registry.maintenance import live_digests
from ual_registry.registry.moments import utc
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.repair import BYTES_ARE_WRONG, Repair, SecondStore, repair
from ual_registry.registry.session import Database
from ual_registry.registry.tables import ArtifactRow, BlobRow
from ual_registry.registry.tombstones import revisions_of
from ual_registry.registry.transaction import transact

__all__ = ["Fault", "FsckOrder", "FsckReport", "check"]

_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckOrder:
    """How closely a registry is looked at.

    Attributes:
        quick: Whether to compare sizes alone.
        since: Blobs that were re-hashed within this time are not re-hashed; ``None`` re-hashes all.
        deep: Whether to compare the rows of every artifact with the manifest in its bytes.
        repair_from: A second store that missing and damaged blobs are taken from: a folder of blobs, the home of
            another registry, or an exported registry.
    """

    quick: bool = False
    since: datetime.timedelta | None = None
    deep: bool = False
    repair_from: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not as it must be, or that is worth knowing.

    Attributes:
        kind: ``missing``, ``damaged``, ``wrong-size``, ``unlisted``, ``differs``, ``stale``, ``dangling``, ``number``
            or ``circle``; and what is no fault: ``extra`` and ``strange``.
        message: What exactly.
        digest: The artifact or blob, where there is one.
        names: The revisions that hold it, as ``name@number``.
        is_repaired: Whether it is mended now.
    """

    kind: str
    message: str
    digest: str | None = None
    names: tuple[str, ...] = ()
    is_repaired: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is lost by it."""
        return self.kind in {"extra", "strange"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FsckReport:
    """What ``fsck`` found.

    Attributes:
        blobs: How many blobs were looked at.
        hashed_bytes: How much was re-hashed.
        faults: What is wrong.
        notes: What is worth knowing and no fault.
    """

    blobs: int
    hashed_bytes: int
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or everything that was is mended."""
        return all(fault.is_repaired for fault in self.faults)


def check(
    database: Database, blobs: BlobStore, order: FsckOrder | None = None, *, progress: Progress = silent
) -> FsckReport:
    """Check a registry.

    Args:
        database: The database.
        blobs: The store.
        order: How closely.
        progress: Is told how far it is.

    Raises:
        RegistryUnavailableError: The database refuses.
        StorageError: The store refuses, or the second store is none.
    """
    work = _Check(database, blobs, order or FsckOrder(), progress)
    found = [*work.blobs(), *work.rows(), *work.others()]
    return FsckReport(
        blobs=work.count,
        hashed_bytes=work.hashed_bytes,
        faults=tuple(fault for fault in found if not fault.is_harmless),
        notes=tuple(fault for fault in found if fault.is_harmless),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """An artifact with bytes, and what the row of its blob says."""

    digest: Digest
    size_bytes: int
    listed_bytes: int | None
    verified_at: datetime.datetime | None


class _Check:
    """One run of ``fsck``."""

    def __init__(self, database: Database, blobs: BlobStore, order: FsckOrder, progress: Progress) -> None:
        self._database = database
        self._blobs = blobs
        self._order = order
        self._progress = progress
        self._second = SecondStore.open(order.repair_from, blobs.root) if order.repair_from is not None else None
        self._due = moment_before(order.since) if order.since is not None else None
        self._total: int | None = None
        self.count = 0
        self.hashed_bytes = 0

    def blobs(self) -> Iterator[Fault]:
        """Yield what is wrong with the bytes of artifacts."""
        after = ""
        while page := self._page(after):
            verified: list[str] = []
            broken: list[str] = []
            for item in page:
                fault = self._fault(item, verified)
                self.count += 1
                self._progress("blobs", self.count, self._total)
                if fault is not None and self._is_live(item):  # not one that was deleted meanwhile
                    fault = self._mended(fault, item)
                    if fault.kind in BYTES_ARE_WRONG and not fault.is_repaired:
                        broken.append(str(item.digest))
                    yield fault
            self._note_verified(verified, now())
            self._note_verified(broken, None)  # so that what was found broken is looked at again, however soon
            after = str(page[-1].digest)

    def _page(self, after: str) -> list[_Listed]:
        columns = (ArtifactRow.digest, ArtifactRow.size_bytes, BlobRow.size_bytes, BlobRow.verified_at)
        alive = ArtifactRow.deleted_at.is_(None)
        statement = select(*columns).outerjoin(BlobRow, BlobRow.digest == ArtifactRow.digest)
        with self._database.session() as session:
            if self._total is None:
                self._total = session.scalar(select(func.count()).select_from(ArtifactRow).where(alive))
                self._progress("blobs", 0, self._total)
            rows = session.execute(
                statement.where(alive, ArtifactRow.digest > after).order_by(ArtifactRow.digest).limit(_PAGE)
            )
            return [
                _Listed(
                    digest=Digest.parse(digest),
                    size_bytes=size,
                    listed_bytes=listed,
                    verified_at=verified and utc(verified),
                )
                for digest, size, listed, verified in rows
            ]

    def _fault(self, item: _Listed, verified: list[str]) -> Fault | None:
        place, digest = self._blobs.place(item.digest), str(item.digest)
        try:
            size = place.stat().st_size if place.is_file() else None
            if size is None:
                return _of("missing", f"the store does not hold {place}", digest)
            if size != item.size_bytes:
                return _of("wrong-size", f"{place} has {size} bytes, expected {item.size_bytes}", digest)
            if self._is_due(item):
                actual = Digest.of_file(place)
                self.hashed_bytes += size
                if actual != item.digest:
                    return _of("damaged", f"{place} has {actual}, expected {item.digest}", digest)
                verified.append(digest)
        except (OSError, UALError) as error:
            return _of("damaged", f"{place} cannot be read: {error}", digest)
        if item.listed_bytes != item.size_bytes:
            found = "is not there" if item.listed_bytes is None else f"says {item.listed_bytes} bytes"
            return _of("unlisted", f"the row of the blob {found}, expected {item.size_bytes} bytes", digest)
        return self._difference(item) if self._order.deep else None

    def _is_due(self, item: _Listed) -> bool:
        if self._order.quick:
            return False
        return self._due is None or item.verified_at is None or item.verified_at < self._due

    def _difference(self, item: _Listed) -> Fault | None:
        with self._database.session() as session:
            found = differences(session, self._blobs.place(item.digest), item.digest, item.size_bytes)
        return _of("differs", "; ".join(found), str(item.digest)) if found else None

    def _is_live(self, item: _Listed) -> bool:
        with self._database.session() as session:
            return str(item.digest) in live_digests(session, [item.digest])

    def _mended(self, fault: Fault, item: _Listed) -> Fault:
        """Repair what a second store can, and say who is concerned."""
        mended = Repair(is_whole=False)
        if self._second is not None:
            mended = repair(self._database, self._blobs, self._second, item.digest, item.size_bytes, kind=fault.kind)
        with self._database.session() as session:
            names = tuple(f"{name}@{number}" for name, number in revisions_of(session, str(item.digest)))
        message = "; ".join([fault.message, *mended.unread])
        return replace(fault, message=message, is_repaired=mended.is_whole, names=names)

    def _note_verified(self, digests: list[str], moment: datetime.datetime | None) -> None:
        if digests:
            mark = update(BlobRow).where(BlobRow.digest.in_(digests)).values(verified_at=moment)
            transact(self._database, lambda session: session.execute(mark))

    def rows(self) -> Iterator[Fault]:
        """Yield what is wrong with the rows."""
        with self._database.session() as session:
            for kind, message in broken_rows(session):
                yield Fault(kind=kind, message=message)

    def others(self) -> Iterator[Fault]:
        """Yield what the store holds and no artifact refers to."""
        batch: list[Digest] = []
        for digest in self._blobs.walk():
            batch.append(digest)
            if len(batch) == _PAGE:
                yield from self._extra(batch)
                batch = []
        yield from self._extra(batch)
        for path in self._blobs.strangers():
            yield Fault(kind="strange", message=f"{path} is no blob")

    def _extra(self, batch: list[Digest]) -> Iterator[Fault]:
        with self._database.session() as session:
            live = live_digests(session, batch)
        for digest in batch:
            if str(digest) not in live:
                yield _of("extra", f"no artifact refers to {self._blobs.place(digest)}", str(digest))


def _of(kind: str, message: str, digest: str) -> Fault:
    return Fault(kind=kind, message=message, digest=digest)
