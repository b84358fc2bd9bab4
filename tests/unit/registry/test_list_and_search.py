"""Lists and searches: which revisions are found, in which order, with how many statements."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.handmade import base_model, entry, floats, method
from tests.unit.registry.conftest import Files
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest, Statement
from ual_registry.air.write import write
from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry.records import AdapterRecord
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AdapterRow, AliasRow, ArtifactRow, BaseModelRow, EntryRow, RevisionRow


def write_with(
    path: Path, role: str, rank: int, *, base: str = "tiny", architecture: str = "gpt_neox", **changes: object
) -> Path:
    """Write an adapter of one entry."""
    own = entry(role, 4, 6 if role == "mlp_up" else 4, rank=rank, source=f"m.{role}")
    manifest = Manifest(
        air_version="1.0",
        kind="adapter",
        base_model=base_model(id=base, architecture=architecture, model_type=architecture),
        method=method(rank=rank),
        entries=(own,),
        **changes,
    )
    write(Adapter(manifest, {own.lora_A: floats(rank, 4), own.lora_B: floats(own.out_features, rank)}), path)
    return path


PROJECTION = Statement(
    type="projection", builder={"name": "ual-registry", "version": "0"}, parameters={"method": "interpolate"}
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Five revisions of four adapters; only read by the tests."""
    tmp_path = tmp_path_factory.mktemp("shelf")
    registry = Registry.open(tmp_path / "home")
    for name, arguments in {
        "law": {"role": "mlp_up", "rank": 8, "domain": "Legal", "license": "MIT", "base": "org/Big_Model"},
        "law2": {"role": "attention_query", "rank": 16, "domain": "legal", "license": "mit", "base": "org/BigXModel"},
        "med": {"role": "mlp_up", "rank": 2, "domain": "Médecine É", "license": "Apache-2.0", "architecture": "llama"},
        "plain": {"role": "attention_query", "rank": 4, "provenance": (PROJECTION,)},
    }.items():
        registry.add(write_with(tmp_path / f"{name}.air", **arguments), name=name)
    registry.add(write_with(tmp_path / "med2.air", "attention_query", 32, domain='50%_\\ "off"'), name="med")
    return registry


FINDS = {
    "": ["law@1", "law2@1", "med@2", "med@1", "plain@1"],
    "base:org/big_model": ["law@1"],
    "base:big_model": ["law@1"],
    "base:BIG_MODEL": ["law@1"],
    "base:model": [],
    "base:%": [],
    "base:org": [],
    'base:"%model"': [],
    "base:llama": ["med@1"],
    "base:LLAMA": ["med@1"],
    "base:tiny": ["med@2", "med@1", "plain@1"],
    "base:gpt_neox": ["law@1", "law2@1", "med@2", "plain@1"],
    "role:mlp_up": ["law@1", "med@1"],
    "rank:8": ["law@1"],
    "rank>8": ["law2@1", "med@2"],
    "rank>=8": ["law@1", "law2@1", "med@2"],
    "rank<4": ["med@1"],
    "rank<=4": ["med@1", "plain@1"],
    "domain:legal": ["law@1", "law2@1"],
    "domain:LEGAL": ["law@1", "law2@1"],
    "NOT domain:legal": ["med@2", "med@1", "plain@1"],
    'domain:"Médecine É"': ["med@1"],
    'domain:"médecine É"': ["med@1"],
    r'domain:"50%_\\ \"off\""': ["med@2"],
    "domain:50%": [],
    "name:med": ["med@2", "med@1"],
    "name:MED": ["med@2", "med@1"],
    "name:law": ["law@1"],
    "method:lora": ["law@1", "law2@1", "med@2", "med@1"],
    "method:interpolate": ["plain@1"],
    "NOT method:lora": ["plain@1"],
    "license:mit": ["law@1", "law2@1"],
    "NOT license:mit": ["med@2", "med@1", "plain@1"],
    "domain:legal rank>=16": ["law2@1"],
    "domain:legal OR rank:4": ["law@1", "law2@1", "plain@1"],
    "domain:legal rank:8 OR rank:4": ["law@1", "plain@1"],
    "domain:legal (rank:8 OR rank:4)": ["law@1"],
    "NOT (domain:legal OR rank:4)": ["med@2", "med@1"],
    "NOT NOT domain:legal": ["law@1", "law2@1"],
    "NOT role:mlp_up NOT rank:4": ["law2@1", "med@2"],
    'domain:"\' OR 1=1 --"': [],
    'name:"law\'; DROP TABLE adapters; --"': [],
    'license:"mit\\" OR \\"1\\"=\\"1"': [],
    'domain:"legal\x00"': [],
    " ".join(["rank>=0"] * 500): ["law@1", "law2@1", "med@2", "med@1", "plain@1"],
    " OR ".join(["domain:no"] * 250): [],
    "NOT (" * 15 + "name:law OR rank:4" + " OR rank:99)" * 15: ["law2@1", "med@2", "med@1"],
}


@pytest.mark.parametrize("query", FINDS, ids=lambda query: query[:40])
def test_a_query_finds(shelf: Registry, query: str) -> None:
    found = [f"{record.name}@{record.number}" for record in shelf.search(query)]
    assert found == FINDS[query]
    assert len(shelf.list()) == 4


