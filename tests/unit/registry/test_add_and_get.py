"""Bytes go in and come out as they were; what is not legal leaves nothing behind."""

from __future__ import annotations

import datetime
import errno
import os
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import (
    ContainerError,
    DigestMismatchError,
    FormatError,
    RegistryError,
    RegistryNotFoundError,
    StorageError,
    UALError,
)
from ual_registry.registry import adding, blobs
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.records import AddResult, AliasMove
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AuditRow, BaseModelRow, Table
from ual_registry.registry.views import RevisionRecord, RoleSummary


def row_counts(registry: Registry) -> dict[str, int]:
    """Return how many rows each table holds."""
    with registry.database.session() as session:
        return {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Table.metadata.tables.items()
        }


def stored_files(registry: Registry) -> list[str]:
    """Return every file of the blob store."""
    root = registry.blobs.root
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def audit(registry: Registry) -> list[tuple[str, str, str | None, dict[str, object]]]:
    with registry.database.session() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.id))
        return [(row.action, row.adapter_name, row.digest, row.detail) for row in rows]


EMPTY = dict.fromkeys(Table.metadata.tables, 0)


def test_a_file_becomes_the_first_revision_with_one_row_in_each_table(registry: Registry, files: Files) -> None:
    path = files.make()
    digest = str(Digest.of_file(path))

    assert registry.add(path, name="medical") == AddResult(
        name="medical", number=1, digest=digest, is_new=True, moves=()
    )

    assert row_counts(registry) == EMPTY | {
        "blobs": 1,
        "base_models": 1,
        "artifacts": 1,
        "entries": 3,
        "artifact_roles": 3,
        "adapters": 1,
        "revisions": 1,
        "revision_texts": 1,
        "audit_log": 1,
    }
    assert stored_files(registry) == [f"sha256/{digest[7:9]}/{digest[7:]}"]
    assert audit(registry) == [("add", "medical", digest, {"number": 1})]


def test_what_a_revision_says_of_its_artifact_is_what_the_manifest_says(registry: Registry, files: Files) -> None:
    path = files.make(domain="medical", license="MIT", name="a label")
    before = datetime.datetime.now(datetime.UTC)
    digest = registry.add(path, name="medical", aliases=["b", "a"]).digest

    (found,) = registry.revisions("medical")

    assert before <= found.created_at <= datetime.datetime.now(datetime.UTC)
    assert found == RevisionRecord(
        name="medical",
        number=1,
        digest=digest,
        created_at=found.created_at,
        owner=None,
        aliases=("a", "b"),
        tags={},
        kind="adapter",
        title="a label",
        base="tiny",
        architecture="gpt_neox",
        method="lora",
        domain="medical",
        license="MIT",
        ranks=(2,),
        roles=("attention_key", "attention_query", "mlp_up"),
        targets=tuple(
            RoleSummary(stack=None, role=role, rank=2, entry_count=1, first_layer=0, last_layer=0)
            for role in ("attention_key", "attention_query", "mlp_up")
        ),
        parameter_count=8 + 8 + 8 + 8 + 12,
        size_bytes=path.stat().st_size,
        recovered_gain=None,
        evaluations=(),
        yank_reason=None,
    )


def test_the_same_bytes_under_the_same_name_are_the_same_revision(registry: Registry, files: Files) -> None:
    path = files.make()
    first = registry.add(path, name="medical")
    counts = row_counts(registry)

    again = registry.add(path, name="medical")

    assert again == AddResult(name="medical", number=1, digest=first.digest, is_new=False)
    assert row_counts(registry) == counts


def test_bytes_that_are_yanked_stay_so_and_it_is_said(registry: Registry, files: Files) -> None:
    path = files.make()
    first = registry.add(path, name="medical")
    registry.yank("medical@1", why="wrong data")

    again = registry.add(path, name="medical")

    assert again == AddResult(name="medical", number=1, digest=first.digest, is_new=False, is_yanked=True)
    assert [record.yank_reason for record in registry.revisions("medical")] == ["wrong data"]


def test_old_bytes_keep_their_number_when_newer_ones_came(registry: Registry, files: Files) -> None:
    old, new = files.make(), files.make()
    registry.add(old, name="medical")
    registry.add(new, name="medical")
    assert (registry.add(old, name="medical").number, registry.add(old, name="medical").is_new) == (1, False)
    assert [record.number for record in registry.revisions("medical")] == [2, 1]


def test_the_same_bytes_under_two_names_are_one_artifact(registry: Registry, files: Files) -> None:
    path = files.make()
    one, two = registry.add(path, name="one"), registry.add(path, name="two")

    assert (one.digest, one.number, one.is_new) == (two.digest, two.number, two.is_new)
    counts = row_counts(registry)
    assert (counts["artifacts"], counts["entries"], counts["adapters"], counts["revisions"]) == (1, 3, 2, 2)
    assert len(stored_files(registry)) == 1


