"""Garbage is what nothing refers to, when it is old enough, and nothing else."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import RegistryError, RegistryNotFoundError, StorageError
from ual_registry.registry import files as file_handling
from ual_registry.registry import maintenance
from ual_registry.registry.audit import now
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.files import lock_unused
from ual_registry.registry.grace import moment_before, parse_duration
from ual_registry.registry.maintenance import Garbage, GcReport
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import (
    AliasRow,
    ArtifactRow,
    AuditRow,
    BlobRow,
    EntryRow,
    LineageRow,
    RevisionRow,
    RoleRow,
)

NOW = datetime.timedelta(0)
DAY = datetime.timedelta(days=1)


def put(store: BlobStore, data: bytes, *, age: datetime.timedelta = NOW) -> Digest:
    """Put bytes into a store that no row refers to."""
    digest = Digest.of_bytes(data)
    place = store.place(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    make_old(place, age)
    return digest


def make_old(path: Path, age: datetime.timedelta) -> None:
    """Let a file look older."""
    moment = path.stat().st_mtime - age.total_seconds()
    os.utime(path, (moment, moment))


def blob(store: BlobStore, digest: Digest, size: int) -> Garbage:
    """Return what ``gc`` says of a blob without an artifact."""
    return Garbage(kind="blob", digest=str(digest), path=str(store.place(digest)), size_bytes=size)


def logged(registry: Registry) -> list[tuple[str, str | None, dict]]:
    """Return what ``gc`` wrote into the audit log."""
    with registry.database.session() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == "gc").order_by(AuditRow.id)).all()
        return [(row.adapter_name, row.digest, row.detail) for row in rows]


def count(registry: Registry, table) -> int:
    with registry.database.session() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_an_empty_registry_has_no_garbage(registry: Registry) -> None:
    assert registry.gc(grace=NOW, apply=True, yanked=True) == GcReport(
        is_applied=True, grace_s=0, size_bytes=0, garbage=()
    )
    assert logged(registry) == []


def test_nothing_is_deleted_without_being_asked(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="a")
    digest = put(registry.blobs, b"loose", age=2 * DAY)

    report = registry.gc()

    assert report == GcReport(
        is_applied=False, grace_s=86_400, size_bytes=5, garbage=(blob(registry.blobs, digest, 5),)
    )
    assert registry.blobs.find(digest).read_bytes() == b"loose"
    assert logged(registry) == []


def test_what_nothing_refers_to_is_deleted_when_it_is_old_enough(registry: Registry, files: Files) -> None:
    kept = [Digest.parse(registry.add(files.make(), name="a").digest) for _ in range(3)]
    for digest in kept:
        make_old(registry.blobs.find(digest), 30 * DAY)
    old, young = put(registry.blobs, b"old", age=2 * DAY), put(registry.blobs, b"young")

    report = registry.gc(apply=True)

    assert report == GcReport(is_applied=True, grace_s=86_400, size_bytes=3, garbage=(blob(registry.blobs, old, 3),))
    assert list(registry.blobs.walk()) == sorted([*kept, young])
    assert logged(registry) == [("", None, {"digests": [str(old)], "size_bytes": 3})]
    assert list(registry.blobs.walk_staging()) == []
    assert registry.fsck(deep=True).faults == ()


def test_without_a_grace_everything_loose_goes_also_what_a_fast_clock_made(registry: Registry) -> None:
    digest = put(registry.blobs, b"from the future", age=-datetime.timedelta(minutes=5))
    assert registry.gc(grace=NOW, apply=True).garbage == (blob(registry.blobs, digest, 15),)
    assert list(registry.blobs.walk()) == []


def test_many_batches_are_swept(registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_BATCH", 3)
    kept = Digest.parse(registry.add(files.make(), name="a").digest)
    loose = sorted(put(registry.blobs, bytes([value])) for value in range(10))
    seen: list[tuple[str, int, int | None]] = []

    report = registry.gc(grace=NOW, apply=True, progress=lambda *step: seen.append(step))

    assert report.garbage == tuple(blob(registry.blobs, digest, 1) for digest in loose)
    assert list(registry.blobs.walk()) == [kept]
    assert seen == [("blobs", done, 1) for done in (0, 3, 6, 9)]


def test_what_an_interrupted_command_left_in_staging_goes(registry: Registry) -> None:
    registry.blobs.staging.mkdir(parents=True)
    old, young = registry.blobs.staging / "old", registry.blobs.staging / "young"
    for path in (old, young):
        path.write_bytes(b"half a file")
    make_old(old, 2 * DAY)

    assert registry.gc(apply=True).garbage == (Garbage(kind="staged", path=str(old), size_bytes=11),)
    assert list(registry.blobs.walk_staging()) == [young]


def test_a_file_that_somebody_is_about_to_refer_to_stays(registry: Registry, files: Files, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"data")
    with registry.blobs.stage(tmp_path / "source") as staged:
        assert registry.gc(grace=NOW, apply=True).garbage == ()
        assert staged.path.exists()
        with staged.keep():
            assert registry.gc(grace=NOW, apply=True).garbage == ()
            assert registry.blobs.find(staged.digest).read_bytes() == b"data"
    assert registry.gc(grace=NOW, apply=True).garbage == (blob(registry.blobs, staged.digest, 4),)


@pytest.mark.parametrize("is_held", [True, False])
def test_a_file_that_a_collection_finds_before_it_is_locked_is_given_up_for_another(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    """Another process sees the new file in staging, locks it first, and deletes it."""
    (tmp_path / "source").write_bytes(b"data")
    genuine = file_handling._lock
    seen: list[Path] = []

    def late(descriptor: int) -> bool:
        monkeypatch.setattr(file_handling, "_lock", genuine)
        seen.extend(registry.blobs.walk_staging())
        seen[0].unlink()
        return not is_held

    monkeypatch.setattr(file_handling, "_lock", late)
    with registry.blobs.stage(tmp_path / "source") as staged:
        assert staged.path not in seen
        staged.keep().release()
    assert registry.blobs.find(staged.digest).read_bytes() == b"data"
    assert list(registry.blobs.walk_staging()) == []


def test_a_blob_that_is_put_back_while_it_is_looked_at_stays(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process puts the same bytes in the same place after they were found to be loose."""
    digest = put(registry.blobs, b"data")
    place = registry.blobs.place(digest)
    genuine = maintenance._remove

    def late(*arguments):
        (tmp_path / "new").write_bytes(b"data")
        (tmp_path / "new").replace(place)
        return genuine(*arguments)

    monkeypatch.setattr(maintenance, "_remove", late)
    assert registry.gc(grace=NOW, apply=True).garbage == ()
    assert place.read_bytes() == b"data"


