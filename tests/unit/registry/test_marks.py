"""What may change after a revision was made, and that each change stands in the log of its transaction."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from tests.unit.registry.conftest import Files
from ual_registry.errors import RegistryConflictError, RegistryError, RegistryNotFoundError
from ual_registry.registry.records import AdapterEdit, AliasMove, TagChange, YankResult
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import RevisionTextRow


@pytest.fixture
def two(registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with an adapter of two revisions; the alias ``production`` points to the first."""
    monkeypatch.setenv("UAL_ACTOR", "ada")
    for _ in range(2):
        registry.add(files.make(domain="clinic"), name="medical")
    registry.alias("medical", "production", "1")
    return registry


def done(registry: Registry, count: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the newest entries of the log, newest first."""
    return [(entry.actor, entry.action, entry.detail) for entry in registry.log(limit=count)]


def total(registry: Registry) -> int:
    return len(registry.log(limit=1000))


def words(registry: Registry) -> list[str]:
    with registry.database.session() as session:
        return list(session.scalars(select(RevisionTextRow.body).order_by(RevisionTextRow.revision_id)))


# aliases


def test_a_protected_alias_moves_only_by_force_and_with_a_reason(two: Registry) -> None:
    protected = two.alias("medical", "production", protect=True)
    assert protected == AliasMove(name="medical", alias="production", previous=1, number=1, is_protected=True)
    before = total(two)

    for options in ({}, {"force": True}, {"why": "it is better"}, {"force": True, "why": " \t"}):
        with pytest.raises(RegistryError) as caught:
            two.alias("medical", "production", "2", **options)
        assert (caught.value.problem_code, caught.value.exit_code) == ("protected", 8)
        assert caught.value.message == (
            "adapter 'medical' has the protected alias 'production': it changes only by force and with a reason"
        )
        assert caught.value.hint == (
            "ask who protected it ('ual log' tells), or change it by "
            "'ual alias medical production REV --force --why TEXT'"
        )
    assert total(two) == before

    moved = two.alias("medical", "production", "2", force=True, why="it is better")
    assert moved == AliasMove(name="medical", alias="production", previous=1, number=2, is_protected=True)
    assert done(two, 2) == [
        (
            "ada",
            "alias",
            {"alias": "production", "previous": 1, "number": 2, "is_forced": True, "why": "it is better"},
        ),
        ("ada", "alias", {"alias": "production", "previous": 1, "number": 1, "is_protected": True}),
    ]


@pytest.mark.parametrize("how", ["unprotect", "delete", "add"])
def test_a_protection_cannot_be_walked_around(two: Registry, files: Files, how: str) -> None:
    two.alias("medical", "production", protect=True)
    before = (total(two), two.revisions("medical"))
    ways = {
        "unprotect": lambda: two.alias("medical", "production", protect=False),
        "delete": lambda: two.unalias("medical", "production"),
        "add": lambda: two.add(files.make(), name="medical", aliases=["candidate", "production"]),
    }
    with pytest.raises(RegistryError) as caught:
        ways[how]()
    assert caught.value.problem_code == "protected"
    assert (total(two), two.revisions("medical")) == before


def test_a_protection_is_taken_away_by_force_and_then_the_alias_moves(two: Registry) -> None:
    two.alias("medical", "production", protect=True)
    freed = two.alias("medical", "production", protect=False, force=True, why="a rehearsal")
    assert freed == AliasMove(name="medical", alias="production", previous=1, number=1)
    assert two.alias("medical", "production", "2").number == 2


def test_an_alias_that_points_there_already_is_left_alone(two: Registry) -> None:
    two.alias("medical", "production", protect=True)
    before = total(two)
    assert two.alias("medical", "production", "1") == AliasMove(
        name="medical", alias="production", previous=1, number=1, is_protected=True
    )
    assert total(two) == before


def test_an_alias_is_deleted(two: Registry) -> None:
    gone = two.unalias("medical", "production", expected=1)
    assert gone == AliasMove(name="medical", alias="production", previous=1, number=None)
    assert done(two, 1) == [("ada", "alias", {"alias": "production", "previous": 1, "number": None})]
    with pytest.raises(RegistryNotFoundError) as caught:
        two.unalias("medical", "production")
    assert caught.value.message == "adapter 'medical' has no alias 'production' (known: none)"


def test_an_alias_that_moved_meanwhile_is_not_deleted(two: Registry) -> None:
    with pytest.raises(RegistryConflictError) as caught:
        two.unalias("medical", "production", expected=2)
    assert caught.value.message == "adapter 'medical' has alias 'production' on revision 1 (expected revision 2)"
    assert str(two.resolve("medical@production")) == str(two.resolve("medical@1"))


def test_an_alias_that_is_not_there_cannot_be_protected(two: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        two.alias("medical", "staging", protect=True)
    assert caught.value.message == "adapter 'medical' has no alias 'staging' (known: production)"


# tags


def test_tags_are_set_changed_and_removed(two: Registry) -> None:
    assert two.tag("medical@1", {"team": "search", "reviewed": ""}) == TagChange(
        name="medical", number=1, tags={"reviewed": "", "team": "search"}
    )
    assert two.tag("medical@production", {"team": "ads", "größe": "å 1"}, remove=["reviewed", "none"]) == TagChange(
        name="medical", number=1, tags={"größe": "å 1", "team": "ads"}
    )
    assert done(two, 2) == [
        ("ada", "tag", {"number": 1, "set": {"größe": "å 1", "team": "ads"}, "removed": ["reviewed"]}),
        ("ada", "tag", {"number": 1, "set": {"reviewed": "", "team": "search"}, "removed": []}),
    ]


def test_a_change_that_changes_nothing_is_not_logged(two: Registry) -> None:
    two.tag("medical@1", {"team": "search"})
    before = total(two)
    assert two.tag("medical@1", {"team": "search"}, remove=["none"]).tags == {"team": "search"}
    assert two.tag("medical@1").tags == {"team": "search"}
    assert total(two) == before


def test_tags_are_words_of_their_revision_alone(two: Registry) -> None:
    two.tag("medical@1", {"team": "search", "reviewed": ""})
    assert words(two) == ["medical\nclinic\nnumber 1\nreviewed\nteam\nsearch", "medical\nclinic\nnumber 2"]
    two.tag("medical@1", remove=["team", "reviewed"])
    assert words(two) == ["medical\nclinic\nnumber 1", "medical\nclinic\nnumber 2"]


LONG = "x" * 10_000_000
_VALUE = "expected up to 256 characters, none of them a control character"
_REASON = "expected up to 1,024 characters, none of them a control character but line breaks and tabs"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"": "1"}, "tag '': expected a key of 1 to 128 characters without spaces and '='"),
        ({"a b": "1"}, "tag 'a b': expected a key of 1 to 128 characters without spaces and '='"),
        ({"a=b": "1"}, "tag 'a=b': expected a key of 1 to 128 characters without spaces and '='"),
        (
            {LONG: ""},
            f"tag '{'x' * 60}'... (10000000 characters): expected a key of 1 to 128 characters without spaces and '='",
        ),
        (
            {"a": LONG},
            f"tag 'a': value '{'x' * 60}'... (10000000 characters), {_VALUE}",
        ),
        (
            {"a": "\0"},
            f"tag 'a': value '\\x00', {_VALUE}",
        ),
    ],
)
def test_a_tag_that_cannot_be_is_refused(two: Registry, tags: dict[str, str], message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        two.tag("medical", tags)
    assert (caught.value.message, caught.value.problem_code) == (message, "name")


def test_a_digest_stands_for_its_revision_where_it_has_one(two: Registry, files: Files) -> None:
    digest = str(two.resolve("medical@1"))
    assert two.tag(digest, {"a": "b"}) == TagChange(name="medical", number=1, tags={"a": "b"})

    two.add(two.find(digest), name="copy")
    with pytest.raises(RegistryError) as caught:
        two.tag(digest, {"a": "c"})
    assert caught.value.message == f"{digest}: is the digest of 2 revisions, expected one"
    assert caught.value.problem_code == "ambiguous-reference"
    assert caught.value.hint is not None
    assert sorted(caught.value.hint.removeprefix("name one of them: ").split(", ")) == ["copy@1", "medical@1"]

    unknown = f"sha256:{'0' * 64}"
    with pytest.raises(RegistryNotFoundError) as missing:
        two.tag(unknown, {"a": "c"})
    assert missing.value.message == f"{unknown}: no such artifact in this registry"


# yanks


def test_a_yanked_revision_is_passed_over_by_its_adapters_name_and_found_by_number(two: Registry) -> None:
    newest, first = two.resolve("medical@2"), two.resolve("medical@1")
    assert two.yank("medical", why="leaked data") == YankResult(
        name="medical", number=2, is_yanked=True, reason="leaked data"
    )
    assert two.resolve("medical") == first
    assert two.resolve("medical@2") == newest
    assert two.yank("medical@2", why="another reason").reason == "leaked data"  # the first one stands

    assert two.unyank("medical@2") == YankResult(name="medical", number=2, is_yanked=False, reason=None)
    assert two.unyank("medical@2").is_yanked is False
    assert two.resolve("medical") == newest
    assert done(two, 2) == [
        ("ada", "yank", {"number": 2, "undo": True}),
        ("ada", "yank", {"number": 2, "why": "leaked data"}),
    ]


def test_a_number_is_not_given_again_when_its_revision_is_yanked(two: Registry, files: Files) -> None:
    two.yank("medical@2", why="wrong")
    assert two.add(files.make(), name="medical").number == 3


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("", "a yank needs a reason"),
        (" \n", "a yank needs a reason"),
        (
            LONG,
            f"reason '{'x' * 60}'... (10000000 characters): {_REASON}",
        ),
        ("a\x1bb", f"reason 'a\\x1bb': {_REASON}"),
    ],
)
def test_a_yank_needs_a_reason_that_can_be_kept(two: Registry, why: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        two.yank("medical@1", why=why)
    assert (caught.value.message, caught.value.problem_code) == (message, "text")


def test_which_revision_shall_be_shown_again_must_be_said(two: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        two.unyank("medical")
    assert caught.value.message == "adapter 'medical': which revision shall be shown again?"
    assert (caught.value.hint, caught.value.problem_code) == (
        "give its number, such as medical@1",
        "ambiguous-reference",
    )


# owner and description


def test_owner_and_description_are_set_kept_and_cleared(two: Registry) -> None:
    assert two.describe("medical", owner="search team") == AdapterEdit(
        name="medical", owner="search team", description=None
    )
    assert two.describe("medical", description="Für Ärzte") == AdapterEdit(
        name="medical", owner="search team", description="Für Ärzte"
    )
    assert words(two)[1] == "medical\nsearch team\nfur arzte\nclinic\nnumber 2"
    before = total(two)
    assert two.describe("medical").owner == "search team"
    assert total(two) == before
    assert two.describe("medical", owner="") == AdapterEdit(name="medical", owner=None, description="Für Ärzte")
    assert done(two, 3) == [
        ("ada", "describe", {"owner": None}),
        ("ada", "describe", {"description": "Für Ärzte"}),
        ("ada", "describe", {"owner": "search team"}),
    ]


def test_what_is_added_with_an_owner_and_tags_has_them_at_once(registry: Registry, files: Files) -> None:
    path = files.make()
    registry.add(path, name="legal", tags={"team": "law"}, owner="ada", description="contracts", aliases=["live"])
    assert words(registry) == ["legal\nada\ncontracts\nnumber 1\nteam\nlaw"]
    assert registry.describe("legal") == AdapterEdit(name="legal", owner="ada", description="contracts")
    assert registry.tag("legal").tags == {"team": "law"}
    before = total(registry)
    registry.add(path, name="legal", tags={"team": "law"}, owner="ada", description="contracts", aliases=["live"])
    assert total(registry) == before


def test_an_adapter_that_is_not_there_cannot_be_described(two: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        two.describe("none", owner="ada")
    assert caught.value.message == "adapter 'none': not in this registry"


@pytest.mark.parametrize(
    "name", ["ж", "医療", "طبي", "🩺", "a\u0301", "a b", "-a", "../a", "a/b", "a\0", "\ud800", LONG], ids=range(12)
)
def test_names_of_other_scripts_and_lengths_are_refused_where_a_name_stands(two: Registry, name: str) -> None:
    for attempt in (
        lambda: two.add("none.air", name=name),
        lambda: two.add("none.air", name="ok", aliases=[name]),
        lambda: two.alias(name, "production", "1"),
        lambda: two.alias("medical", name, "1"),
        lambda: two.describe(name, owner="ada"),
        lambda: two.yank(name, why="x"),
        lambda: two.resolve(name),
        lambda: two.log(name),
    ):
        with pytest.raises(RegistryError) as caught:
            attempt()
        assert caught.value.problem_code == "name"
        assert len(caught.value.message) < 300


def test_texts_in_every_script_are_kept_as_they_are(two: Registry) -> None:
    for text in ("ж", "医療", "طبي", "🩺", "a\u0301", "'; DROP TABLE adapters; --", "%_\\"):
        assert two.describe("medical", owner=text, description=text) == AdapterEdit(
            name="medical", owner=text, description=text
        )
        tag = text.replace(" ", "")
        assert two.tag("medical", {tag: text}).tags[tag] == text


# the log


def test_the_log_is_read_in_pages(two: Registry) -> None:
    two.tag("medical", {"a": "1"})
    whole = two.log(limit=100)
    assert [entry.action for entry in whole.items] == ["tag", "alias", "add", "add"]
    assert whole.next is None

    first = two.log(limit=3)
    assert first.items == whole.items[:3]
    assert first.next is not None
    second = two.log(limit=3, after=first.next)
    assert (second.items, second.next) == (whole.items[3:], None)
    assert two.log(limit=4).next is None


def test_the_log_says_who_did_what_to_which_artifact_and_when(two: Registry) -> None:
    before = datetime.datetime.now(datetime.UTC)
    result = two.add(two.find("medical@1"), name="other")
    (entry,) = two.log("other")
    assert before <= entry.at <= datetime.datetime.now(datetime.UTC)
    assert (entry.actor, entry.action, entry.name, entry.digest, entry.detail) == (
        "ada",
        "add",
        "other",
        result.digest,
        {"number": 1},
    )


def test_the_log_of_an_adapter_a_revision_an_alias_or_an_artifact(two: Registry, files: Files) -> None:
    two.add(files.make(), name="other")
    two.alias("medical", "production", "2")

    def told(reference: str) -> list[tuple[str, str, Any]]:
        return [(entry.name, entry.action, entry.detail.get("number")) for entry in two.log(reference)]

    moved, set_first = ("medical", "alias", 2), ("medical", "alias", 1)
    added = [("medical", "add", 2), ("medical", "add", 1)]
    assert told("medical") == [moved, set_first, *added]
    assert told("medical@1") == [moved, set_first, added[1]]
    assert told("medical@2") == [moved, added[0]]
    assert told("medical@production") == [moved, set_first]
    assert told(str(two.resolve("medical@1"))) == [added[1]]
    for missing in ("none", "medical@7", "medical@none", f"sha256:{'0' * 64}"):
        with pytest.raises(RegistryNotFoundError):
            two.log(missing)


def test_the_log_of_an_adapter_whose_revisions_are_all_yanked_is_there(two: Registry) -> None:
    two.yank("medical@1", why="x")
    two.yank("medical@2", why="x")
    assert len(two.log("medical")) == 5


@pytest.mark.parametrize("limit", [-1, 0, 100_001, 2**63])
def test_a_page_of_the_log_has_a_bounded_size(two: Registry, limit: int) -> None:
    with pytest.raises(RegistryError) as caught:
        two.log(limit=limit)
    assert (caught.value.message, caught.value.problem_code) == (f"limit {limit}: expected 1 to 100,000", "limit")


def test_one_text_is_no_list_of_texts(two: Registry, files: Files) -> None:
    before = (total(two), two.revisions("medical"))
    calls: dict[str, Callable[[], object]] = {
        "aliases": lambda: two.add(files.make(), name="medical", aliases="ab"),
        "remove": lambda: two.tag("medical@1", remove="ab"),
        "relations": lambda: two.lineage("medical@1", relations="ab"),
    }
    for what, call in calls.items():
        with pytest.raises(RegistryError) as caught:
            call()
        assert caught.value.message == f"{what} 'ab': expected a list of texts, got one text"
    assert (total(two), two.revisions("medical")) == before


@pytest.mark.parametrize("cursor", ["", "x", "####", "e30=", "W10=", "eyJsb2ciOiAiMSJ9", "eyJsb2ciOiAtMX0=", LONG, "ж"])
def test_a_cursor_that_is_none_of_ours_is_refused(two: Registry, cursor: str) -> None:
    with pytest.raises(RegistryError) as caught:
        two.log(after=cursor)
    assert (caught.value.problem_code, len(caught.value.message) < 200) == ("cursor", True)
    assert caught.value.hint == "take the one at the end of a page, or leave it out to begin"


def test_the_actor_is_the_user_of_the_system_where_nobody_is_named(
    registry: Registry, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("no such user")

    monkeypatch.delenv("UAL_ACTOR", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    registry.add(files.make(), name="a")
    monkeypatch.setattr("getpass.getuser", nobody)
    registry.add(files.make(), name="b")
    monkeypatch.setenv("UAL_ACTOR", "é" * 300)
    registry.add(files.make(), name="c")
    assert [entry.actor for entry in registry.log()] == ["é" * 255 + "…", "unknown", "grace"]
