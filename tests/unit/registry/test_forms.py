"""Questions that differ in values alone have one statement, in which no value stands."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy.sql.visitors import iterate

from ual_registry.registry.blanks import READINGS, after
from ual_registry.registry.finding import Asked, What, page_statement
from ual_registry.registry.forms import form_of
from ual_registry.registry.query import parse_query
from ual_registry.registry.search import Searcher
from ual_registry.registry.tables import RevisionRow

DIGEST = "sha256:" + "0" * 64


def text_of(query: str, *, is_sqlite: bool) -> str:
    parsed = parse_query(query)
    form = form_of(parsed.where, {"x": DIGEST, "y": DIGEST})
    asked = Asked(what=What.REVISIONS, where=form.where, order=parsed.order)
    return page_statement(asked, is_sqlite=is_sqlite).text


ALIKE = [
    ("base:llama rank>=8", 'base:"qwen 2" rank>=16'),
    ("name:med*", "name:x*"),
    ("domain:a,b", "domain:legal,medical"),
    ("tag:team=a (role:mlp_up OR license:mit)", "tag:stage=b (role:mlp_gate OR license:x)"),
    ("created>=2026-01-01", "created>=2025-05-05T10:00:00Z"),
    ("metric:accuracy>=0.5 recovered<1", "metric:loss>=0.25 recovered<0.125"),
    ('"one two"', '"three four five"'),
    ("derived-from:x", "derived-from:y"),
]
APART = [
    ("rank>=8", "rank>8"),
    ("rank>=8", "rank<=8"),
    ("name:med", "name:med*"),
    ("name:med*", 'name:""*'),
    ("domain:a", "domain:a,b"),
    ("yanked:true", "yanked:false"),
    ("tag:team", "tag:team=a"),
    ("base:a domain:b", "base:a OR domain:b"),
    ("base:a", "base:a order:-created"),
]


@pytest.mark.parametrize("is_sqlite", [True, False])
@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_questions_of_one_form_have_one_statement(one: str, other: str, is_sqlite: bool) -> None:
    assert text_of(one, is_sqlite=is_sqlite) == text_of(other, is_sqlite=is_sqlite)


@pytest.mark.parametrize(("one", "other"), APART)
def test_questions_of_other_forms_have_other_statements(one: str, other: str) -> None:
    assert text_of(one, is_sqlite=True) != text_of(other, is_sqlite=True)


@pytest.mark.parametrize("name", ["ix_revisions_name", "ix_revisions_domain_folded"])
@pytest.mark.parametrize(
    ("query", "is_kept"),
    [
        ("base:a", True),
        ("architecture:a", True),
        ("domain:a", True),
        ("license:a", True),
        ("method:a", True),
        ("rank:8..16", True),
        ("recovered>0.5", True),
        ("yanked:true", True),
        ("created>=2026-01-01", False),
    ],
)
def test_what_is_said_to_be_kept_stands_in_the_indexes_of_a_walk(query: str, is_kept: bool, name: str) -> None:
    node: Any = form_of(parse_query(query).where, {}).where
    source = Searcher(is_sqlite=True).source(node)
    revisions: Any = RevisionRow.__table__
    (held,) = [set(index.columns.keys()) for index in revisions.indexes if index.name == name]
    parts: list[Any] = list(iterate(source.condition()))
    asked = {part.key for part in parts if getattr(part, "table", None) is revisions}
    assert (source.is_kept, bool(asked), asked <= held) == (is_kept, True, is_kept)


def test_a_form_holds_its_values_in_the_order_of_its_blanks() -> None:
    form = form_of(
        parse_query('name:med* rank:8..16 created>=2026-01-01 "Two Words" derived-from:x').where, {"x": DIGEST}
    )
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert form.values == ("med", 8, 16, start, ("two", "words"), DIGEST)
    longer, blank = form.blank("more")
    assert (longer.values, blank.number, longer.where) == ((*form.values, "more"), 6, form.where)


@pytest.mark.parametrize(
    ("reading", "value", "bound"),
    [
        ("same", "ÄBC", "ÄBC"),
        ("folded", "ÄBC", "Äbc"),
        ("after", "Med", "Mee"),
        ("folded_after", "MED", "mee"),
        ("behind_slash", "A_b%", "%/a\\_b\\%"),
        ("behind_slash_prefix", "A", "%/a%"),
        ("phrase", ("two", "words"), '"two words"'),
        ("phrase_prefix", ("two", "words"), '"two words"*'),
        ("lexemes", ("two", "words"), "'two' <-> 'words'"),
        ("lexemes_prefix", ("two", "words"), "'two' <-> 'words':*"),
        ("first", ("two", "words"), "two"),
        ("first_prefix", ("two", "words"), "two"),
        ("held", ("two", "words"), " two words "),
        ("held_prefix", ("two", "words"), " two words"),
    ],
)
def test_what_is_made_of_a_value_before_it_is_bound(reading: str, value: object, bound: str) -> None:
    assert READINGS[reading](value) == bound


def test_no_text_lies_behind_the_last_characters() -> None:
    assert (after("a\U0010ffff"), after("\U0010ffff"), after("\ud7ff")) == ("b", None, "\ue000")
