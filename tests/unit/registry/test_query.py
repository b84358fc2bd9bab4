"""The search language: what it means, and where every mistake is told to stand."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.generate import search_page
from ual_registry.air.roles import ROLES
from ual_registry.errors import QueryError
from ual_registry.registry.fields import FIELDS, ORDERS
from ual_registry.registry.query import parse_order, parse_query
from ual_registry.registry.tree import All, Any_, Node, Not, Order, Query, Term, Words
from ual_registry.registry.values import Pair, Span, Text


def text(field: str, *values: str) -> Term:
    return Term(field, tuple(Text(value) for value in values))


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, number, tzinfo=datetime.UTC)


def created(**ends: object) -> Term:
    return Term("created", (Span(**ends),))


def measured(name: str, **ends: float) -> Term:
    return Term("metric", (Pair(name, Span(**ends)),))


A, B, C = text("name", "a"), text("name", "b"), text("name", "c")

MEANINGS: dict[str, Node] = {
    "": All(()),
    "   ": All(()),
    "name:a": A,
    " name:a ": A,
    "name: a": A,
    "name : a": A,
    'name:"a"': A,
    "name:(a)": A,
    "name:a name:b": All((A, B)),
    "name:a AND name:b": All((A, B)),
    "name:a\n\tname:b": All((A, B)),
    "name:a OR name:b": Any_((A, B)),
    "name:a OR name:b OR name:c": Any_((A, B, C)),
    "name:a name:b OR name:c": Any_((All((A, B)), C)),
    "name:a AND (name:b OR name:c)": All((A, Any_((B, C)))),
    "((name:a))": A,
    "NOT name:a": Not(A),
    "NOT NOT name:a": Not(Not(A)),
    "NOT name:a name:b": All((Not(A), B)),
    "NOT (name:a name:b)": Not(All((A, B))),
    "NOT(name:a)": Not(A),
    "name:a OR NOT name:b": Any_((A, Not(B))),
    "name:a,b": text("name", "a", "b"),
    "name:a, b": text("name", "a", "b"),
    'name:(a,"b c")': text("name", "a", "b c"),
    "name:a*": Term("name", (Text("a", True),)),
    'name:"a b"*': Term("name", (Text("a b", True),)),
    'name:"a*"': text("name", "a*"),
    "name:*": Term("name", (Text("", True),)),
    "name:a:b": text("name", "a:b"),
    "rank:16": Term("rank", (Span(low=16, high=16),)),
    "rank>=16": Term("rank", (Span(low=16),)),
    "rank <= 16": Term("rank", (Span(high=16),)),
    "rank>016": Term("rank", (Span(low=16, includes_low=False),)),
    'rank<"16"': Term("rank", (Span(high=16, includes_high=False),)),
    "rank:8..32": Term("rank", (Span(low=8, high=32),)),
    "rank:8..": Term("rank", (Span(low=8),)),
    "rank:..32,64": Term("rank", (Span(high=32), Span(low=64, high=64))),
    "layers:0-11": Term("layers", (Span(low=0, high=11),)),
    "params<10M": Term("params", (Span(high=10_000_000, includes_high=False),)),
    "params>=1.5k": Term("params", (Span(low=1500),)),
    "size<=1GB": Term("size", (Span(high=10**9),)),
    "size:1KiB..1.5MiB": Term("size", (Span(low=1024, high=1536 * 1024),)),
    "recovered>=0.5": Term("recovered", (Span(low=0.5),)),
    "created:2026-01-02": created(low=day(2), high=day(3), includes_high=False),
    "created>2026-01-02": created(low=day(3)),
    "created>=2026-01-02": created(low=day(2)),
    "created<2026-01-02": created(high=day(2), includes_high=False),
    "created<=2026-01-02": created(high=day(3), includes_high=False),
    "created:2026-01-02..2026-01-03": created(low=day(2), high=day(4), includes_high=False),
    "created>=2026-01-02T02:00:00+02:00": created(low=day(2)),
    'created>="2026-01-02T00:00"': created(low=day(2)),
    "metric:accuracy": Term("metric", (Pair("accuracy"),)),
    "metric:accuracy,loss": Term("metric", (Pair("accuracy"), Pair("loss"))),
    "metric:accuracy>=0.8": measured("accuracy", low=0.8),
    'metric:"exact match"<=-1e-2': measured("exact match", high=-0.01),
    "eval.loss:0.25": measured("loss", low=0.25, high=0.25),
    "tag:team": Term("tag", (Pair("team"),)),
    "tag:team=": Term("tag", (Pair("team", Text("")),)),
    'tag:team=search,"a b=c = d"': Term("tag", (Pair("team", Text("search")), Pair("a b", Text("c = d")))),
    "tag:team=s*": Term("tag", (Pair("team", Text("s", True)),)),
    'tag:team="a b"': Term("tag", (Pair("team", Text("a b")),)),
    'tag:team="a*"*,"b=c"': Term("tag", (Pair("team", Text("a*", True)), Pair("b", Text("c")))),
    "digest:ab12": Term("digest", (Text("sha256:ab12", True),)),
    "digest:sha256:" + "0" * 64: text("digest", "sha256:" + "0" * 64),
    "derived-from:med@3": text("derived-from", "med@3"),
    "derived-from:sha256:" + "0" * 64: text("derived-from", "sha256:" + "0" * 64),
    "yanked:true": text("yanked", "true"),
    "kind:ad*": Term("kind", (Text("ad", True),)),
    "role:mlp_gate,mlp_up": text("role", "mlp_gate", "mlp_up"),
    "role:mlp_*": Term("role", (Text("mlp_", True),)),
    "base:meta-llama/Llama-3.2-1B": text("base", "meta-llama/Llama-3.2-1B"),
    "domain:OR": text("domain", "OR"),
    "domain:NOT": text("domain", "NOT"),
    'domain:""': text("domain", ""),
    'domain:"(name:a) OR"': text("domain", "(name:a) OR"),
    r'domain:"say \"hi\""': text("domain", 'say "hi"'),
    r'domain:"a\\b"': text("domain", r"a\b"),
    r'domain:"a\\\"b"': text("domain", r"a\"b"),
    "domain:médecine": text("domain", "médecine"),
    "domain:'a'": text("domain", "'a'"),
    "domain:a;--": text("domain", "a;--"),
    "medical": Words(("medical",)),
    "size<1 5": All((Term("size", (Span(high=1, includes_high=False),)), Words(("5",)))),
    "rank:1 GB": All((Term("rank", (Span(low=1, high=1),)), Words(("gb",)))),
    "size<1GB M": All((Term("size", (Span(high=10**9, includes_high=False),)), Words(("m",)))),
    'size<1 "GB"': All((Term("size", (Span(high=1, includes_high=False),)), Words(("gb",)))),
    "Médecine-2": Words(("medecine", "2")),
    "med*": Words(("med",), True),
    '"drug names"': Words(("drug", "names")),
    '"drug na"*': Words(("drug", "na"), True),
    "ORacle ANDy NOTe": All((Words(("oracle",)), Words(("andy",)), Words(("note",)))),
    '"or"': Words(("or",)),
}


@pytest.mark.parametrize("query", MEANINGS)
def test_a_query_means_its_tree(query: str) -> None:
    assert parse_query(query) == Query(MEANINGS[query])


ORDERED = {
    "order:size": Query(All(()), Order("size")),
    "order:-created name:a": Query(A, Order("created", True)),
    "name:a order:rank name:b": Query(All((A, B)), Order("rank")),
    "name:a OR name:b order:-name": Query(Any_((A, B)), Order("name", True)),
    "order:params name:a OR name:b": Query(Any_((A, B)), Order("params")),
}


@pytest.mark.parametrize("query", ORDERED)
def test_an_order_may_stand_anywhere_outside_of_parentheses(query: str) -> None:
    assert parse_query(query) == ORDERED[query]


_CHARACTER = "unexpected character; a text with spaces or signs stands in quotes"
_EQUALS = "'=' alone compares nothing; write ':', such as rank:8 or tag:team=search"
_ONE_OPERATOR = "one term has one operator, such as rank>=8"
_QUOTE = "this quote has no end"
_WHOLE = 'a quote stands around a whole text, such as domain:"a b"'
_HERE = "unexpected here; expected a word or a term such as role:mlp_gate"
_END = "the query ends too early"
_TIME = "expected a day such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z, got"
_ROLES = f"(known: {', '.join(ROLES)})"

MISTAKES = {
    "rank:": (6, _END),
    "rank:1 OR": (10, _END),
    "NOT": (4, _END),
    "(rank:1": (8, _END),
    "rank:1 (": (9, _END),
    "name:(a": (8, _END),
    "rank:1)": (7, _HERE),
    "()": (2, _HERE),
    "OR rank:1": (1, _HERE),
    "rank:1 OR OR rank:2": (11, _HERE),
    "rank:1 or rank:2": (8, "'or' is an ordinary word here; write OR, or put it in quotes"),
    "not rank:1": (1, "'not' is an ordinary word here; write NOT, or put it in quotes"),
    "-name:a": (6, _HERE),
    "-word": (1, "a word cannot begin with '-'; write NOT, or put it in quotes"),
    "...": (1, "expected a letter or digit to look for"),
    "a*b": (1, "'*' stands at the end of a text alone; elsewhere it needs quotes"),
    "rank=1": (5, _EQUALS),
    "rank!=1": (6, _EQUALS),
    "a=b": (2, _EQUALS),
    "rank>>1": (6, _ONE_OPERATOR),
    "rank: >=1": (7, _ONE_OPERATOR),
    "metric:a>=>1": (11, _ONE_OPERATOR),
    'name:"a': (6, _QUOTE),
    'name:a"b': (7, _QUOTE),
    'domain:med"ical x"': (11, _WHOLE),
    'name:"a"b': (9, _WHOLE),
    'rank:8"x"': (7, _WHOLE),
    '"a""b"': (4, _WHOLE),
    'word"a b"': (5, _WHOLE),
    "size<1 GB": (8, "a unit stands right behind its number, such as 1GB"),
    "params : 1..2 m rank:1": (15, "a unit stands right behind its number, such as 1m"),
    "<": (1, _HERE),
    "colour:red": (1, "unknown field 'colour'"),
    "domian:red": (1, "unknown field 'domian'; did you mean domain?"),
    "name:a Rank:1": (8, "unknown field 'Rank'; did you mean rank?"),
    "domain>1": (7, "domain is compared by ':', not by '>'"),
    "role <= mlp_up": (6, "role is compared by ':', not by '<='"),
    "rank>1,2": (5, "several values are compared by ':', not by '>'"),
    "rank>1..2": (6, "a range is compared by ':', not by '>'"),
    "rank:1>2": (7, "unexpected here; one term has one operator"),
    "rank:..": (6, "a range needs a number at one end"),
    "rank:3..2": (6, "the range '3..2' is empty: its first end is the larger one"),
    "rank:x": (6, "expected a whole number, got 'x'"),
    "rank:-1": (6, "expected a whole number, got '-1'"),
    "rank>=1.5": (7, "expected a whole number below 2^63, got '1.5'"),
    "rank:" + "9" * 19: (6, f"expected a whole number below 2^63, got '{'9' * 19}'"),
    "rank:" + "9" * 30: (6, f"expected a whole number below 2^63, got '{'9' * 30}'"),
    'name:a rank>"a b"': (13, "expected a whole number, got 'a b'"),
    "params:1X": (8, "expected a number such as 500K, 10M or 1.5G, got '1X'"),
    "size:1*": (6, "expected a size such as 500kB, 10MB or 1.5GiB, got '1*'"),
    "recovered>=nan": (12, "expected a number, got 'nan'"),
    "recovered>=1e999": (12, "expected a number, got '1e999'"),
    "created:2026": (9, f"{_TIME} '2026'"),
    "created:2026-13-01": (9, f"{_TIME} '2026-13-01'"),
    "created:9999-12-31": (9, f"{_TIME} '9999-12-31'"),
    "metric>1": (7, "expected metric:NAME, then its value, such as metric:accuracy>=0.8"),
    "metric:a,b>1": (11, "several metrics have no common value"),
    "metric:a*": (8, "expected the whole name of a metric"),
    "metric:a>x": (10, "expected a number, got 'x'"),
    "eval.a:1,2": (10, "unexpected here; a metric has one value"),
    "eval.:1": (1, "expected the whole name of a metric"),
    "tag:t*": (5, "expected a tag such as team, team=search or team=sea*"),
    "tag:=x": (5, "expected a tag such as team, team=search or team=sea*"),
    "digest:xyz": (8, "expected up to 64 hexadecimal digits in lower case, got 'xyz'"),
    "derived-from:a*": (14, "expected one revision; '*' cannot stand for several"),
    "derived-from:a@@": (14, "alias '@': expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone"),
    "derived-from:a " * 9: (134, "more than 8 lineages in one query"),
    "yanked:yes": (8, "unknown yanked 'yes' (known: true, false)"),
    "role:mlp": (6, f"unknown role 'mlp' {_ROLES}"),
    "role:zz*": (6, f"unknown role 'zz*' {_ROLES}"),
    "name:a\nrole:mlp": (13, f"unknown role 'mlp' {_ROLES}"),
    "order:colour": (7, f"unknown order 'colour' (known: {', '.join(ORDERS)})"),
    "order>name": (6, "expected order:FIELD or order:-FIELD"),
    "order:name order:size": (18, "one query has one order"),
    "a OR order:size": (12, "order is no term; OR needs one on both sides"),
    "(order:size)": (8, "order concerns the whole query; it stands outside of parentheses and NOT"),
    "NOT order:size": (11, "order concerns the whole query; it stands outside of parentheses and NOT"),
    "name:a\x00": (7, "no text holds the character '\\x00'"),
    "name:\udcff": (6, "no text holds the character '\\udcff'"),
    "(" * 33 + "a": (33, "more than 32 parentheses and NOT around one term"),
    "NOT " * 17 + "a " * 3 + "(" * 33: (107, "more than 32 parentheses and NOT around one term"),
}


@pytest.mark.parametrize("query", MISTAKES, ids=lambda query: ascii(query[:40]))
def test_a_mistake_points_at_its_column(query: str) -> None:
    column, message = MISTAKES[query]
    with pytest.raises(QueryError) as caught:
        parse_query(query)
    first, shown, mark = caught.value.message.split("\n")
    assert first == f"query, column {column}: {message}"
    assert caught.value.context == {"column": column}
    assert caught.value.hint == f"fields: {', '.join(FIELDS)}"
    assert (caught.value.problem_code, caught.value.exit_code) == ("query", 8)
    if len(query) <= 100:
        plain = query.replace("\n", " ").replace("\0", " ").replace("\udcff", " ")
        assert (shown, mark) == (f"  {plain}", " " * (column + 1) + "^")


def test_of_a_long_query_the_place_of_the_mistake_is_shown() -> None:
    query = "name:a " * 100 + "colour:red " + "name:a " * 100
    with pytest.raises(QueryError) as caught:
        parse_query(query)
    _, shown, mark = caught.value.message.split("\n")
    assert shown == "  ..." + query[650:750] + "..."
    assert shown[mark.index("^") :].startswith("colour:red")


@pytest.mark.parametrize("query", ["a" * 10**7, "(" * 10**7, "NOT " * 10**6, "name:a,b " * 10**6])
def test_a_query_of_megabytes_is_refused_at_once(query: str) -> None:
    with pytest.raises(QueryError, match="query, column 10001: longer than 10,000 characters"):
        parse_query(query)


def test_as_much_as_is_allowed_is_parsed() -> None:
    assert parse_query("(" * 32 + "name:a" + ")" * 32) == Query(A)
    assert parse_query("name:a " * 500) == Query(All((A,) * 500))
    # What is closed again does not count.
    assert parse_query("NOT (name:a) " * 100) == Query(All((Not(A),) * 100))
    assert parse_query("name:" + "a," * 49 + "a") == Query(Term("name", (Text("a"),) * 50))
    with pytest.raises(QueryError, match="column 106: more than 50 values of one term"):
        parse_query("name:" + "a," * 50 + "a")
    with pytest.raises(QueryError, match="column 3501: more than 500 words"):
        parse_query("name:a " * 501)


@pytest.mark.parametrize("name", FIELDS)
def test_the_example_of_a_field_is_a_term_of_it(name: str) -> None:
    found = parse_query(FIELDS[name].example).where
    assert isinstance(found, Term)
    assert found.field == name


def test_the_page_about_search_has_the_fields_of_the_program() -> None:
    from docs.generate import _SEARCH

    assert _SEARCH.read_text(encoding="utf-8") == search_page()


def test_every_query_of_the_page_about_search_is_one() -> None:
    block = search_page().split("```")[1]
    for line in block.strip().splitlines():
        parse_query(line)


def test_an_order_alone_is_read_as_in_a_query() -> None:
    assert [parse_order("size"), parse_order("-created")] == [Order("size"), Order("created", True)]
    with pytest.raises(QueryError) as caught:
        parse_order("colour")
    assert caught.value.message == f"order 'colour': expected one of {', '.join(ORDERS)}"


@given(st.text(alphabet='namerkOT:"()\\ <>=16*.,-\n', max_size=30))
def test_any_text_is_a_query_or_a_mistake_within_it(query: str) -> None:
    try:
        parse_query(query)
    except QueryError as error:
        column = error.context["column"]
        assert isinstance(column, int)
        assert 1 <= column <= len(query) + 1
