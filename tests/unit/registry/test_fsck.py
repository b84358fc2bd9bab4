"""What is damaged is found and named; what a second store has whole is mended, and nothing is deleted."""

from __future__ import annotations

import datetime
import errno
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, StorageError
from ual_registry.registry import fsck
from ual_registry.registry.fsck import Fault, FsckReport
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import (
    AdapterRow,
    ArtifactRow,
    AuditRow,
    BlobRow,
    EntryRow,
    LineageRow,
    RevisionRow,
    TagRow,
)


def flip(path: Path) -> Digest:
    """Change one byte of a file and return the digest that it has now."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    return Digest.of_bytes(bytes(data))


def verified(registry: Registry) -> dict[str, datetime.datetime | None]:
    with registry.database.session() as session:
        return {row.digest: row.verified_at for row in session.scalars(select(BlobRow))}


def change(registry: Registry, statement) -> None:
    with registry.database.session(writes=True) as session:
        session.execute(statement)


@pytest.fixture
def three(registry: Registry, files: Files) -> list[str]:
    """The digests of three revisions of one adapter, of which one has a second name."""
    paths = [files.make() for _ in range(3)]
    digests = [registry.add(path, name="medical").digest for path in paths]
    registry.add(paths[0], name="copy")
    return digests


@pytest.fixture
def second(registry: Registry, three: list[str], tmp_path: Path) -> Path:
    """A whole copy of the store."""
    shutil.copytree(registry.blobs.root, tmp_path / "second")
    return tmp_path / "second"


def test_an_empty_registry_is_sound(registry: Registry) -> None:
    report = registry.fsck(deep=True)
    assert (report, report.is_sound) == (FsckReport(blobs=0, hashed_bytes=0, faults=(), notes=()), True)


def test_a_sound_registry_is_re_hashed_and_that_is_noted(registry: Registry, three: list[str]) -> None:
    size = sum(registry.blobs.place(Digest.parse(digest)).stat().st_size for digest in three)
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    assert registry.fsck(quick=True) == FsckReport(blobs=3, hashed_bytes=0, faults=(), notes=())
    assert set(verified(registry).values()) == {None}

    assert registry.fsck(deep=True) == FsckReport(blobs=3, hashed_bytes=size, faults=(), notes=())

    moments = [at.replace(tzinfo=at.tzinfo or datetime.UTC) for at in verified(registry).values() if at is not None]
    assert len(moments) == 3
    assert all(before < moment for moment in moments)


def test_what_was_re_hashed_lately_is_not_re_hashed(registry: Registry, three: list[str]) -> None:
    hour = datetime.timedelta(hours=1)
    assert registry.fsck(since=hour).hashed_bytes > 0
    assert registry.fsck(since=hour).hashed_bytes == 0
    old = datetime.datetime.now(datetime.UTC) - 2 * hour
    change(registry, update(BlobRow).where(BlobRow.digest == three[1]).values(verified_at=old))
    assert registry.fsck(since=hour).hashed_bytes == registry.find("medical@2").stat().st_size


def test_what_was_found_broken_is_looked_at_again_however_soon(registry: Registry, three: list[str]) -> None:
    hour = datetime.timedelta(hours=1)
    assert registry.fsck().is_sound
    flip(registry.blobs.place(Digest.parse(three[0])))
    registry.blobs.place(Digest.parse(three[1])).unlink()
    found = registry.fsck().faults
    assert {(fault.digest, fault.kind) for fault in found} == {(three[0], "damaged"), (three[1], "missing")}
    assert registry.fsck(since=hour).faults == found
    assert {digest for digest, at in verified(registry).items() if at is None} == set(three[:2])


def test_a_circle_of_lineage_is_told(registry: Registry, files: Files) -> None:
    """Rows that other hands wrote: what leads to a circle, and what was made from one, is on none."""
    made = [registry.add(files.make(), name=f"n{number}").digest for number in range(6)]
    edges = [(0, 1), (1, 2), (2, 1), (2, 3), (3, 4), (5, 4)]
    with registry.database.session(writes=True) as session:
        for child, parent in edges:
            session.add(LineageRow(child_digest=made[child], parent_digest=made[parent], relation="merged_from"))
    assert registry.fsck().faults == tuple(
        Fault(kind="circle", message=f"{digest} is among artifacts that were made from each other")
        for digest in sorted(made[1:3])
    )


def test_every_way_of_being_broken_is_told(registry: Registry, three: list[str], tmp_path: Path) -> None:
    missing, damaged, short = (registry.blobs.place(Digest.parse(digest)) for digest in three)
    missing.unlink()
    actual = flip(damaged)
    short.write_bytes(short.read_bytes()[:-1])
    size = short.stat().st_size
    extra = registry.blobs.place(Digest.of_bytes(b"extra"))
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"extra")
    (registry.blobs.root / "sha256" / "note").write_text("mine")

    report = registry.fsck()

    faults = [
        Fault(
            kind="missing",
            message=f"the store does not hold {missing}",
            digest=three[0],
            names=("copy@1", "medical@1"),
        ),
        Fault(
            kind="damaged",
            message=f"{damaged} has {actual}, expected {three[1]}",
            digest=three[1],
            names=("medical@2",),
        ),
        Fault(
            kind="wrong-size",
            message=f"{short} has {size} bytes, expected {size + 1}",
            digest=three[2],
            names=("medical@3",),
        ),
    ]
    assert report == FsckReport(
        blobs=3,
        hashed_bytes=size + 1,
        faults=tuple(sorted(faults, key=lambda fault: str(fault.digest))),
        notes=(
            Fault(kind="extra", message=f"no artifact refers to {extra}", digest=str(Digest.of_bytes(b"extra"))),
            Fault(kind="strange", message=f"{registry.blobs.root / 'sha256' / 'note'} is no blob"),
        ),
    )
    assert report.is_sound is False
    assert set(verified(registry).values()) == {None}
    quick = registry.fsck(quick=True)
    assert sorted(fault.kind for fault in quick.faults) == ["missing", "wrong-size"]
    with pytest.raises(DigestMismatchError) as caught:
        registry.get("medical@2", tmp_path / "out.air")
    assert str(damaged) in caught.value.message
    with pytest.raises(DigestMismatchError) as caught:
        registry.get("medical@3", tmp_path / "out.air")
    assert caught.value.message == f"{short}: stored bytes have {size} bytes, expected {size + 1}"
    assert not (tmp_path / "out.air").exists()


@pytest.mark.parametrize("shape", ["store", "home", "export"])
def test_a_second_store_mends_what_is_missing_or_damaged(
    registry: Registry, three: list[str], second: Path, tmp_path: Path, shape: str
) -> None:
    if shape == "home":
        (tmp_path / "home2").mkdir()
        second = second.rename(tmp_path / "home2" / "blobs").parent
    if shape == "export":
        registry.export(tmp_path / "exported")
        second = tmp_path / "exported"
    whole = [registry.blobs.place(Digest.parse(digest)).read_bytes() for digest in three]
    missing, damaged, short = (registry.blobs.place(Digest.parse(digest)) for digest in three)
    missing.unlink()
    flip(damaged)
    bad = damaged.read_bytes()
    short.write_bytes(b"short")

    report = registry.fsck(repair_from=second)

    assert [(fault.kind, fault.is_repaired) for fault in report.faults] == [
        (kind, True) for _, kind in sorted(zip(three, ["missing", "damaged", "wrong-size"], strict=True))
    ]
    assert report.is_sound is True
    assert [registry.blobs.place(Digest.parse(digest)).read_bytes() for digest in three] == whole
    aside = {path.name: path.read_bytes() for path in registry.blobs.quarantine.iterdir()}
    assert aside == {f"{damaged.name}.0": bad, f"{short.name}.0": b"short"}
    assert registry.fsck(deep=True).faults == ()
    assert list(registry.blobs.walk_staging()) == []
    with registry.database.session() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == "fsck")).all()
        assert sorted(str(row.digest) for row in rows) == sorted(three)
        assert all(row.detail["source"].startswith(str(second)) for row in rows)


def test_a_second_damage_is_put_beside_the_first(registry: Registry, three: list[str], second: Path) -> None:
    place = registry.blobs.place(Digest.parse(three[0]))
    for data in (b"one", b"two"):
        place.write_bytes(data)
        assert registry.fsck(repair_from=second).is_sound
    aside = sorted(registry.blobs.quarantine.iterdir())
    assert [(path.name, path.read_bytes()) for path in aside] == [
        (f"{place.name}.0", b"one"),
        (f"{place.name}.1", b"two"),
    ]


def test_a_copy_that_is_damaged_too_mends_nothing(registry: Registry, three: list[str], second: Path) -> None:
    place = registry.blobs.place(Digest.parse(three[0]))
    flip(place)
    bad = place.read_bytes()
    copy = second / place.relative_to(registry.blobs.root)
    copy.write_bytes(bad)

    report = registry.fsck(repair_from=second)

    assert [(fault.kind, fault.is_repaired) for fault in report.faults] == [("damaged", False)]
    assert place.read_bytes() == bad
    assert not registry.blobs.quarantine.exists()
    assert list(registry.blobs.walk_staging()) == []
    copy.unlink()
    assert registry.fsck(repair_from=second).is_sound is False


def test_a_copy_that_cannot_be_read_mends_nothing_and_the_others_are_mended(
    registry: Registry, three: list[str], second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [registry.blobs.place(Digest.parse(digest)) for digest in sorted(three)]
    for place in places:
        flip(place)
    copies = [second / place.relative_to(registry.blobs.root) for place in places]
    whole = [copy.read_bytes() for copy in copies]
    bad = [place.read_bytes() for place in places]
    # A disk that fails within the first file, and a system that does not tell of the second.
    _fail(monkeypatch, copies[0], "open", lambda *_: _Failing())
    _fail(monkeypatch, copies[1], "is_file", _denied)

    report = registry.fsck(repair_from=second)

    assert [(fault.is_repaired, fault.message.partition("; ")[2]) for fault in report.faults] == [
        (False, f"cannot read {copies[0]}: Input/output error"),
        (False, f"cannot read {copies[1]}: Permission denied"),
        (True, ""),
    ]
    assert [place.read_bytes() for place in places] == [*bad[:2], whole[2]]
    assert list(registry.blobs.walk_staging()) == []


class _Failing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _denied(*_: object) -> bool:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _fail(monkeypatch: pytest.MonkeyPatch, path: Path, name: str, instead: Callable[..., Any]) -> None:
    """Let one method of one path fail."""
    usual = getattr(Path, name)

    def method(own: Path, *given: Any, **more: Any) -> Any:
        return instead() if own == path else usual(own, *given, **more)

    monkeypatch.setattr(Path, name, method)


def test_a_folder_in_the_place_of_a_blob_is_put_aside(registry: Registry, three: list[str], second: Path) -> None:
    place = registry.blobs.place(Digest.parse(three[0]))
    place.unlink()
    place.mkdir()
    (place / "mine").write_text("kept")
    assert registry.fsck(repair_from=second).is_sound
    assert (registry.blobs.quarantine / f"{place.name}.0" / "mine").read_text() == "kept"


@pytest.mark.parametrize("inside", ["", "blobs"])
def test_a_store_does_not_mend_itself(registry: Registry, three: list[str], inside: str) -> None:
    home = registry.blobs.root if inside else registry.blobs.root.parent
    with pytest.raises(StorageError) as caught:
        registry.fsck(repair_from=home)
    assert (caught.value.message, caught.value.problem_code) == (
        f"{home}: is the store that is to be mended",
        "no-store",
    )
    assert registry.fsck().is_sound


def test_a_second_store_that_holds_no_blobs_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        registry.fsck(repair_from=tmp_path / "none")
    assert (caught.value.message, caught.value.problem_code) == (f"{tmp_path / 'none'}: holds no blobs", "no-store")


def test_a_row_of_a_blob_that_is_missing_or_wrong_is_told_and_mended(
    registry: Registry, three: list[str], second: Path
) -> None:
    size = registry.find("medical@1").stat().st_size
    change(registry, delete(BlobRow).where(BlobRow.digest == three[0]))
    change(registry, update(BlobRow).where(BlobRow.digest == three[1]).values(size_bytes=1))

    messages = {fault.digest: (fault.kind, fault.message) for fault in registry.fsck().faults}

    assert messages == {
        three[0]: ("unlisted", f"the row of the blob is not there, expected {size} bytes"),
        three[1]: ("unlisted", f"the row of the blob says 1 bytes, expected {size} bytes"),
    }
    assert registry.fsck(repair_from=second).is_sound
    assert registry.fsck().faults == ()


def test_rows_that_differ_from_the_manifest_are_told_when_looked_at_deeply(
    registry: Registry, three: list[str], files: Files
) -> None:
    child = registry.add(files.make(parents=((three[0], "trained_from"),)), name="child").digest
    wrong = select(ArtifactRow.id).where(ArtifactRow.digest == three[0]).scalar_subquery()
    change(registry, update(ArtifactRow).where(ArtifactRow.digest == three[1]).values(method="magic"))
    change(registry, update(EntryRow).where(EntryRow.artifact_id == wrong, EntryRow.position == 0).values(rank=99))
    change(registry, delete(LineageRow).where(LineageRow.child_digest == child))

    stale = "revision medical@2 keeps other values than those of its artifact"
    assert [(fault.kind, fault.message) for fault in registry.fsck().faults] == [("stale", stale)]
    messages = {fault.digest: (fault.kind, fault.message) for fault in registry.fsck(deep=True).faults}

    assert messages == {
        None: ("stale", stale),
        three[0]: ("differs", "entries: 3 rows differ from the 3 of the manifest"),
        three[1]: ("differs", "artifacts.method: 'magic', expected 'lora'"),
        child: ("differs", "lineage_edges: the parents differ from those of the manifest"),
    }


def test_a_blob_that_is_no_longer_legal_is_told_when_looked_at_deeply(
    registry: Registry, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = registry.find("medical@1")
    place.write_bytes(b"\0" * place.stat().st_size)
    (fault,) = registry.fsck(quick=True, deep=True).faults
    assert (fault.kind, fault.message) == (
        "differs",
        f"it is not legal AIR: {place}: header starts with b'', expected b'{{'",
    )


def test_rows_that_lead_nowhere_are_told(registry: Registry, three: list[str], files: Files) -> None:
    registry.alias("medical", "good", "1")
    registry.alias("medical", "bad", "2")
    other = registry.revisions("copy")[0]
    assert other.number == 1
    foreign = select(RevisionRow.id).where(RevisionRow.adapter_name == "copy").scalar_subquery()
    with registry.database.session() as session:
        row = session.execute(select(foreign)).scalar_one()
    change(registry, text(f"UPDATE aliases SET revision_id = {row} WHERE name = 'bad'"))
    change(registry, update(AdapterRow).where(AdapterRow.name == "copy").values(newest=7))
    change(registry, update(RevisionRow).where(RevisionRow.number == 3).values(adapter_name="another"))
    registry.tag("medical@1", {"team": "search"})
    change(registry, update(TagRow).values(number=9))

    other_labels = "keeps another owner, other aliases or other tags than it has"
    other_words = "is listed with other words than those of its text"
    listed = [] if registry.database.is_sqlite else [("stale", f"revision another@3 {other_words}")]
    assert [(fault.kind, fault.message) for fault in registry.fsck().faults] == [
        ("dangling", f"adapter 'medical' has alias 'bad' on row {row}, which is no revision of it"),
        ("dangling", "revision another@3 has no artifact or no adapter of its name"),
        ("stale", f"revision copy@1 {other_labels}"),
        ("stale", f"revision medical@2 {other_labels}"),
        ("stale", "revision medical@1 has tags that stand under another name or number"),
        *listed,
        ("number", "adapter 'copy' says that its newest revision is 7, and it is 1"),
    ]


def test_an_artifact_that_is_deleted_meanwhile_is_no_fault(
    registry: Registry, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = registry.find("medical@1")
    place.unlink()
    monkeypatch.setattr(fsck, "live_digests", lambda *_: set(three[1:]))
    assert registry.fsck().faults == ()


def test_pages_are_gone_through_to_the_end(
    registry: Registry, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck, "_PAGE", 2)
    seen: list[tuple[str, int, int | None]] = []
    assert registry.fsck(progress=lambda *step: seen.append(step)).blobs == 3
    assert seen == [("blobs", number, 3) for number in range(4)]
