"""A registry in a folder: everything goes, the same bytes come back, and what is here already is never lost."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.oci import check_layout, tree
from tests.unit.registry.conftest import Files
from ual_registry.air.schema import schema_problems
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, QueryError, RegistryConflictError, RegistryError, StorageError
from ual_registry.registry import export_document, importing, links
from ual_registry.registry.exchange import DOCUMENT_TYPE, ExportReport
from ual_registry.registry.importing import ImportedAdapter, ImportReport
from ual_registry.registry.records import HubPlace
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import Table

NOW = datetime.timedelta(0)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Registry]:
    """A second registry, embedded."""
    found = Registry.open(tmp_path / "other")
    yield found
    found.database.engine.dispose()


@pytest.fixture
def full(registry: Registry, files: Files) -> Registry:
    """A registry that holds some of everything."""
    first = registry.add(
        files.make(tags=("manifest-tag",), domain="medical", license="apache-2.0"),
        name="medical",
        aliases=["production", "candidate"],
        tags={"team": "search", "plain": ""},
        owner="search-team",
        description="What doctors ask.",
    )
    second = registry.add(files.make(parents=((first.digest, "trained_from"),)), name="medical")
    third = registry.add(files.make(parents=((second.digest, "trained_from"),)), name="legal", tags={"Ä": "ö=ü"})
    registry.add(files.make(), name="medical")
    registry.alias("medical", "production", "1", protect=True)
    registry.yank("medical@3", why="worse than 1")
    registry.yank("medical@2", why="leaked")
    registry.gc(grace=NOW, yanked=True, apply=True)
    registry.add(files.make(), name="medical")
    registry.yank("medical@4", why="hidden and here")
    with registry.database.session(writes=True) as session:
        place = HubPlace(repository="team/medical", commit="c" * 40, path="medical.air")
        links.record_hub_link(session, first.digest, place, direction="push")
        links.record_attestation(
            session,
            third.digest,
            predicate_type="https://slsa.dev/provenance/v1",
            signer="me",
            statement_digest=str(Digest.of_bytes(b"statement")),
            envelope={"payload": "x", "signatures": [{"sig": "y"}]},
        )
    return registry


def document(root: Path) -> dict[str, Any]:
    """Return the registry's document of an exported folder."""
    for item in json.loads((root / "index.json").read_bytes())["manifests"]:
        if item["artifactType"] == DOCUMENT_TYPE:
            manifest = json.loads((root / "blobs" / "sha256" / item["digest"][7:]).read_bytes())
            return json.loads((root / "blobs" / "sha256" / manifest["layers"][0]["digest"][7:]).read_bytes())
    raise AssertionError(root)


def counts(registry: Registry) -> dict[str, int]:
    with registry.database.session() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Table.metadata.sorted_tables
            if table.name != "audit_log"
        }


def test_an_export_is_a_legal_layout_that_says_everything(full: Registry, tmp_path: Path) -> None:
    report = full.export(tmp_path / "out")

    found = document(tmp_path / "out")
    sizes = [item["size_bytes"] for item in found["artifacts"] if "deleted_at" not in item]
    assert list(schema_problems("1.0/registry-export.json", found, root="registry")) == []
    assert report == ExportReport(
        path=str(tmp_path / "out"), digest=report.digest, adapters=2, revisions=5, artifacts=5, size_bytes=sum(sizes)
    )
    stored = {path.name for path in (tmp_path / "out" / "blobs" / "sha256").iterdir()}
    assert check_layout(tmp_path / "out") == stored
    assert {digest.hex for digest in full.blobs.walk()} <= stored
    legal, medical = found["adapters"]
    assert (legal["name"], legal["revisions"][0]["tags"]) == ("legal", {"Ä": "ö=ü"})
    assert {key: medical[key] for key in ("name", "owner", "description")} == {
        "name": "medical",
        "owner": "search-team",
        "description": "What doctors ask.",
    }
    assert [
        (item["number"], item.get("tags"), item.get("yanked", {}).get("reason")) for item in medical["revisions"]
    ] == [
        (1, {"manifest-tag": "", "plain": "", "team": "search"}, None),
        (2, None, "leaked"),
        (3, None, "worse than 1"),
        (4, None, "hidden and here"),
    ]
    assert [(item["name"], item["number"], item["is_protected"]) for item in medical["aliases"]] == [
        ("candidate", 1, False),
        ("production", 1, True),
    ]
    assert [len(item.get("hub_links", ())) for item in found["artifacts"]].count(1) == 1
    assert [len(item.get("attestations", ())) for item in found["artifacts"]].count(1) == 1
    assert [item["tombstone"]["kind"] for item in found["artifacts"] if "tombstone" in item] == ["adapter", "adapter"]