def test_other_bytes_take_the_next_number_and_share_the_base_model(registry: Registry, files: Files) -> None:
    numbers = [registry.add(files.make(), name="medical").number for _ in range(4)]
    assert numbers == [1, 2, 3, 4]
    with registry.database.session() as session:
        assert session.scalars(select(BaseModelRow.label)).all() == ["tiny"]


def test_adding_sets_aliases_and_logs_each(registry: Registry, files: Files) -> None:
    first = registry.add(files.make(), name="medical", aliases=["candidate"])
    second = registry.add(files.make(), name="medical", aliases=["candidate", "newest"])

    assert first.moves == (AliasMove(name="medical", alias="candidate", previous=None, number=1),)
    assert second.moves == (
        AliasMove(name="medical", alias="candidate", previous=1, number=2),
        AliasMove(name="medical", alias="newest", previous=None, number=2),
    )
    assert audit(registry) == [
        ("add", "medical", first.digest, {"number": 1}),
        ("alias", "medical", None, {"alias": "candidate", "previous": None, "number": 1}),
        ("add", "medical", second.digest, {"number": 2}),
        ("alias", "medical", None, {"alias": "candidate", "previous": 1, "number": 2}),
        ("alias", "medical", None, {"alias": "newest", "previous": None, "number": 2}),
    ]


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(64))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_factor(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def flip_the_manifest(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"number 1", b"number 2"))


@pytest.mark.parametrize("spoil", [garbage, cut, flip_a_factor, flip_the_manifest])
def test_an_illegal_file_is_refused_and_nothing_is_left_behind(registry: Registry, files: Files, spoil) -> None:
    path = files.make()
    spoil(path)

    with pytest.raises(FormatError) as caught:
        registry.add(path, name="medical", aliases=["candidate"])

    assert "staging" not in caught.value.message
    assert row_counts(registry) == EMPTY
    assert stored_files(registry) == []