def test_an_artifact_that_comes_between_looking_and_deleting_stays(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.make()
    digest = put(registry.blobs, path.read_bytes())
    genuine = maintenance.live_digests
    asked = []

    def then_added(session, digests):
        found = genuine(session, digests)
        if not asked:
            asked.append(found)
            session.rollback()
            registry.add(path, name="a")
        return found

    monkeypatch.setattr(maintenance, "live_digests", then_added)
    assert registry.gc(grace=NOW, apply=True).garbage == ()
    assert asked == [set()]
    assert registry.blobs.find(digest).read_bytes() == path.read_bytes()
    assert registry.fsck().faults == ()


def test_a_row_without_bytes_and_artifact_goes(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="a")
    digest = Digest.of_bytes(b"gone")
    with registry.database.session(writes=True) as session:
        session.add(BlobRow(digest=str(digest), size_bytes=4, stored_at=datetime.datetime.now(datetime.UTC)))

    assert registry.gc().garbage == (Garbage(kind="row", digest=str(digest)),)
    assert registry.gc(apply=True).garbage == (Garbage(kind="row", digest=str(digest)),)
    assert registry.gc().garbage == ()
    assert count(registry, BlobRow) == 1


def yank(registry: Registry, reference: str, age: datetime.timedelta) -> None:
    """Yank a revision some time ago."""
    name, number = reference.split("@")
    registry.yank(reference, why="bad")
    then = datetime.datetime.now(datetime.UTC) - age
    with registry.database.session(writes=True) as session:
        own = (RevisionRow.adapter_name == name, RevisionRow.number == int(number))
        session.execute(update(RevisionRow).where(*own).values(yanked_at=then))


def test_yanked_revisions_leave_a_tombstone_when_asked(registry: Registry, files: Files, tmp_path: Path) -> None:
    parent = registry.add(files.make(), name="parent").digest
    child = registry.add(files.make(parents=((parent, "trained_from"),)), name="child").digest
    grandchild = registry.add(files.make(parents=((child, "trained_from"),)), name="grandchild").digest
    yank(registry, "child@1", 2 * DAY)
    size = registry.find("child@1").stat().st_size
    digest = Digest.parse(child)

    assert registry.gc(grace=NOW).garbage == ()
    assert registry.gc(yanked=True).garbage == (
        Garbage(kind="revision", digest=child, size_bytes=size, names=("child@1",)),
    )
    make_old(registry.find("child@1"), 2 * DAY)
    assert registry.gc(yanked=True, apply=True) == GcReport(
        is_applied=True,
        grace_s=86_400,
        size_bytes=size,
        garbage=(
            Garbage(kind="revision", digest=child, names=("child@1",)),
            blob(registry.blobs, digest, size),
        ),
    )
    with registry.database.session() as session:
        row = session.scalars(select(ArtifactRow).where(ArtifactRow.digest == child)).one()
        assert row.deleted_at is not None
        assert session.scalars(select(EntryRow.artifact_id).where(EntryRow.artifact_id == row.id)).all() == []
        assert session.scalars(select(RoleRow.artifact_id).where(RoleRow.artifact_id == row.id)).all() == []
        edges = session.execute(select(LineageRow.child_digest, LineageRow.parent_digest)).all()
    assert sorted(edges) == sorted([(child, parent), (grandchild, child)])
    assert (count(registry, BlobRow), count(registry, RevisionRow)) == (2, 3)
    assert logged(registry)[0] == ("child", child, {"number": 1})
    with pytest.raises(RegistryNotFoundError) as caught:
        registry.get("child@1", tmp_path / "out.air")
    today = datetime.datetime.now(datetime.UTC).date()
    assert caught.value.message == f"{child}: its bytes were deleted on {today}, a tombstone is left"
    assert registry.fsck(deep=True).faults == ()
    assert registry.gc(yanked=True, grace=NOW, apply=True).garbage == ()


def test_a_tombstone_comes_back_with_its_bytes(registry: Registry, files: Files) -> None:
    path = files.make()
    registry.add(path, name="a")
    yank(registry, "a@1", DAY)
    registry.gc(yanked=True, grace=NOW, apply=True)

    assert registry.add(path, name="b").number == 1
    assert registry.find("b").read_bytes() == path.read_bytes()
    report = registry.fsck(deep=True)
    assert (report.blobs, report.faults) == (1, ())


def test_no_name_is_given_to_a_revision_whose_bytes_were_deleted(registry: Registry, files: Files) -> None:
    path = files.make()
    registry.add(path, name="a", aliases=["production"])
    digest = registry.add(files.make(), name="a").digest
    yank(registry, "a@2", DAY)
    registry.gc(yanked=True, grace=NOW, apply=True)

    for change in (lambda: registry.alias("a", "production", "2"), lambda: registry.unyank("a@2")):
        with pytest.raises(RegistryNotFoundError) as caught:
            change()
        today = datetime.datetime.now(datetime.UTC).date()
        assert caught.value.message == f"{digest}: its bytes were deleted on {today}, a tombstone is left"
        assert caught.value.problem_code == "deleted"
    assert registry.find("a").read_bytes() == registry.find("a@production").read_bytes() == path.read_bytes()


def test_an_alias_that_came_to_a_tombstone_can_still_be_protected_and_moved(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="a")
    registry.add(files.make(), name="a")
    yank(registry, "a@2", DAY)
    registry.gc(yanked=True, grace=NOW, apply=True)
    with registry.database.session(writes=True) as session:  # as an import leaves it
        found = session.execute(select(RevisionRow.adapter_id, RevisionRow.id).where(RevisionRow.number == 2)).one()
        session.add(AliasRow(adapter_id=found[0], name="old", revision_id=found[1], is_protected=False, moved_at=now()))

    assert registry.alias("a", "old", protect=True).number == 2
    assert registry.alias("a", "old", "1", force=True, why="its bytes are gone").number == 1


def test_what_became_of_a_tombstone_is_told_by_its_digest_as_by_its_name(
    registry: Registry, files: Files, tmp_path: Path
) -> None:
    digest = registry.add(files.make(), name="a").digest
    yank(registry, "a@1", DAY)
    registry.gc(yanked=True, grace=NOW, apply=True)

    assert [entry.action for entry in registry.log(digest)] == ["gc", "yank", "add"]
    assert str(registry.resolve("a@1")) == digest
    uses = [(registry.resolve, digest), (registry.find, digest), (registry.find, "a@1")]
    uses += [(lambda reference: registry.get(reference, tmp_path / "out.air"), name) for name in (digest, "a@1")]
    for use, reference in uses:
        with pytest.raises(RegistryNotFoundError) as caught:
            use(reference)
        assert caught.value.problem_code == "deleted"


@pytest.mark.parametrize("reason", ["alias", "other revision", "too young", "undone"])
def test_a_yanked_revision_stays_where_something_speaks_for_it(registry: Registry, files: Files, reason: str) -> None:
    path = files.make()
    registry.add(path, name="a", aliases=["production"] if reason == "alias" else [])
    if reason == "other revision":
        registry.add(path, name="b")
    yank(registry, "a@1", NOW if reason == "too young" else 2 * DAY)
    if reason == "undone":
        registry.unyank("a@1")

    assert registry.gc(yanked=True, apply=True).garbage == ()
    assert registry.find("a@1").read_bytes() == path.read_bytes()


def test_a_revision_that_is_shown_again_before_its_turn_stays(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(files.make(), name="a")
    yank(registry, "a@1", 2 * DAY)
    genuine = maintenance.transact

    def too_late(*arguments):
        monkeypatch.setattr(maintenance, "transact", genuine)
        registry.unyank("a@1")
        return genuine(*arguments)

    monkeypatch.setattr(maintenance, "transact", too_late)
    assert registry.gc(yanked=True, apply=True).garbage == ()
    assert registry.find("a@1").exists()


def test_a_failing_transaction_deletes_no_row(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put(registry.blobs, b"loose")

    def stop(*_, **__):
        raise StorageError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "write_log", stop)
        with pytest.raises(StorageError, match="stop"):
            registry.gc(grace=NOW, apply=True)
    assert count(registry, BlobRow) == 0
    assert not registry.blobs.place(digest).exists()
    assert registry.fsck().faults == ()
    assert registry.gc(grace=NOW, apply=True).garbage == ()


def test_files_with_other_names_are_never_deleted(registry: Registry) -> None:
    digest = put(registry.blobs, b"x")
    place = registry.blobs.place(digest)
    strange = [place.parent / "README", registry.blobs.root / "sha256" / "note.txt", registry.blobs.root / "mine"]
    for path in strange:
        path.write_text("mine")
    wrong = registry.blobs.root / "sha256" / "zz" / digest.hex
    wrong.parent.mkdir()
    wrong.write_text("mine")
    link = place.parent / (place.parent.name + "0" * 62)
    link.symlink_to(strange[2])
    folder = place.parent / (place.parent.name + "1" * 62)
    folder.mkdir()

    registry.gc(grace=NOW, apply=True)

    assert [path.read_text() for path in (*strange, wrong)] == ["mine"] * 4
    assert link.is_symlink()
    assert folder.is_dir()


def test_a_file_that_is_gone_or_held_is_nobodys_garbage(tmp_path: Path) -> None:
    with lock_unused(tmp_path / "none") as state:
        assert state is None
    (tmp_path / "held").write_bytes(b"x")
    with lock_unused(tmp_path / "held") as first, lock_unused(tmp_path / "held") as second:
        assert (first is not None, second) == (True, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("2m", 120), ("24h", 86_400), ("7d", 604_800), ("1w", 604_800)],
)
def test_durations_are_whole_numbers_with_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == datetime.timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "h", "-1", "1.5h", "1y", "1 h", "٣h", "1" * 10 + "h", "24h\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_duration(text)
    assert caught.value.message == f"duration {text!r}: expected a whole number of at most 9 digits and s, m, h, d or w"
    assert (caught.value.problem_code, caught.value.hint) == ("duration", "such as 24h or 7d")


def test_a_grace_longer_than_time_keeps_everything() -> None:
    assert moment_before(parse_duration("999999999w")) == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
