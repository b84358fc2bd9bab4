"""What came upon a branch since a commit: one page of its history, read as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ual_registry.errors import HubError
from ual_registry.hub.history import PAGE, PastCommit, Since, commits_since, overtaken
from ual_registry.hub.model import Snapshot

PARENT = Snapshot(repository="org/name", commit="a" * 40, files={})
TIP = Snapshot(repository="org/name", commit="b" * 40, files={})
HUB: Any = SimpleNamespace(endpoint="https://hub", headers=lambda: {"x": "y"}, ask=lambda call, *_, **__: call())


def listed(oid: str, *authors: str) -> dict[str, Any]:
    return {"id": oid, "title": f"Commit {oid[:1]}", "authors": [{"user": name} for name in authors], "date": "..."}


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the branch ``dev/x`` tells of itself; more than is read may stand in it."""
    found: list[Any] = []

    def paginate(address: str, *, params: dict[str, Any], headers: dict[str, str]) -> Iterator[Any]:
        assert address == "https://hub/api/models/org/name/commits/dev%2Fx"
        assert (params, headers) == ({}, {"x": "y"})
        yield from found

    monkeypatch.setattr("huggingface_hub.utils._pagination.paginate", paginate)
    return found


def test_what_came_since_ends_at_the_commit(history: list[Any]) -> None:
    history += [listed("c" * 40, "eve", "bob"), listed("b" * 40), listed("a" * 40), listed("9" * 40)]
    since = commits_since(HUB, PARENT, "dev/x")
    assert since == Since(
        commits=(
            PastCommit(oid="c" * 40, title="Commit c", authors=("eve", "bob")),
            PastCommit(oid="b" * 40, title="Commit b"),
        ),
        is_whole=True,
    )
    assert since.first == PastCommit(oid="b" * 40, title="Commit b")


def test_no_more_than_a_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def paginate(*_: object, **__: object) -> Iterator[Any]:
        for number in range(PAGE):
            yield listed(f"{number:040}")
        raise AssertionError("a second page was asked for")

    monkeypatch.setattr("huggingface_hub.utils._pagination.paginate", paginate)
    since = commits_since(HUB, PARENT, "dev/x")
    assert (len(since.commits), since.is_whole, since.first) == (PAGE, False, None)


@pytest.mark.parametrize("item", [None, "x", {}, {"id": "a"}, {"id": "a", "title": "t", "authors": None}])
def test_an_answer_that_is_no_history_is_told(history: list[Any], item: object) -> None:
    history.append(item)
    with pytest.raises(HubError, match="cannot read the commits of hf:org/name@dev/x: the answer is not") as caught:
        commits_since(HUB, PARENT, "dev/x")
    assert caught.value.problem_code == "hub-answer"


FIRST, SECOND = (PastCommit(oid=letter * 40, title=letter, authors=("eve",)) for letter in "cd")


@pytest.mark.parametrize(
    ("since", "told", "commit"),
    [
        (Since(commits=(), is_whole=True), "bbbbbbbbbbbb", "b" * 40),
        (Since(commits=(FIRST,), is_whole=True), "cccccccccccc ('c' by eve)", "c" * 40),
        (Since(commits=(SECOND, FIRST), is_whole=True), "cccccccccccc ('c' by eve) and 1 more", "c" * 40),
        (Since(commits=(SECOND, FIRST), is_whole=False), "dddddddddddd ('d' by eve) and at least 1 more", "d" * 40),
        (Since(commits=(PastCommit(oid="e" * 40, title="e"),), is_whole=True), "eeeeeeeeeeee ('e')", "e" * 40),
    ],
)
def test_whoever_was_faster_is_named_as_far_as_it_is_known(since: Since, told: str, commit: str) -> None:
    error = overtaken(PARENT, TIP, since, branch="main")
    assert str(error) == (f"org/name: commit {told} was faster: main is no longer at aaaaaaaaaaaa; nothing was pushed")
    assert (error.context["commit"], error.context["tip"]) == (commit, TIP.commit)