def test_an_illegal_file_is_told_of_under_its_own_name(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "short.air"
    path.write_bytes(b"1234567")
    with pytest.raises(ContainerError) as caught:
        registry.add(path, name="medical")
    assert caught.value.message == f"{path}: file has 7 bytes, fewer than the 8 that hold the header's length"
    assert not registry.blobs.root.exists()


@pytest.mark.parametrize(
    ("name", "aliases", "message"),
    [
        (
            "",
            [],
            "adapter name '': expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit",
        ),
        (
            "../x",
            [],
            "adapter name '../x': expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit",
        ),
        (
            "a\n",
            [],
            "adapter name 'a\\n': expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit",
        ),
        ("a", ["7"], "alias '7': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone"),
        ("a", ["ok", "a b"], "alias 'a b': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone"),
    ],
)
def test_a_name_that_is_none_is_refused_before_the_file_is_looked_at(
    registry: Registry, name: str, aliases: list[str], message: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.add("no/such/file.air", name=name, aliases=aliases)
    assert (caught.value.message, caught.value.problem_code) == (message, "name")


def test_a_missing_file_is_told_of(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        registry.add(tmp_path / "none.air", name="medical")
    assert caught.value.message == f"cannot read {tmp_path / 'none.air'}: No such file or directory"
    assert row_counts(registry) == EMPTY


def test_a_store_that_is_no_folder_is_told_of(registry: Registry, files: Files) -> None:
    registry.blobs.root.parent.mkdir(exist_ok=True)
    registry.blobs.root.write_text("in the way")
    with pytest.raises(StorageError) as caught:
        registry.add(files.make(), name="medical")
    assert caught.value.message == f"cannot write {registry.blobs.root / 'staging'}: Not a directory"
    assert row_counts(registry) == EMPTY


def test_a_disk_that_fills_while_copying_leaves_nothing(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(blobs.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        registry.add(files.make(), name="medical")
    assert caught.value.exit_code == 11
    assert (row_counts(registry), stored_files(registry)) == (EMPTY, [])


def test_a_place_that_cannot_be_made_leaves_no_row(registry: Registry, files: Files) -> None:
    path = files.make()
    digest = Digest.of_file(path)
    place = registry.blobs.place(digest)
    place.parent.parent.mkdir(parents=True)
    place.parent.write_text("in the way")
    with pytest.raises(StorageError) as caught:
        registry.add(path, name="medical")
    assert caught.value.message == f"cannot write {place}: File exists"
    assert row_counts(registry) == EMPTY
    assert stored_files(registry) == [f"sha256/{digest.hex[:2]}"]


def test_a_source_that_goes_away_while_it_is_staged_is_told_of(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    with pytest.raises(StorageError) as caught, store.stage(tmp_path / "none"):
        pass
    assert caught.value.message == f"cannot read {tmp_path / 'none'}: No such file or directory"
    assert list((tmp_path / "blobs" / "staging").iterdir()) == []


def test_a_failing_transaction_leaves_a_blob_and_no_row(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is blob, then row: what a crash leaves is a blob without a row, and adding again is enough."""
    path = files.make()
    with monkeypatch.context() as patch:
        patch.setattr(adding, "add_revisions", lambda *_: (_ for _ in ()).throw(UALError("stop")))
        with pytest.raises(UALError, match="stop"):
            registry.add(path, name="medical")
    assert row_counts(registry) == EMPTY
    assert len(stored_files(registry)) == 1

    assert registry.add(path, name="medical").is_new is True
    assert len(stored_files(registry)) == 1


def test_the_exact_bytes_come_back(registry: Registry, files: Files, tmp_path: Path) -> None:
    path = files.make()
    digest = Digest.of_file(path)
    registry.add(path, name="medical", aliases=["candidate"])
    for index, reference in enumerate(("medical", "medical@1", "medical@candidate", str(digest))):
        target = tmp_path / f"out{index}"
        assert registry.get(reference, target) == digest
        assert target.read_bytes() == path.read_bytes()
        assert registry.resolve(reference) == digest
        assert registry.find(reference) == registry.blobs.place(digest)


def test_a_name_means_its_newest_revision(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="medical")
    newest = registry.add(files.make(), name="medical")
    assert str(registry.resolve("medical")) == newest.digest


def test_a_damaged_blob_is_refused_and_nothing_is_left(registry: Registry, files: Files, tmp_path: Path) -> None:
    digest = registry.add(files.make(), name="medical").digest
    blob = registry.find("medical")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 0x10
    blob.write_bytes(data)
    target = tmp_path / "out" / "medical.air"
    target.parent.mkdir()
    target.write_text("what stood here")

    with pytest.raises(DigestMismatchError) as caught:
        registry.get("medical", target)

    assert caught.value.message == f"{blob}: stored bytes have {Digest.of_bytes(bytes(data))}, expected {digest}"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("the blob was damaged on the disk")
    assert [path.name for path in target.parent.iterdir()] == ["medical.air"]
    assert target.read_text() == "what stood here"


def test_adding_the_file_again_mends_a_damaged_blob(registry: Registry, files: Files, tmp_path: Path) -> None:
    path = files.make()
    registry.add(path, name="medical")
    registry.find("medical").write_bytes(b"")
    assert registry.add(path, name="medical").is_new is False
    registry.get("medical", tmp_path / "out.air")
    assert (tmp_path / "out.air").read_bytes() == path.read_bytes()


def test_a_missing_blob_is_told_of(registry: Registry, files: Files, tmp_path: Path) -> None:
    digest = registry.add(files.make(), name="medical").digest
    registry.find("medical").unlink()
    with pytest.raises(RegistryNotFoundError) as caught:
        registry.get("medical", tmp_path / "out.air")
    assert caught.value.message == (
        f"{digest}: the database knows this artifact, the blob store at {registry.blobs.root} does not hold it"
    )
    assert caught.value.hint is not None
    assert "add" in caught.value.hint
    assert not (tmp_path / "out.air").exists()


def test_a_blob_that_cannot_be_read_is_told_of(
    registry: Registry, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest.parse(registry.add(files.make(), name="medical").digest)
    monkeypatch.setattr(BlobStore, "find", lambda self, _: self.root / "gone")
    with pytest.raises(StorageError) as caught:
        registry.blobs.export(digest, tmp_path / "out.air")
    assert caught.value.message == f"cannot read {registry.blobs.root / 'gone'}: No such file or directory"
    assert not (tmp_path / "out.air").exists()


def test_a_folder_that_is_not_there_is_told_of(registry: Registry, files: Files, tmp_path: Path) -> None:
    registry.add(files.make(), name="medical")
    with pytest.raises(StorageError) as caught:
        registry.get("medical", tmp_path / "none" / "out.air")
    assert caught.value.message == f"cannot write {tmp_path / 'none' / 'out.air'}: No such file or directory"


def test_a_registry_gives_its_connections_back_at_the_end_of_its_block(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "home") as found:
        assert found.list().items == ()
        assert "Connections in pool: 1" in found.database.engine.pool.status()
    assert "Connections in pool: 0" in found.database.engine.pool.status()
    assert found.list().items == ()  # a later question opens another
