"""The list of words on PostgreSQL: what is written into it, what is read from it, and what tells that it is whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event, func, select, text, update

from benchmarks.registry_data import fill
from tests.unit.registry.conftest import Files
from ual_registry.registry.forms import form_of
from ual_registry.registry.plan import Start, choose_start
from ual_registry.registry.query import parse_query
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import RevisionRow, RevisionTextRow
from ual_registry.registry.word_list import WordRow, differing_words

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def listed(registry: Registry) -> dict[str, list[str]]:
    """Return the words of every revision in their order."""
    found: dict[str, list[str]] = {}
    columns = (WordRow.adapter_name, WordRow.number, WordRow.word)
    with registry.database.reading() as connection:
        for name, number, word in connection.execute(select(*columns).order_by(*columns)):
            found.setdefault(f"{name}@{number}", []).append(word)
    return found


def change(registry: Registry, statement: object) -> None:
    with registry.database.session(writes=True) as session:
        session.execute(statement)  # type: ignore[call-overload]


@pytest.fixture
def two(registry: Registry, files: Files) -> Registry:
    registry.add(files.make(description="Über uns, uns", domain="medical"), name="one", tags={"team": "a b"})
    registry.add(files.make(description="x" * 100), name="one")
    return registry


FIRST = ["a", "b", "medical", "one", "team", "uber", "uns"]
LONG = "x" * 64


def test_every_word_of_a_revision_is_listed_once(two: Registry) -> None:
    assert listed(two) == {"one@1": FIRST, "one@2": ["one", LONG]}


def test_what_changes_the_words_changes_the_list(two: Registry) -> None:
    two.tag("one@2", {"team": "late"})
    assert listed(two) == {"one@1": FIRST, "one@2": ["late", "one", "team", LONG]}
    two.tag("one@2", remove=["team"])
    two.describe("one", owner="Médecine")
    assert listed(two) == {"one@1": sorted([*FIRST, "medecine"]), "one@2": ["medecine", "one", LONG]}


def test_the_server_itself_keeps_the_list_whatever_writes_a_text(two: Registry) -> None:
    first = select(RevisionRow.id).where(RevisionRow.number == 1).scalar_subquery()
    body = "  other  words\n\nother "
    change(two, update(RevisionTextRow).where(RevisionTextRow.revision_id == first).values(body=body))
    assert listed(two) == {"one@1": ["other", "words"], "one@2": ["one", LONG]}
    change(two, text("DELETE FROM revisions WHERE number = 1"))  # the text goes with it
    assert listed(two) == {"one@2": ["one", LONG]}


def test_a_page_of_one_word_is_one_statement_and_reads_no_text(two: Registry) -> None:
    sent: list[str] = []
    event.listen(two.database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    assert [hit.number for hit in two.search("one")] == [2, 1]
    assert [("revision_words" in statement, "revision_texts" in statement) for statement in sent] == [(True, False)]


QUERIES: dict[str, Callable[[set[str]], bool]] = {
    "w1ord": lambda words: "w1ord" in words,
    "1": lambda words: "1" in words,
    "w1ord w2ord": lambda words: {"w1ord", "w2ord"} <= words,
    "w1ord tag:stage=draft": lambda words: {"w1ord", "draft"} <= words,
    'w1ord NOT "2"': lambda words: "w1ord" in words and "2" not in words,
    "w1ord OR w2ord": lambda words: bool({"w1ord", "w2ord"} & words),
}


@pytest.mark.parametrize("query", QUERIES)
def test_pages_of_whole_words_are_those_of_the_texts(registry: Registry, query: str) -> None:
    fill(registry.database, 300, with_entries=False)
    found: list[tuple[str, int]] = []
    after = None
    while not found or after is not None:
        page = registry.search(query, limit=3, after=after)
        found += [(hit.name, hit.number) for hit in page]
        after = page.next
    columns = (RevisionRow.adapter_name, RevisionRow.number, RevisionTextRow.body)
    joined = select(*columns).join(RevisionTextRow, RevisionTextRow.revision_id == RevisionRow.id)
    with registry.database.reading() as connection:
        rows = connection.execute(joined.where(RevisionRow.yanked_at.is_(None))).all()
    expected = [(name, number) for name, number, body in rows if QUERIES[query](set(body.split()))]
    assert found == sorted(expected, key=lambda row: (row[0], -row[1]))


def test_one_whole_word_in_the_order_of_names_is_counted_by_nobody(registry: Registry) -> None:
    fill(registry.database, 300, with_entries=False)
    asked = {}
    for query in ("w1ord", "w1ord*", '"w1ord w2ord"', "w1ord order:size"):
        parsed, sent = parse_query(query), []
        form = form_of(parsed.where, {})
        with registry.database.reading() as connection:
            event.listen(connection, "before_cursor_execute", lambda *_, sent=sent: sent.append(1))
            start = choose_start(connection, form.where, form.values, limit=20, walked=parsed.order)
        asked[query] = len(sent)
        assert query != "w1ord" or start == Start(term=0)
    assert asked == {"w1ord": 0, "w1ord*": 1, '"w1ord w2ord"': 1, "w1ord order:size": 1}


def test_filled_revisions_are_listed_as_the_registry_itself_would(registry: Registry) -> None:
    fill(registry.database, 300, with_entries=False)
    with registry.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(RevisionRow).where(differing_words())) == 0
        assert (connection.scalar(select(func.count()).select_from(WordRow)) or 0) > 300 * 10


def test_a_list_that_differs_from_the_texts_is_told(two: Registry) -> None:
    assert two.fsck(quick=True).faults == ()
    change(two, text("DELETE FROM revision_words WHERE word = 'uns'"))
    change(two, text("INSERT INTO revision_words VALUES (9999, 3, 'word', 'gone')"))
    change(two, text("UPDATE revision_words SET adapter_name = 'other' WHERE number = 2 AND word = 'one'"))
    assert [(fault.kind, fault.message) for fault in two.fsck(quick=True).faults] == [
        ("stale", "revision one@1 is listed with other words than those of its text"),
        ("stale", "revision one@2 is listed with other words than those of its text"),
        ("dangling", "words are listed of gone@3, which is not there"),
    ]
    two.describe("one", owner=None, description="anew")
    assert [fault.kind for fault in two.fsck(quick=True).faults] == ["dangling"]