def test_a_limit_cuts_the_stable_order(shelf: Registry) -> None:
    found = [f"{record.name}@{record.number}" for record in shelf.search("", limit=3)]
    assert found == ["law@1", "law2@1", "med@2"]


def test_a_list_has_every_adapter_with_its_newest_revision(shelf: Registry) -> None:
    listed = shelf.list()
    assert [(record.name, record.revision_count) for record in listed] == [
        ("law", 1),
        ("law2", 1),
        ("med", 2),
        ("plain", 1),
    ]
    assert listed[2] == AdapterRecord(name="med", revision_count=2, newest=shelf.search("name:med")[0])


def test_an_empty_registry_lists_and_finds_nothing(registry: Registry) -> None:
    assert (registry.list(), registry.search("")) == ((), ())


def test_the_revisions_of_an_adapter_are_listed_newest_first(shelf: Registry) -> None:
    assert shelf.revisions("med") == shelf.search("name:med")


def test_revisions_of_an_unknown_adapter_are_told_of(shelf: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        shelf.revisions("none")
    assert caught.value.message == "adapter 'none': not in this registry"
    assert caught.value.hint == "this registry holds: law, law2, med, plain"
    with pytest.raises(RegistryError, match="adapter name 'a b'"):
        shelf.revisions("a b")


@pytest.fixture
def statements(registry: Registry) -> Iterator[list[str]]:
    """Every statement that is sent to the database."""
    sent: list[str] = []

    def note(*arguments: object) -> None:
        sent.append(str(arguments[2]).split()[0])

    event.listen(registry.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(registry.database.engine, "before_cursor_execute", note)


def fill(registry: Registry, count: int) -> None:
    """Add rows of ``count`` adapters with an alias and two entries each, without files."""
    now = datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    digests = [f"sha256:{index:064x}" for index in range(count)]
    with registry.database.session(writes=True) as session:
        base = BaseModelRow(
            label="tiny",
            revision="",
            architecture="llama",
            model_type="llama",
            config_digest="sha256:" + "0" * 64,
            hidden_size=4,
            num_layers=2,
        )
        session.add(base)
        session.flush()
        same = {"kind": "adapter", "media_type": "x", "size_bytes": 1, "base_model_id": base.id, "method": "lora"}
        shape = {"layer": 0, "rank": 2, "in_features": 4, "out_features": 4, "scaling": 1.0}
        rows = {
            ArtifactRow: [
                {"digest": d, "tensor_digest": d, "parameter_count": 1, "added_at": now, **same} for d in digests
            ],
            EntryRow: [
                {"artifact_digest": d, "position": i, "role": role, **shape}
                for d in digests
                for i, role in enumerate(("mlp_down", "mlp_up"))
            ],
            AdapterRow: [{"id": i, "name": f"a{i:06}", "created_at": now} for i in range(count)],
            RevisionRow: [
                {"id": i, "adapter_id": i, "number": 1, "digest": d, "created_at": now} for i, d in enumerate(digests)
            ],
            AliasRow: [{"adapter_id": i, "name": "production", "revision_id": i} for i in range(count)],
        }
        for table, own in rows.items():
            session.bulk_insert_mappings(table, own)


@pytest.mark.parametrize("count", [1, 7, 3000])
def test_a_page_costs_the_same_number_of_statements_however_many_rows(
    registry: Registry, statements: list[str], count: int
) -> None:
    fill(registry, count)
    pages = {
        "list": registry.list,
        "search": lambda: registry.search("role:mlp_up rank>=2 (base:llama OR domain:x)", limit=5000),
        "revisions": lambda: registry.revisions("a000000"),
        "resolve": lambda: registry.resolve("a000000@production"),
        "lineage": lambda: registry.lineage("a000000"),
    }
    spent = {}
    for name, page in pages.items():
        statements.clear()
        page()
        spent[name] = list(statements)
    begin = "BEGIN"
    assert spent == {
        "list": [begin, *["SELECT"] * 4],
        "search": [begin, *["SELECT"] * 3],
        "revisions": [begin, *["SELECT"] * 3],
        "resolve": [begin, *["SELECT"] * 2],
        "lineage": [begin, "SELECT", "SELECT", begin, "WITH", "WITH", "SELECT", "SELECT"],
    }


def test_every_row_of_a_large_registry_is_listed(registry: Registry) -> None:
    fill(registry, 3000)
    listed = registry.list()
    assert [record.name for record in listed] == [f"a{index:06}" for index in range(3000)]
    assert {record.newest.aliases for record in listed} == {("production",)}
    assert {record.newest.roles for record in listed} == {("mlp_down", "mlp_up")}
    assert registry.search("", limit=5000) == tuple(record.newest for record in listed)


def test_times_are_utc_whatever_the_database_keeps(registry: Registry, files: Files) -> None:
    fill(registry, 1)
    assert registry.list()[0].newest.created_at == datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    from ual_registry.registry.queries import _utc

    east = datetime.timezone(datetime.timedelta(hours=2))
    moment = _utc(datetime.datetime(2025, 1, 2, 5, tzinfo=east))
    assert (moment, moment.tzinfo) == (datetime.datetime(2025, 1, 2, 3, tzinfo=datetime.UTC), datetime.UTC)