def test_what_comes_back_is_the_same_and_is_exported_as_the_same_bytes(
    full: Registry, other: Registry, tmp_path: Path
) -> None:
    full.export(tmp_path / "out")

    report = other.import_(tmp_path / "out")

    assert report == ImportReport(
        artifacts=5,
        new_artifacts=5,
        adapters=(
            ImportedAdapter(name="legal", outcome="new", added=(1,)),
            ImportedAdapter(name="medical", outcome="new", added=(1, 2, 3, 4)),
        ),
    )
    other.export(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    before, after = counts(full), counts(other)
    assert {**after, "base_models": before["base_models"]} == before
    assert other.fsck(deep=True).faults == ()
    assert list(full.list()) == list(other.list())
    assert list(other.search("yanked:true OR yanked:false")) == list(full.search("yanked:true OR yanked:false"))
    assert other.lineage("legal") == full.lineage("legal")
    assert [(entry.action, entry.name, entry.detail) for entry in other.log().items] == [
        (
            "import",
            "medical",
            {
                "numbers": [1, 2, 3, 4],
                "aliases": ["candidate", "production"],
                "owner": "search-team",
                "description": "What doctors ask.",
            },
        ),
        ("import", "legal", {"numbers": [1], "aliases": []}),
    ]
    with pytest.raises(RegistryError, match="protected"):
        other.alias("medical", "production", "4")


def test_many_revisions_cost_the_same_number_of_statements(
    registry: Registry, files: Files, tmp_path: Path, statements: list[str]
) -> None:
    registry.add(files.make(), name="first")  # the base model is made once
    spent = []
    for count in (2, 40):
        there = Registry.open(tmp_path / f"there-{count}")
        for _ in range(count):
            there.add(files.make(), name=f"of-{count}", tags={"team": "a"})
        there.export(tmp_path / f"out-{count}")
        there.database.engine.dispose()
        statements.clear()
        report = registry.import_(tmp_path / f"out-{count}")
        assert report.adapters == (
            ImportedAdapter(name=f"of-{count}", outcome="new", added=tuple(range(1, count + 1))),
        )
        spent.append(len(statements))
    assert spent[0] == spent[1]


def test_the_same_again_changes_nothing(full: Registry, other: Registry, tmp_path: Path) -> None:
    full.export(tmp_path / "out")
    other.import_(tmp_path / "out")
    before, log = counts(other), other.log()

    for registry in (other, full):
        report = registry.import_(tmp_path / "out")
        assert report == ImportReport(
            artifacts=5,
            new_artifacts=0,
            adapters=(
                ImportedAdapter(name="legal", outcome="unchanged"),
                ImportedAdapter(name="medical", outcome="unchanged"),
            ),
        )
    assert (counts(other), other.log()) == (before, log)


def test_an_empty_registry_is_carried_too(registry: Registry, other: Registry, tmp_path: Path) -> None:
    registry.export(tmp_path / "out")
    assert document(tmp_path / "out") == {
        "export_version": "1.0",
        "created_at": "1970-01-01T00:00:00.000000Z",
        "artifacts": [],
        "adapters": [],
    }
    check_layout(tmp_path / "out")
    assert other.import_(tmp_path / "out") == ImportReport(artifacts=0, new_artifacts=0, adapters=())


def test_the_hits_of_a_query_go_alone_and_keep_their_numbers(full: Registry, other: Registry, tmp_path: Path) -> None:
    report = full.export(tmp_path / "out", query="tag:team=search")
    assert (report.adapters, report.revisions, report.artifacts) == (1, 1, 1)
    full.export(tmp_path / "legal", query="name:legal")
    other.import_(tmp_path / "legal")
    other.import_(tmp_path / "out")
    assert [(record.name, record.newest.number) for record in other.list()] == [("legal", 1), ("medical", 1)]
    assert other.resolve("medical@production") == full.resolve("medical@production")

    full.export(tmp_path / "all")
    assert [(item.name, item.outcome, item.added) for item in other.import_(tmp_path / "all").adapters] == [
        ("legal", "unchanged", ()),
        ("medical", "extended", (2, 3, 4)),
    ]
    other.export(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "all")


def test_a_query_with_many_pages_of_hits_is_exported_whole(
    registry: Registry, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ual_registry.registry.care._PAGE", 2)
    monkeypatch.setattr("ual_registry.registry.export_document._CHUNK", 2)
    for index in range(5):
        registry.add(files.make(), name=f"a{index}")
    assert registry.export(tmp_path / "out", query="name:a*").revisions == 5


def test_a_query_that_is_none_exports_nothing(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(QueryError):
        registry.export(tmp_path / "out", query="foo:1")
    assert not (tmp_path / "out").exists()


def test_an_export_is_of_one_moment_while_others_add(
    registry: Registry, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = files.make(), files.make()
    registry.add(first, name="a")
    genuine = export_document._aliases

    def meanwhile(*arguments: Any) -> Any:
        registry.add(late, name="a", aliases=["late"])
        return genuine(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export_document, "_aliases", meanwhile)
        registry.export(tmp_path / "out")
    (adapter,) = document(tmp_path / "out")["adapters"]
    assert ([item["number"] for item in adapter["revisions"]], adapter["aliases"]) == ([1], [])
    assert registry.alias("a", "late", "late").number == 2


def test_the_log_of_a_revision_or_an_alias_that_was_imported_tells_of_the_import(
    registry: Registry, files: Files, tmp_path: Path
) -> None:
    """On both engines: the numbers and aliases of an import stand in lists."""
    other = Registry.open(tmp_path / "source")
    other.add(files.make(), name="a", aliases=["good"])
    other.add(files.make(), name="a")
    other.export(tmp_path / "out")
    other.database.engine.dispose()
    registry.import_(tmp_path / "out")
    registry.add(files.make(), name="a", aliases=["new"])

    def told(reference: str) -> list[str]:
        return [entry.action for entry in registry.log(reference)]

    assert {reference: told(reference) for reference in ("a", "a@1", "a@2", "a@3", "a@good", "a@new")} == {
        "a": ["alias", "add", "import"],
        "a@1": ["import"],
        "a@2": ["import"],
        "a@3": ["alias", "add"],
        "a@good": ["import"],
        "a@new": ["alias"],
    }


def test_an_owner_alone_that_an_import_brings_is_found_and_logged(
    registry: Registry, files: Files, tmp_path: Path
) -> None:
    path = files.make()
    registry.add(path, name="a", owner="search-team")
    registry.export(tmp_path / "out")
    registry.describe("a", owner="")

    (adapter,) = registry.import_(tmp_path / "out").adapters
    assert (adapter.outcome, adapter.added, adapter.kept) == ("unchanged", (), ())
    newest, *_ = registry.log("a")
    assert (newest.action, newest.detail) == ("import", {"numbers": [], "aliases": [], "owner": "search-team"})
    assert [hit.owner for hit in registry.search("owner:search-team search")] == ["search-team"]
    assert registry.fsck(deep=True).faults == ()


def test_nothing_but_an_export_is_replaced(registry: Registry, tmp_path: Path) -> None:
    registry.export(tmp_path / "out")
    registry.export(tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    for name, what in (("file", "a file"), ("folder", "a folder with other things in it")):
        with pytest.raises(StorageError) as caught:
            registry.export(tmp_path / name)
        assert caught.value.message == f"cannot replace {tmp_path / name}: it is {what}"
        assert caught.value.problem_code == "exists"
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "file").read_text() == "mine"


def test_a_damaged_blob_is_never_exported(full: Registry, tmp_path: Path) -> None:
    place = full.find("medical@1")
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(DigestMismatchError) as caught:
        full.export(tmp_path / "out")
    assert caught.value.context == {"digest": str(full.resolve("medical@1"))}
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == []


@pytest.fixture
def clash(registry: Registry, other: Registry, files: Files, tmp_path: Path) -> Path:
    """An export that has other bytes under the numbers of the second registry, one thing more, and one in common."""
    common = files.make()
    registry.add(files.make(), name="medical", aliases=["good", "mine"], owner="them", tags={"a": "1"})
    registry.add(common, name="medical", aliases=["shared"])
    registry.add(files.make(), name="medical")
    registry.add(files.make(), name="free")
    other.add(common, name="medical", owner="us", tags={"b": "2"}, aliases=["shared"])
    other.add(files.make(), name="medical", aliases=["good"])
    registry.export(tmp_path / "out")
    return tmp_path / "out"


CONFLICTS = ("medical@1 has other bytes here", "medical@2 is medical@1 here")


def test_a_conflict_stops_an_import_before_it_begins(clash: Path, other: Registry) -> None:
    before = counts(other)
    with pytest.raises(RegistryConflictError) as caught:
        other.import_(clash)
    assert caught.value.message == "medical@1 has other bytes here (and 1 more); nothing was imported"
    assert caught.value.context == {"conflicts": list(CONFLICTS)}
    assert caught.value.hint == (
        "--on-conflict renumber gives new numbers, --on-conflict skip leaves such adapters out"
    )
    assert counts(other) == before


@pytest.mark.parametrize("way", ["fail", "skip"])
def test_a_conflict_that_comes_while_it_imports_is_told_of(
    registry: Registry, other: Registry, files: Files, tmp_path: Path, way: str
) -> None:
    for name in ("early", "late", "later"):
        registry.add(files.make(), name=name)
    registry.export(tmp_path / "out")
    foreign = files.make()

    def add_before_the_adapters(step: str, done: int, _: int) -> None:
        if (step, done) == ("adapters", 0):
            other.add(foreign, name="late")

    if way == "skip":
        report = other.import_(tmp_path / "out", on_conflict=way, progress=add_before_the_adapters)
        outcomes = [("early", "new"), ("late", "skipped"), ("later", "new")]
        assert [(own.name, own.outcome) for own in report.adapters] == outcomes
    else:
        with pytest.raises(RegistryConflictError) as caught:
            other.import_(tmp_path / "out", on_conflict=way, progress=add_before_the_adapters)
        assert caught.value.message == (
            "late@1 has other bytes here, since a moment ago; "
            "adapters before late were imported, it and those after it were not"
        )
        assert caught.value.context == {"conflicts": ["late@1 has other bytes here"]}
    later = [("later", 1, str(registry.resolve("later")))] if way == "skip" else []
    assert [(own.name, own.number, own.digest) for own in other.search("")] == [
        ("early", 1, str(registry.resolve("early"))),
        ("late", 1, str(Digest.of_file(foreign))),
        *later,
    ]
    assert counts(other)["adapters"] == 2 + len(later)


def test_an_adapter_in_conflict_may_be_left_out(clash: Path, other: Registry) -> None:
    report = other.import_(clash, on_conflict="skip")
    assert report.adapters == (
        ImportedAdapter(name="free", outcome="new", added=(1,)),
        ImportedAdapter(name="medical", outcome="skipped", conflicts=CONFLICTS),
    )
    assert report.new_artifacts == 1
    assert [record.number for record in other.revisions("medical")] == [2, 1]


def test_an_adapter_in_conflict_may_get_new_numbers_and_loses_nothing(
    clash: Path, other: Registry, registry: Registry
) -> None:
    ours = {record.number: record.digest for record in other.revisions("medical")}
    theirs = {record.number: record.digest for record in registry.revisions("medical")}

    report = other.import_(clash, on_conflict="renumber")

    assert report.adapters == (
        ImportedAdapter(name="free", outcome="new", added=(1,)),
        ImportedAdapter(
            name="medical",
            outcome="extended",
            added=(3, 4),
            renumbered=((1, 3), (2, 1), (3, 4)),
            conflicts=CONFLICTS,
            kept=("owner of medical", "tags of medical@1", "alias good of medical"),
        ),
    )
    assert {record.number: record.digest for record in other.revisions("medical")} == {
        **ours,
        3: theirs[1],
        4: theirs[3],
    }
    aliases = {record.number: record.aliases for record in other.revisions("medical")}
    assert aliases == {1: ("shared",), 2: ("good",), 3: ("mine",), 4: ()}
    again = other.import_(clash, on_conflict="renumber").adapters[1]
    assert (again.outcome, again.added, again.renumbered) == ("unchanged", (), ((1, 3), (2, 1), (3, 4)))


def test_other_ways_to_treat_a_conflict_are_refused(clash: Path, other: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        other.import_(clash, on_conflict="replace")
    assert caught.value.message == "on_conflict 'replace': expected one of fail, skip, renumber"


def test_a_missing_blob_comes_back_by_an_import(full: Registry, tmp_path: Path) -> None:
    full.export(tmp_path / "out")
    full.find("medical@1").unlink()
    assert full.import_(tmp_path / "out").new_artifacts == 1
    assert full.fsck(deep=True).faults == ()


def test_a_tombstone_stays_one_where_the_other_has_one_and_is_mended_where_it_has_bytes(
    registry: Registry, other: Registry, files: Files, tmp_path: Path
) -> None:
    path = files.make()
    registry.add(path, name="a")
    registry.export(tmp_path / "alive")
    registry.yank("a@1", why="bad")
    registry.gc(grace=NOW, yanked=True, apply=True)
    registry.export(tmp_path / "dead")

    other.import_(tmp_path / "dead")
    assert other.gc(grace=NOW, yanked=True).garbage == ()
    assert other.import_(tmp_path / "alive").new_artifacts == 1
    assert other.find("a@1").read_bytes() == path.read_bytes()
    assert other.import_(tmp_path / "dead").new_artifacts == 0
    assert other.find("a@1").read_bytes() == path.read_bytes()


def test_an_import_that_was_interrupted_is_finished_by_the_next(
    full: Registry, other: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifacts come first; without their names they are no part of any list."""
    full.export(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_adapters", lambda *_, **__: (_ for _ in ()).throw(RegistryError("stop")))
        with pytest.raises(RegistryError, match="stop"):
            other.import_(tmp_path / "out")
    assert list(other.list()) == []
    assert other.gc(grace=NOW, yanked=True).garbage == ()
    assert other.fsck(deep=True).faults == ()
    other.export(tmp_path / "half")
    check_layout(tmp_path / "half")

    assert other.import_(tmp_path / "out").new_artifacts == 0
    other.export(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
