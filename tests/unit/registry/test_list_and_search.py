"""Lists and searches: which revisions are found, in which order, with how many statements, on both engines."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from benchmarks.registry_data import fill
from tests.handmade import base_model, entry, floats, method
from tests.unit.registry.conftest import Files
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest, Statement
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import QueryError, RegistryError, RegistryNotFoundError
from ual_registry.registry import pages as module
from ual_registry.registry.facets import differing
from ual_registry.registry.forms import form_of
from ual_registry.registry.labels import differing_labels
from ual_registry.registry.moments import utc
from ual_registry.registry.plan import Start, choose_start
from ual_registry.registry.query import parse_query
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import ArtifactRow, RevisionRow
from ual_registry.registry.tree import Order
from ual_registry.registry.views import AdapterRecord, Page


def write_with(
    path: Path,
    role: str,
    rank: int,
    *,
    base: str = "tiny",
    architecture: str = "gpt_neox",
    config_digest: str | None = None,
    **changes: Any,
) -> Path:
    """Write an adapter of one entry."""
    config = {} if config_digest is None else {"config_digest": config_digest}
    own = entry(role, 4, 6 if role == "mlp_up" else 4, rank=rank, source=f"m.{role}")
    manifest = Manifest(
        air_version="1.0",
        kind="adapter",
        base_model=base_model(id=base, architecture=architecture, model_type=architecture, **config),
        method=method(rank=rank),
        entries=(own,),
        **changes,
    )
    write(Adapter(manifest, {own.lora_A: floats(rank, 4), own.lora_B: floats(own.out_features, rank)}), path)
    return path


PROJECTION = Statement(
    type="projection", builder={"name": "ual-registry", "version": "0"}, parameters={"method": "interpolate"}
)
SHELF: dict[str, dict[str, Any]] = {
    "law": {"role": "mlp_up", "rank": 8, "domain": "Legal", "license": "MIT", "base": "org/Big_Model"},
    "law2": {"role": "attention_query", "rank": 16, "domain": "legal", "license": "mit", "base": "org/BigXModel"},
    "med": {"role": "mlp_up", "rank": 2, "domain": "Médecine É", "license": "Apache-2.0", "architecture": "llama"},
    "plain": {"role": "attention_query", "rank": 4, "provenance": (PROJECTION,)},
}


@pytest.fixture
def shelf(registry: Registry, tmp_path: Path) -> Registry:
    """Five revisions of four adapters."""
    for name, arguments in SHELF.items():
        registry.add(write_with(tmp_path / f"{name}.air", **arguments), name=name, owner=f"team-{name[0]}")
    registry.add(write_with(tmp_path / "med2.air", "attention_query", 32, domain='50%_\\ "off"'), name="med")
    return registry


FINDS = {
    "": ["law@1", "law2@1", "med@2", "med@1", "plain@1"],
    "base:org/big_model": ["law@1"],
    "base:BIG_MODEL": ["law@1"],
    "base:big*": ["law@1", "law2@1"],
    "base:model": [],
    "base:%": [],
    "base:org": [],
    'base:"%model"': [],
    "base:LLAMA": ["med@1"],
    "base:tiny": ["med@2", "med@1", "plain@1"],
    "role:mlp_up": ["law@1", "med@1"],
    "rank>8": ["law2@1", "med@2"],
    "rank:4..16": ["law@1", "law2@1", "plain@1"],
    "domain:LEGAL": ["law@1", "law2@1"],
    "NOT domain:legal": ["med@2", "med@1", "plain@1"],
    "NOT domain:*": ["plain@1"],
    'domain:"médecine É"': ["med@1"],
    r'domain:"50%_\\ \"off\""': ["med@2"],
    "domain:50%": [],
    "domain:50%*": ["med@2"],
    "name:MED": ["med@2", "med@1"],
    "name:law": ["law@1"],
    "name:law*": ["law@1", "law2@1"],
    "owner:team-l": ["law@1", "law2@1"],
    "NOT method:lora": ["plain@1"],
    "license:mit": ["law@1", "law2@1"],
    "domain:legal rank:8 OR rank:4": ["law@1", "plain@1"],
    "NOT (domain:legal OR rank:4)": ["med@2", "med@1"],
    "NOT NOT domain:legal": ["law@1", "law2@1"],
    "medecine": ["med@1"],
    "MÉD*": ["med@2", "med@1"],
    '"médecine é"': ["med@1"],
    '"é médecine"': [],
    "off 50": ["med@2"],
    "legal NOT law": ["law2@1"],
    'domain:"\' OR 1=1 --"': [],
    'name:"law\'; DROP TABLE adapters; --"': [],
    'license:"mit\\" OR \\"1\\"=\\"1"': [],
    '"law) OR body:med*"': [],
    " ".join(["rank>=0"] * 500): ["law@1", "law2@1", "med@2", "med@1", "plain@1"],
    " OR ".join(["domain:no"] * 250): [],
    "base:" + ",".join(f"no{index}*" for index in range(50)): [],
    "NOT (" * 15 + "name:law OR rank:4" + " OR rank:99)" * 15: ["law2@1", "med@2", "med@1"],
    "order:-created": ["med@2", "plain@1", "med@1", "law2@1", "law@1"],
    "order:rank": ["med@1", "plain@1", "law@1", "law2@1", "med@2"],
    "order:-name": ["plain@1", "med@2", "med@1", "law2@1", "law@1"],
}


def names(page: Page[Any]) -> list[str]:
    return [f"{record.name}@{record.number}" for record in page]


def test_every_query_finds_what_it_means(shelf: Registry) -> None:
    assert {query: names(shelf.search(query)) for query in FINDS} == FINDS
    assert len(shelf.list()) == 4


def test_nothing_that_is_found_listed_or_followed_opens_a_blob(shelf: Registry) -> None:
    def ask() -> list[Any]:
        found = [shelf.search(query) for query in FINDS]
        return [*found, shelf.list(), shelf.lineage("med"), shelf.revisions("med"), shelf.resolve("med@1")]

    before = ask()
    shutil.rmtree(shelf.blobs.root)
    assert ask() == before


def test_pages_follow_each_other_in_every_order(shelf: Registry) -> None:
    for order in ("name", "-name", "created", "-created", "size", "-params", "rank", "-recovered", "recovered"):
        whole = names(shelf.search(f"order:{order}"))
        found: list[str] = []
        after = None
        for _ in range(3):
            page = shelf.search(f"order:{order}", limit=2, after=after)
            found, after = found + names(page), page.next
        assert (order, found, after) == (order, whole, None)


def test_pages_do_not_repeat_or_lose_a_row_while_others_are_added(shelf: Registry, files: Files) -> None:
    page = shelf.search("", limit=2)
    shelf.add(files.make(), name="a")
    shelf.add(files.make(), name="z")
    rest = shelf.search("", limit=10, after=page.next)
    assert names(page) + names(rest) == ["law@1", "law2@1", "med@2", "med@1", "plain@1", "z@1"]


@pytest.mark.parametrize("cursor", ["", "x", "e30", "bnVsbA", "W10", "\udcff", "=" * 9, "A" * 10_000])
def test_a_made_up_cursor_is_told_of(registry: Registry, cursor: str) -> None:
    for ask in (registry.search, lambda _, after: registry.list(after=after)):
        with pytest.raises(RegistryError) as caught:
            ask("", after=cursor)
        assert caught.value.problem_code == "cursor"
        assert caught.value.message.endswith(": none of this question in this order")
        assert caught.value.hint == "take the one at the end of a page of the same question, or leave it out to begin"


def test_a_cursor_belongs_to_its_question_and_order(shelf: Registry) -> None:
    cursor = shelf.search("rank>1", limit=1).next
    assert cursor is not None
    for query in ("rank>2", "rank>1 order:-name"):
        with pytest.raises(RegistryError, match="none of this question in this order"):
            shelf.search(query, after=cursor)


@pytest.mark.parametrize(
    "key", [[1, 2], ["a"], ["a", "b"], ["a", True], ["a", 2**70], ["é", 1], [None, 1], "ab", {"a": 1}]
)
def test_a_forged_sort_key_is_told_of(registry: Registry, key: Any) -> None:
    import base64
    import json

    from ual_registry.registry.order import write_cursor
    from ual_registry.registry.query import parse_query

    real = write_cursor(Order(), parse_query("").where, ["a", 1])
    document = json.loads(base64.urlsafe_b64decode(real + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(document | {"key": key}).encode()).decode()
    assert registry.search("", after=real).items == ()
    with pytest.raises(RegistryError, match="none of this question"):
        registry.search("", after=forged)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_page_has_a_bounded_size(registry: Registry, limit: int) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.search("", limit=limit)
    assert (caught.value.problem_code, caught.value.message) == ("limit", f"limit {limit}: expected 1 to 10,000")


def test_a_list_has_every_adapter_with_its_newest_revision(shelf: Registry) -> None:
    listed = shelf.list()
    assert [(record.name, record.revision_count) for record in listed] == [
        ("law", 1),
        ("law2", 1),
        ("med", 2),
        ("plain", 1),
    ]
    assert listed[2] == AdapterRecord(name="med", revision_count=2, newest=shelf.search("name:med")[0])


def test_a_list_is_of_one_owner_in_one_order_page_by_page(shelf: Registry) -> None:
    def listed(**options: Any) -> list[str]:
        return [record.name for record in shelf.list(**options)]

    assert listed(owner="TEAM-L") == ["law", "law2"]
    assert listed(owner="team") == []
    assert listed(order="-created") == ["med", "plain", "law2", "law"]
    first = shelf.list(order="-name", limit=3)
    assert [record.name for record in first] == ["plain", "med", "law2"]
    assert listed(order="-name", after=first.next) == ["law"]
    with pytest.raises(QueryError, match="order 'x': expected one of"):
        listed(order="x")


def test_what_is_yanked_is_left_out_unless_it_is_asked_for(shelf: Registry) -> None:
    shelf.yank("med@2", why="wrong data")
    assert names(shelf.search("name:med")) == ["med@1"]
    assert names(shelf.search("yanked:true")) == ["med@2"]
    assert names(shelf.search("name:med yanked:true,false")) == ["med@2", "med@1"]
    assert [(item.name, item.newest.number) for item in shelf.list()][2] == ("med", 1)
    assert [(item.number, item.yank_reason) for item in shelf.revisions("med")] == [(2, "wrong data"), (1, None)]
    shelf.yank("med@1", why="too")
    assert [item.name for item in shelf.list()] == ["law", "law2", "plain"]
    with pytest.raises(RegistryNotFoundError) as caught:
        shelf.resolve("med")
    assert caught.value.message == "adapter 'med': every revision is yanked"
    assert caught.value.hint == "name one by its number, such as med@2, or run 'ual yank REF --undo'"


def test_descendants_are_found_by_the_reference_of_an_ancestor(registry: Registry, files: Files) -> None:
    digest = registry.add(files.make(), name="one").digest
    two = registry.add(files.make(parents=((digest, "merged_from"),)), name="two").digest
    registry.add(files.make(parents=((two, "merged_from"),)), name="three")
    assert names(registry.search("derived-from:one")) == ["three@1", "two@1"]
    assert names(registry.search(f"derived-from:{two} OR NOT derived-from:one@1")) == ["one@1", "three@1"]
    with pytest.raises(QueryError) as caught:
        registry.search("rank>1 derived-from:none")
    assert caught.value.message == (
        "query, column 21: adapter 'none': not in this registry\n  rank>1 derived-from:none\n                      ^"
    )


def test_a_list_is_of_the_adapters_whose_newest_revision_is_for_one_base_model(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = (str(Digest.of_bytes(word)) for word in (b"first", b"second"))
    for name, config in [("a", first), ("b", first), ("b", second), ("c", first)]:
        path = tmp_path / f"{name}-{config[-4:]}.air"
        registry.add(write_with(path, "mlp_up", 2, description=name, config_digest=config), name=name)
    found = {
        config: [item.name for item in registry.list(config_digest=config)] for config in (first, second, "sha256:0")
    }
    assert found == {first: ["a", "c"], second: ["b"], "sha256:0": []}
    page = registry.list(config_digest=first, limit=1)
    assert [item.name for item in registry.list(config_digest=first, after=page.next)] == ["c"]
    with pytest.raises(RegistryError, match="none of this question"):
        registry.list(after=page.next)


def test_an_empty_registry_lists_and_finds_nothing(registry: Registry) -> None:
    assert (registry.list(), registry.search("")) == (Page(items=(), next=None), Page(items=(), next=None))


def test_the_revisions_of_an_adapter_are_listed_newest_first(shelf: Registry) -> None:
    assert shelf.revisions("med") == shelf.search("name:med")
    first = shelf.revisions("med", limit=1)
    assert (names(first), names(shelf.revisions("med", after=first.next))) == (["med@2"], ["med@1"])


def test_revisions_of_an_unknown_adapter_are_told_of(shelf: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        shelf.revisions("none")
    assert caught.value.message == "adapter 'none': not in this registry"
    assert caught.value.hint == "this registry holds: law, law2, med, plain"
    with pytest.raises(RegistryError, match="adapter name 'a b'"):
        shelf.revisions("a b")


@pytest.mark.parametrize("count", [300, 1500])
def test_a_page_costs_the_same_number_of_statements_however_many_rows(
    registry: Registry, statements: list[str], count: int
) -> None:
    fill(registry.database, count, with_entries=False)
    name = registry.search("alias:production")[0].name
    pages = {
        "list": lambda: registry.list(limit=10_000),
        "list of an owner": lambda: registry.list(owner="team-0", limit=10_000),
        "search": lambda: registry.search("role:mlp_up rank>=2 (base:llama* OR domain:x) NOT w1ord", limit=10_000),
        "search of everything": lambda: registry.search("", limit=10_000),
        "search in a lineage": lambda: registry.search(f"derived-from:{name}"),
        "revisions": lambda: registry.revisions(name),
        "resolve": lambda: registry.resolve(f"{name}@production"),
        "lineage": lambda: registry.lineage(name),
    }
    spent = {}
    for title, page in pages.items():
        statements.clear()
        page()
        spent[title] = sum(word in {"SELECT", "WITH"} for word in statements)
    assert spent == {
        "list": 1,
        "list of an owner": 1 + 1,
        "search": 1 + 1,
        "search of everything": 1,
        "search in a lineage": 1 + 2,
        "revisions": 1,
        "resolve": 1,
        "lineage": 1 + 3,
    }


def test_filled_revisions_keep_what_the_registry_itself_would_write(registry: Registry) -> None:
    fill(registry.database, 300, with_entries=False)
    joined = select(func.count()).select_from(RevisionRow).join(ArtifactRow, ArtifactRow.id == RevisionRow.artifact_id)
    with registry.database.reading() as connection:
        assert (connection.scalar(joined), connection.scalar(joined.where(differing()))) == (300, 0)
        assert connection.scalar(select(func.count()).select_from(RevisionRow).where(differing_labels())) == 0


@pytest.mark.parametrize(
    ("query", "driver"),
    [
        ('domain:"domain 0" rank>=4', 0),
        ('domain:"domain 0" created<2024-01-01T01:00:00Z', 1),
        ('created<2024-01-01T01:00:00Z domain:"domain 0"', 0),
    ],
)
def test_a_domain_is_walked_uncounted_only_where_its_index_holds_all_that_is_asked(
    registry: Registry, query: str, driver: int
) -> None:
    """The moments of an hour, a few revisions, are found sooner than a domain of dozens is walked."""
    fill(registry.database, 300, with_entries=False)
    form = form_of(parse_query(query).where, {})
    with registry.database.reading() as connection:
        start = choose_start(connection, form.where, form.values, limit=100, walked=Order())
        assert start == Start(term=driver)


WAYS = [Start(), Start(term=0), Start(term=0, is_gathered=True)]


@pytest.mark.parametrize(
    "query", ["tag:stage=test", "metric:accuracy>=0.7", "w1ord", "recovered>=0.3", "role:mlp_up", "alias:production"]
)
def test_every_way_to_begin_leads_to_the_same_page(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    fill(registry.database, 300, with_entries=False)
    pages = []
    for way in WAYS:
        monkeypatch.setattr(module, "choose_start", lambda *_, way=way, **__: way)
        first = registry.search(query, limit=10)
        pages.append((names(first), names(registry.search(query, limit=400, after=first.next))))
    assert [len(page) for page in pages[0]] > [10 - 1, 1]
    assert pages == [pages[0]] * len(WAYS)


def test_what_is_neither_rare_nor_common_is_gathered_for_a_walk_by_names(registry: Registry) -> None:
    fill(registry.database, 1500, with_entries=False)
    expected = {
        "tag:team=team-199*": Start(term=0),  # a dozen
        "tag:stage=d*": Start(term=0, is_gathered=True),  # a quarter
        "tag:stage=d* order:size": Start(),
        "tag:stage": Start(),  # all of them
        "rank>=4 tag:stage=draft": Start(),  # as the first rows of the walk have shown
        "rank>=4": Start(),
    }
    found = {}
    with registry.database.reading() as connection:
        for query in expected:
            parsed = parse_query(query)
            form = form_of(parsed.where, {})
            found[query] = choose_start(connection, form.where, form.values, limit=20, walked=parsed.order)
    assert found == expected


def test_one_tag_is_read_in_the_order_of_names_and_counted_by_nobody(registry: Registry, statements: list[str]) -> None:
    fill(registry.database, 300, with_entries=False)
    asked = {}
    for query in ("tag:stage=draft", "tag:stage=d*", "tag:stage", "tag:stage=draft order:size"):
        statements.clear()
        registry.search(query)
        asked[query] = statements.count("SELECT")
    assert asked == {"tag:stage=draft": 1, "tag:stage=d*": 2, "tag:stage": 2, "tag:stage=draft order:size": 2}
    whole = [hit for hit in registry.search("", limit=400) if hit.tags["stage"] == "draft"]
    first = registry.search("tag:stage=draft", limit=20)
    rest = registry.search("tag:stage=draft", limit=400, after=first.next)
    assert [*first, *rest] == whole


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_what_a_walk_meets_often_is_walked_and_names_are_looked_up_at_once(
    registry: Registry, statements: list[str]
) -> None:
    fill(registry.database, 1500, with_entries=False)
    expected = {
        "role:mlp_up": (Start(), 1),
        "base:llama": (Start(), 1),
        "name:w0ord*": (Start(term=0), 0),
    }
    found = {}
    with registry.database.reading() as connection:
        for query in expected:
            form = form_of(parse_query(query).where, {})
            statements.clear()
            start = choose_start(connection, form.where, form.values, limit=20, walked=Order())
            found[query] = (start, len(statements))
    assert found == expected


def test_every_row_of_a_large_registry_is_on_one_page_after_the_other(registry: Registry) -> None:
    fill(registry.database, 1500, with_entries=False)
    whole = registry.search("yanked:*", limit=10_000)
    assert len(whole) == 1500
    for order in ("order:size", "order:-created", "order:recovered", ""):
        found: list[str] = []
        after = None
        while True:
            page = registry.search(f"yanked:* {order}", limit=400, after=after)
            found += names(page)
            after = page.next
            if after is None:
                break
        assert sorted(found) == sorted(names(whole))


def test_times_are_utc_whatever_the_database_keeps(registry: Registry, files: Files) -> None:
    before = datetime.datetime.now(datetime.UTC)
    registry.add(files.make(), name="one")
    (found,) = registry.search("")
    assert (found.created_at >= before, found.created_at.tzinfo) == (True, datetime.UTC)
    east = datetime.timezone(datetime.timedelta(hours=2))
    for kept in (datetime.datetime(2025, 1, 2, 5, tzinfo=east), "2025-01-02 03:00:00.000000"):
        moment = utc(kept)
        assert (moment, moment.tzinfo) == (datetime.datetime(2025, 1, 2, 3, tzinfo=datetime.UTC), datetime.UTC)
