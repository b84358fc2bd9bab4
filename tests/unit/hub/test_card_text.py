"""Whatever a manifest says, a card shows it as it is, and it commands nothing."""

from __future__ import annotations

import dataclasses
import html
import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.hub.card_manifests import card_of, projection, statement, transferred
from ual_registry.air.model import Extra, Manifest
from ual_registry.hub.card_text import code, fenced, literal, number, quoted, shown, table
from ual_registry.hub.card_values import hub_base

markdown_it = pytest.importorskip("markdown_it")

HOSTILE = [
    "<!-- ual:end -->",
    "-->\n<script>alert(1)</script>",
    "| x | y |\n| --- | --- |",
    "`` ` ``` ~~~",
    "\\| \\` \\\\( x \\\\) $$y$$",
    "[a](javascript:x) ![b](http://c) <http://d> http://e www.f.g h@i.j @k #1",
    "# Title\n\n- item\n1. one\n1) two\n===\n---\n> quote\n    code",
    "&lt; &#60; &amp;",
    "*a* _b_ __c__ ~~d~~ ==e== ^f^ :smile:",
    "\u202eright to left\u202c \u200b \ufeff \x00 \x1b[2J \x85 \u2028",
    "'; drop table; {{ 7*7 }} {% raw %} ${x}",
    "---\nlicense: mit\n---",
    "2024. a",
    "\u0661. a",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=60),
    st.text("|`<>[]()*_~#-+=.:!&;\\$@ \n\r\tabw1", max_size=30),
)


def page(markdown: str) -> Any:
    """Return the tokens of a page, as GitHub's Markdown has them."""
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return parser.parse(markdown)


def seen(tokens: Any) -> list[str]:
    """Return what a reader sees, one text for each run of words."""
    found = []
    for token in tokens:
        if token.type == "inline":
            parts = [child.content for child in token.children if child.type in ("text", "code_inline", "text_special")]
            found.append("".join(parts))
    return found


@given(TEXTS)
def test_a_text_in_a_cell_is_shown_as_it_is_and_stays_in_its_cell(text: str):
    tokens = page(table(["a", "b"], [[literal(text), code(text)], ["x", "y"]]))
    assert [token.type for token in tokens if token.type.startswith("t") and token.type.endswith("_open")] == (
        ["table_open", "thead_open", "tr_open", "th_open", "th_open", "tbody_open"]
        + ["tr_open", "td_open", "td_open"] * 2
    )
    assert seen(tokens) == ["a", "b", shown(text), shown(text), "x", "y"]
    kinds = {child.type for token in tokens if token.type == "inline" for child in token.children}
    assert kinds <= {"text", "code_inline", "html_inline", "text_special"}


@given(TEXTS)
def test_a_text_in_a_sentence_is_shown_as_it_is(text: str):
    tokens = page(f"Before {literal(text)} after.")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert re.sub(" +", " ", seen(tokens)[0]) == re.sub(" +", " ", f"Before {shown(text)} after.")


@given(TEXTS)
def test_a_long_text_is_shown_line_by_line_in_a_quotation(text: str):
    tokens = page(quoted(text))
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
    assert kinds <= {"blockquote", "paragraph", "inline"}
    lines = re.split(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)
    assert "".join(seen(tokens)) == "".join(filter(None, map(shown, lines)))


@given(st.text("`~ab\n ", max_size=30))
def test_code_stays_in_its_block(text: str):
    (token,) = page(fenced(text, "bash"))
    assert (token.type, token.info, token.content) == ("fence", "bash", text + "\n")


def test_text_that_no_utf_8_has_is_shown_by_its_number():
    assert shown("a\ud800b\x07\U000e0041") == r"a\ud800b\x07\U000e0041"


@pytest.mark.parametrize("value", [10**400, -(10**400), object(), None])
def test_a_number_beyond_all_floats_is_no_error(value: object):
    assert number(value) == "a number too large to write"


def filled(text: str, other: str = "x") -> Manifest:
    """Return a manifest that has a text wherever a manifest can have one."""
    found = transferred()
    base = dataclasses.replace(found.base_model, id=text, revision=text, model_type=text, model_class=text)
    materials = ({"name": text, "digest": "sha256:" + "6" * 64, "uri": text},)
    result = {"metric": text, "value": 1, "n": 1, "data_digest": "sha256:" + "5" * 64, "arm": text}
    made = projection(materials=materials)
    return dataclasses.replace(
        found,
        **dict.fromkeys(("name", "description", "domain", "license", "created_at"), text),
        base_model=base,
        method=dataclasses.replace(found.method, task_type=text),
        languages=(text, other),
        tags=(text, other),
        extra=(Extra(tensor=f"extra.{text}", name=text),),
        provenance=(
            dataclasses.replace(made, byproducts={**made.byproducts, "dropped_because": {text: 1}}),
            statement("training", parameters={"steps": 1, "seed": 1, "schedule": text, "settings": {text: [text]}}),
            statement("conversion", parameters={"from_format": text}, byproducts={"lost": (text,)}),
            statement("evaluation", builder={"name": text, "version": text}, byproducts={"results": (result,)}),
        ),
    )


def skeleton(card: str) -> list[tuple[str, str]]:
    """Return the blocks of a card's body without what they say."""
    tokens = page(card.split("\n---\n", 1)[1])
    kinds = [(token.type, token.tag) for token in tokens]
    return [kind for kind in kinds if kind[0] not in ("blockquote_open", "blockquote_close")]


@given(TEXTS.filter(lambda text: shown(text) != "" and hub_base(text, text) is None))  # an id of the Hub is linked
@example("<!-- ual:begin -->")
@example("a: b\n---\n# x")
def test_no_text_of_a_manifest_changes_the_form_of_its_card(text: str):
    manifest = filled(text)
    one_line = dataclasses.replace(manifest, description="x")
    made = card_of(one_line)
    assert skeleton(made) == skeleton(card_of(dataclasses.replace(filled("x y"), description="x")))
    assert made.count("ual:begin") == made.count("ual:end") == 1
    assert html.unescape(made).count(shown(text)) >= 10
    made = card_of(manifest)
    assert card_of(manifest, made) == made


@given(TEXTS, TEXTS)
def test_no_text_of_a_manifest_changes_what_the_metadata_mean(text: str, other: str):
    block = card_of(filled(text, other)).split("---\n")[1]
    found = yaml.safe_load(block)
    known = ["base_model", "base_model_relation", "library_name", "license", "license_name", "language", "pipeline_tag"]
    assert set(found) <= {*known, "tags"}
    assert all(re.fullmatch(r"[a-z0-9:._+-]{1,80}", tag) for tag in found["tags"])
    assert found["library_name"] == "peft"
    assert re.fullmatch(r"[\w./+-]{1,96}", found.get("base_model", "x"), re.ASCII)
    assert re.fullmatch(r"[a-z0-9.+-]{1,64}", found["license"] + found.get("license_name", ""))
