"""The search language: what it means, and where every mistake is told to stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.air.roles import ROLES
from ual_registry.errors import QueryError
from ual_registry.registry.query import FIELDS, All, Any_, Comparison, Not, parse_query


def text(field: str, value: str) -> Comparison:
    return Comparison(field, ":", value)


A, B, C = text("name", "a"), text("name", "b"), text("name", "c")

MEANINGS = {
    "": All(()),
    "   ": All(()),
    "name:a": A,
    " name:a ": A,
    "name: a": A,
    "name : a": A,
    'name:"a"': A,
    "name:a name:b": All((A, B)),
    "name:a\n\tname:b": All((A, B)),
    "name:a OR name:b": Any_((A, B)),
    "name:a OR name:b OR name:c": Any_((A, B, C)),
    "name:a name:b OR name:c": Any_((All((A, B)), C)),
    "name:a (name:b OR name:c)": All((A, Any_((B, C)))),
    "((name:a))": A,
    "NOT name:a": Not(A),
    "NOT NOT name:a": Not(Not(A)),
    "NOT name:a name:b": All((Not(A), B)),
    "NOT (name:a name:b)": Not(All((A, B))),
    "NOT(name:a)": Not(A),
    "name:a OR NOT name:b": Any_((A, Not(B))),
    "rank:16": Comparison("rank", ":", 16),
    "rank>=16": Comparison("rank", ">=", 16),
    "rank <= 16": Comparison("rank", "<=", 16),
    "rank>016": Comparison("rank", ">", 16),
    'rank<"16"': Comparison("rank", "<", 16),
    "role:mlp_gate": text("role", "mlp_gate"),
    "base:meta-llama/Llama-3.2-1B": text("base", "meta-llama/Llama-3.2-1B"),
    "license:apache-2.0": text("license", "apache-2.0"),
    "domain:OR": text("domain", "OR"),
    "domain:NOT": text("domain", "NOT"),
    'domain:"a b"': text("domain", "a b"),
    'domain:""': text("domain", ""),
    'domain:"(name:a) OR"': text("domain", "(name:a) OR"),
    r'domain:"say \"hi\""': text("domain", 'say "hi"'),
    r'domain:"a\\b"': text("domain", r"a\b"),
    r'domain:"a\\\"b"': text("domain", r"a\"b"),
    r'domain:"a\\"': text("domain", "a\\"),
    "domain:médecine": text("domain", "médecine"),
    "domain:'a'": text("domain", "'a'"),
    "domain:a;--": text("domain", "a;--"),
    "method:svd": text("method", "svd"),
}


@pytest.mark.parametrize("query", MEANINGS)
def test_a_query_means_its_tree(query: str) -> None:
    assert parse_query(query) == MEANINGS[query]


_TERM = "expected a term such as rank>=16, NOT, OR or a parenthesis"
_HERE = "unexpected here; expected a term such as role:mlp_gate"
_END = "the query ends too early"

MISTAKES = {
    "rank": (1, _HERE),
    "rank:": (6, _END),
    "rank:1 OR": (10, _END),
    "NOT": (4, _END),
    "(rank:1": (8, _END),
    "rank:1 (": (9, _END),
    "rank:1)": (7, _HERE),
    "()": (2, _HERE),
    "OR rank:1": (1, _HERE),
    "rank:1 OR OR rank:2": (11, _HERE),
    "rank:1 AND rank:2": (8, _HERE),
    "rank:1 or rank:2": (8, _HERE),
    "not rank:1": (1, _HERE),
    "name:a:b": (7, _HERE),
    "rank=1": (1, _HERE),
    "rank!=1": (1, _HERE),
    "rank>>1": (6, _HERE),
    'name:"a': (6, _TERM),
    'name:a"b': (7, _TERM),
    '"medical"': (1, _HERE),
    "medical*": (1, _HERE),
    "<": (1, _HERE),
    "colour:red": (1, "unknown field 'colour'"),
    "name:a Rank:1": (8, "unknown field 'Rank'"),
    "NOTname:a": (1, "unknown field 'NOTname'"),
    "domain>1": (7, "domain is compared by ':', not by '>'"),
    "role <= mlp_up": (6, "role is compared by ':', not by '<='"),
    "rank:x": (6, "expected a whole number, got 'x'"),
    "rank:-1": (6, "expected a whole number, got '-1'"),
    "rank>=1.5": (7, "expected a whole number, got '1.5'"),
    'name:a rank>"a b"': (13, "expected a whole number, got 'a b'"),
    "rank:1234567890": (6, "expected a whole number, got '1234567890'"),
    "role:mlp": (6, f"unknown role 'mlp' (known: {', '.join(ROLES)})"),
    'role:"a b"': (6, f"unknown role 'a b' (known: {', '.join(ROLES)})"),
    "name:a\nrole:mlp": (13, f"unknown role 'mlp' (known: {', '.join(ROLES)})"),
    "name:a\nrank": (8, _HERE),
    "(" * 33 + "name:a" + ")" * 33: (33, "more than 32 parentheses and NOT around one term"),
    "NOT " * 33 + "name:a": (129, "more than 32 parentheses and NOT around one term"),
    "NOT (" * 17 + "name:a" + ")" * 17: (81, "more than 32 parentheses and NOT around one term"),
    "name:a " * 501: (3501, "more than 500 words"),
}


@pytest.mark.parametrize("query", MISTAKES, ids=lambda query: query[:40])
def test_a_mistake_points_at_its_column(query: str) -> None:
    column, message = MISTAKES[query]
    shown = query.replace("\n", " ")
    with pytest.raises(QueryError) as caught:
        parse_query(query)
    assert caught.value.message == f"query, column {column}: {message}\n  {shown}\n  {' ' * (column - 1)}^"
    assert caught.value.context == {"column": column}
    assert caught.value.hint == "fields: base, role, rank, domain, name, method, license"
    assert (caught.value.problem_code, caught.value.exit_code) == ("query", 8)


def test_as_much_as_is_allowed_is_parsed() -> None:
    deep = "(" * 32 + "name:a" + ")" * 32
    assert parse_query(deep) == A
    assert parse_query("name:a " * 500) == All((A,) * 500)
    # What is closed again does not count.
    assert parse_query("NOT (name:a) " * 100) == All((Not(A),) * 100)


def test_every_field_is_documented() -> None:
    assert {name: field.help for name, field in FIELDS.items()} == {
        "base": "base model: its label, architecture or model type",
        "role": "some entry plays this role",
        "rank": "some entry has this rank",
        "domain": "the field that the adapter serves",
        "name": "the adapter's name",
        "method": "lora, or the projection that made the adapter",
        "license": "SPDX expression",
    }


@given(st.text(alphabet='namerkOT:"()\\ <>=16\n', max_size=30))
def test_any_text_is_a_query_or_a_mistake_with_a_column_inside(query: str) -> None:
    try:
        parse_query(query)
    except QueryError as error:
        assert 1 <= error.context["column"] <= len(query) + 1  # noqa: PT017


@given(st.text(max_size=20))
def test_any_value_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_query(f'domain:"{quoted}"') == text("domain", value)
