"""Metadata that people wrote stays byte for byte round the keys that are set."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.errors import HubError
from ual_registry.hub.card_front import split_front


def changed(lines: str, **values: Any) -> str:
    """Return the lines of a block after values are set."""
    front, body = split_front(f"---\n{lines}---\nbody")
    assert body == "body"
    made = str(front.with_values(values))
    assert (made[:4], made[-4:]) == ("---\n", "---\n")
    return made[4:-4]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "license: mit\n"),
        ("# only a remark\n", "# only a remark\nlicense: mit\n"),
        ("license: gpl\n", "license: mit\n"),
        ("license: 'mit'  # checked\n", "license: 'mit'  # checked\n"),
        ('"license": gpl # old\n', "license: mit\n"),
        ("a: no\nlicense:\n- gpl\n- mit\n\n# about b\nb: 1.10\n", "a: no\nlicense: mit\n\n# about b\nb: 1.10\n"),
        ("license: |\n  # text\n  more\nb: 2\n", "license: mit\nb: 2\n"),
        ("  a: 1\n  b: 2\n", "  a: 1\n  b: 2\n  license: mit\n"),
        ("a: &x [1]\nb: *x\n", "a: &x [1]\nb: *x\nlicense: mit\n"),
        ("a: >-\n  long\n  text\n", "a: >-\n  long\n  text\nlicense: mit\n"),
        ("model-index:\n- name: x\n  results: []\n", "model-index:\n- name: x\n  results: []\nlicense: mit\n"),
    ],
)
def test_one_key_is_set_and_every_other_byte_stays(before: str, after: str):
    assert changed(before, license="mit") == after
    assert changed(after, license="mit") == after


def test_lists_are_written_one_item_to_a_line():
    assert changed("tags: x\nb: 1\n", tags=["no", "a: b"]) == "tags:\n- 'no'\n- 'a: b'\nb: 1\n"


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ("", ()),
        ("tags:\n", ()),
        ("tags: one\n", ("one",)),
        ("tags: [a, no, 1]\n", ("a", "no", "1")),
        ("tags:\n  - a\n  # why\n  - 'b: c'\n", ("a", "b: c")),
    ],
)
def test_tags_are_read_as_they_are_written(lines: str, tags: tuple[str, ...]):
    assert split_front(f"---\n{lines}---\n")[0].tags() == tags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("---\na: [\n---\n", "metadata: line 3: expected the node content, but found '<stream end>'"),
        ("---\na: 1\na: 2\n---\n", "metadata: 'a' is there twice"),
        ("---\n- a\n---\n", "metadata: expected 'key: value' lines"),
        ("---\njust text\n---\n", "metadata: expected 'key: value' lines"),
        ("---\n{a: 1, b: 2}\n---\n", "metadata: is no block of 'key: value' lines"),
        ("---\n? a\n: 1\n---\n", "metadata: is no block of 'key: value' lines"),
        ("---\n[a]: 1\n---\n", "metadata: is no block of 'key: value' lines"),
        ("---\na: &x {b: 1}\n<<: *x\n---\n", "metadata: is no block of 'key: value' lines"),
        ("---\na: 1\n", "metadata: begins with '---' and has no end"),
        ("---", "metadata: begins with '---' and has no end"),
        ("---\na: \x07\n---\n", "metadata: special characters are not allowed"),
        ("---\nlicense: &x gpl\nb: *x\n---\n", "metadata: line 3: found undefined alias 'x'"),
        ("---\na: 1\n... \n---\n", "metadata: line 4: expected '<document start>', but found '<block mapping start>'"),
        (f"---\na: {'[' * 5000}\n---\n", "metadata: is nested too deeply"),
    ],
)
def test_metadata_that_cannot_be_set_is_refused_with_what_to_mend(text: str, message: str):
    with pytest.raises(HubError) as caught:
        split_front(text)[0].with_values({"license": "mit", "new": "x"})
    assert (caught.value.message, caught.value.problem_code) == (f"README.md: {message}", "hub-card")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("; nothing was changed")


def test_tags_that_are_no_list_of_texts_are_refused():
    with pytest.raises(HubError, match="metadata: tags: expected a list of texts"):
        split_front("---\ntags:\n- a: 1\n---\n")[0].tags()


VALUES = st.recursive(
    st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.text(max_size=30), st.lists(st.text(max_size=10), max_size=3))
def test_any_text_is_read_back_as_it_was_set_and_others_keep_their_values(
    others: dict[str, Any], text: str, items: list[str]
):
    lines = yaml.safe_dump(others, sort_keys=False) if others else ""
    values = {"license": text, "tags": items}
    made = changed(lines, **values)
    assert yaml.safe_load(made) == {**others, **values}
    assert changed(made, **values) == made
