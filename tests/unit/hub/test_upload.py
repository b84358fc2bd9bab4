"""What a push changes, and what became of a commit whose answer was lost, against a Hub of a few lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ual_registry.digest import Digest
from ual_registry.errors import (
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubUnavailableError,
    StorageError,
)
from ual_registry.hub import target
from ual_registry.hub.changes import Change, Content, FileChange, compare, differing
from ual_registry.hub.content import git_blob_id
from ual_registry.hub.history import PastCommit, Since
from ual_registry.hub.model import HubFile, Snapshot
from ual_registry.hub.upload import CommitOrder, commit

PARENT, OURS, THEIRS = "a" * 40, "b" * 40, "c" * 40


def small(path: str, data: bytes) -> HubFile:
    return HubFile(path=path, size_bytes=len(data), sha256=None, blob_id=git_blob_id(data))


def large(path: str, data: bytes) -> HubFile:
    return HubFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), blob_id="f" * 40)


def snapshot(oid: str, *files: HubFile, **changes: Any) -> Snapshot:
    return Snapshot(repository="org/name", commit=oid, files={file.path: file for file in files}, **changes)


def since(*commits: tuple[str, str, str], is_whole: bool = True) -> Since:
    found = (PastCommit(oid=oid, title=title, authors=(author,)) for oid, title, author in commits)
    return Since(commits=tuple(found), is_whole=is_whole)


@dataclass
class FakeHub:
    """A Hub of one branch: ``answers`` are what each commit does, ``states`` what each revision holds.

    ``before`` is what happens to the card and to the large files, which are sent before.
    """

    states: dict[str, Snapshot]
    answers: list[Callable[[], str]] = field(default_factory=list)
    history: Since = field(default_factory=since)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    sent: list[list[str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def api(self) -> FakeHub:
        return self

    def ask(self, call: Callable[[], Any], what: str, repository: str, *, retry: bool = True, **_: Any) -> Any:
        self.asked.append(f"{what} {repository}{', again and again' if retry else ''}")
        return call()

    def _validate_yaml(self, content: str) -> None:
        assert content == "new card"
        self.before.get("card", str)()

    def preupload_lfs_files(self, repository: str, additions: Any, **options: Any) -> None:
        assert (repository, options) == ("org/name", {"revision": "main", "free_memory": False})
        self.sent.append([item.path_in_repo for item in additions])
        self.before.get("files", str)()

    def pin(self, repository: str, revision: str | None = None) -> Snapshot:
        assert repository == "org/name"
        self.asked.append(f"pin {revision}")
        if str(revision) not in self.states:
            raise HubNotFoundError("no such revision", code="hub-no-revision")
        return self.states[str(revision)]

    def create_commit(self, repository: str, operations: Sequence[Any], **options: Any) -> Any:
        self.calls.append({"repository": repository, "operations": list(operations), **options})
        return SimpleNamespace(oid=self.answers.pop(0)())

    def list_repo_refs(self, repository: str) -> Any:
        assert repository == "org/name"
        return SimpleNamespace(tags=[SimpleNamespace(name=k, target_commit=v) for k, v in self.tags.items()])

    def create_tag(self, repository: str, *, tag: str, revision: str) -> None:
        assert repository == "org/name"
        if tag in self.tags:
            raise HubConflictError("it exists already")
        self.tags[tag] = revision


AIR = Content.of_bytes("adapter.air", b"new air")
CARD = Content.of_bytes("README.md", b"new card")
BEFORE = snapshot(PARENT, large("adapter.air", b"old"), small("README.md", b"new card"), large("adapter.png", b"p"))
AFTER = snapshot(OURS, large("adapter.air", b"new air"), small("README.md", b"new card"))
OTHER = snapshot(THEIRS, large("adapter.air", b"theirs"))
ORDER = CommitOrder(
    parent=BEFORE,
    branch="main",
    contents=(AIR, CARD),
    removed=("adapter.png", "absent.txt"),
    summary="Push it",
    description="AIR-Digest: x",
)


ORDER_WITH_CARD = replace(ORDER, parent=snapshot(PARENT, small("README.md", b"old card")))


def fails(error: HubError) -> Callable[[], str]:
    def call() -> str:
        raise error from OSError("the wire")

    return call


BUSY = HubUnavailableError("cannot push to hf:org/name@main: 503")
STALE = HubConflictError("cannot push to hf:org/name@main: it changed since it was read")


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were made, without waiting."""
    found: list[float] = []
    monkeypatch.setattr("ual_registry.hub.upload.time.sleep", found.append)
    monkeypatch.setattr("ual_registry.hub.upload.commits_since", lambda hub, *_: hub.history)
    return found


def test_every_file_is_new_replaced_unchanged_or_removed(tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"same")
    (tmp_path / "big").write_bytes(b"big")
    contents = [
        Content.of_bytes("z/new", b"12"),
        Content.of_bytes("replaced", b"1"),
        Content.of_file("same", tmp_path / "same"),
        Content.of_file("big", tmp_path / "big"),
        Content.of_bytes("held", b"held"),
    ]
    files = [small("replaced", b"2"), small("same", b"same"), large("big", b"big"), small("held", b"held")]
    held = {file.path: file for file in [*files, large("gone", b"abc"), small("other", b"")]}
    assert compare(contents, held, removed=["gone", "absent"]) == (
        FileChange(path="big", change=Change.UNCHANGED, size_bytes=3, previous_bytes=3),
        FileChange(path="gone", change=Change.REMOVED, size_bytes=0, previous_bytes=3),
        FileChange(path="held", change=Change.UNCHANGED, size_bytes=4, previous_bytes=4),
        FileChange(path="replaced", change=Change.REPLACED, size_bytes=1, previous_bytes=1),
        FileChange(path="same", change=Change.UNCHANGED, size_bytes=4, previous_bytes=4),
        FileChange(path="z/new", change=Change.NEW, size_bytes=2, previous_bytes=None),
    )
    assert differing(contents, held, removed=["gone", "absent"]) == ("gone", "replaced", "z/new")


def test_bytes_of_equal_length_are_told_apart() -> None:
    content = Content.of_bytes("x", b"right")
    assert content.is_same_as(large("x", b"right"))
    assert content.is_same_as(small("x", b"right"))
    assert not content.is_same_as(large("x", b"wrong"))
    assert not content.is_same_as(small("x", b"wrong"))
    assert not content.is_same_as(None)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*/none: No such file or directory"):
        Content.of_file("x", tmp_path / "none")


def test_a_commit_sends_what_differs_on_its_parent_and_is_checked() -> None:
    hub = FakeHub({OURS: AFTER}, [lambda: OURS])
    assert commit(hub, ORDER) == OURS  # type: ignore[arg-type]
    (call,) = hub.calls
    assert [(type(item).__name__, item.path_in_repo) for item in call.pop("operations")] == [
        ("CommitOperationAdd", "adapter.air"),
        ("CommitOperationDelete", "adapter.png"),
    ]
    assert call == {
        "repository": "org/name",
        "commit_message": "Push it",
        "commit_description": "AIR-Digest: x",
        "revision": "main",
        "parent_commit": PARENT,
    }
    assert hub.sent == [["adapter.air"]]
    assert hub.asked == ["push to org/name", "push to org/name", f"pin {OURS}"]


@dataclass
class DigestingHub(FakeHub):
    """One whose client digests what it sends, as the real one does where nobody has before."""

    known: list[bool] = field(default_factory=list)

    def preupload_lfs_files(self, repository: str, additions: Any, **options: Any) -> None:
        super().preupload_lfs_files(repository, additions, **options)
        self.known = [item.upload_info.is_hashed for item in additions]
        assert all(item.upload_info.sha256 for item in additions)


@pytest.mark.parametrize("digest", [None, Digest.of_bytes(b"new air")])
def test_a_new_file_is_digested_once_by_whoever_reads_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: Digest | None
) -> None:
    (tmp_path / "x.air").write_bytes(b"new air")
    hub = DigestingHub({OURS: snapshot(OURS, large("adapter.air", b"new air"))}, [lambda: OURS])
    content = Content.of_file("adapter.air", tmp_path / "x.air", digest=digest)
    order = replace(ORDER, parent=snapshot(PARENT), contents=(content,), removed=())

    def read(_: Path) -> Digest:
        raise AssertionError("it is read once more")

    monkeypatch.setattr(Digest, "of_file", read)
    assert commit(hub, order) == OURS  # type: ignore[arg-type]
    assert (hub.known, content.is_digested, content.sha256) == (
        [digest is not None],
        True,
        hashlib.sha256(b"new air").hexdigest(),
    )


@pytest.mark.parametrize(
    ("held", "path"),
    [
        (snapshot(OURS, large("adapter.air", b"new aiR"), small("README.md", b"new card")), "adapter.air"),
        (snapshot(OURS, small("README.md", b"new card")), "adapter.air"),
        (snapshot(OURS, *AFTER.files.values(), large("adapter.png", b"p")), "adapter.png"),
    ],
)
def test_a_commit_that_holds_something_else_is_an_error(held: Snapshot, path: str) -> None:
    hub = FakeHub({OURS: held}, [lambda: OURS])
    with pytest.raises(HubError) as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert caught.value.problem_code == "hub-content"
    assert str(caught.value) == f"org/name: commit {OURS} does not hold what was pushed at {path}"
    assert caught.value.context == {"repository": "org/name", "commit": OURS, "path": path}


@pytest.mark.parametrize("error", [BUSY, STALE, HubError("?", code="hub-answer")])
def test_a_lost_answer_is_settled_by_what_the_branch_holds(error: HubError, waits: list[float]) -> None:
    hub = FakeHub({"main": AFTER, OURS: AFTER}, [fails(error)])
    assert commit(hub, ORDER) == OURS  # type: ignore[arg-type]
    assert (len(hub.calls), waits) == (1, [])


def test_a_commit_that_landed_and_was_built_upon_is_found() -> None:
    history = since((THEIRS, "later", "eve"), (OURS, "Push it", "me"))
    hub = FakeHub({"main": OTHER, OURS: AFTER}, [fails(BUSY)], history)
    assert commit(hub, ORDER) == OURS  # type: ignore[arg-type]


def test_a_commit_of_the_same_title_with_other_bytes_is_not_ours() -> None:
    hub = FakeHub({"main": OTHER, THEIRS: OTHER}, [fails(BUSY)], since((THEIRS, "Push it", "eve")))
    with pytest.raises(HubConflictError, match=r"commit cccccccccccc \('Push it' by eve\) was faster"):
        commit(hub, ORDER)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [BUSY, STALE])
def test_a_commit_that_took_no_effect_is_sent_again(error: HubError, waits: list[float]) -> None:
    hub = FakeHub({"main": BEFORE, OURS: AFTER}, [fails(error), fails(error), lambda: OURS])
    assert commit(hub, ORDER) == OURS  # type: ignore[arg-type]
    assert (len(hub.calls), waits, hub.sent) == (3, [1.0, 2.0], [["adapter.air"]])


def test_the_wait_is_the_one_that_was_told(waits: list[float]) -> None:
    told = HubUnavailableError("too many requests", code="hub-rate-limit", context={"wait_s": 7})
    hub = FakeHub({"main": BEFORE, OURS: AFTER}, [fails(told), lambda: OURS])
    assert (commit(hub, ORDER), waits) == (OURS, [7.0])  # type: ignore[arg-type]


def test_attempts_are_bounded(waits: list[float]) -> None:
    hub = FakeHub({"main": BEFORE}, [fails(BUSY)] * 9)
    with pytest.raises(HubUnavailableError) as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert caught.value is BUSY
    assert (len(hub.calls), waits) == (4, [1.0, 2.0, 4.0])


def test_the_last_attempt_can_land_too() -> None:
    hub = FakeHub({"main": BEFORE, OURS: AFTER}, [fails(BUSY)] * 3)

    def lands() -> str:
        hub.states["main"] = AFTER
        return fails(BUSY)()

    hub.answers.append(lands)
    assert commit(hub, ORDER) == OURS  # type: ignore[arg-type]


def test_a_limit_on_waiting_is_not_retried(waits: list[float]) -> None:
    refused = HubUnavailableError("asks to wait 400 s", code="hub-rate-limit", context={"wait_s": 400})

    def refuse() -> str:
        raise refused

    hub = FakeHub({"main": BEFORE}, [refuse])
    with pytest.raises(HubUnavailableError, match="asks to wait 400 s"):
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert waits == []


def test_the_commit_that_won_is_named() -> None:
    history = since(("d" * 40, "even later", "bob"), (THEIRS, "Theirs", "eve"))
    hub = FakeHub({"main": OTHER}, [fails(STALE)], history)
    with pytest.raises(HubConflictError) as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "org/name: commit cccccccccccc ('Theirs' by eve) and 1 more was faster: "
        "main is no longer at aaaaaaaaaaaa; nothing was pushed"
    )
    assert caught.value.context == {
        "repository": "org/name",
        "revision": "main",
        "parent": PARENT,
        "commit": THEIRS,
        "title": "Theirs",
        "author": "eve",
        "tip": THEIRS,
    }
    assert caught.value.hint == "look at what changed, then push again; --retry does so by itself"


def test_a_winner_without_history_is_named_by_its_commit() -> None:
    hub = FakeHub({"main": OTHER}, [fails(STALE)])
    with pytest.raises(HubConflictError, match="org/name: commit cccccccccccc was faster") as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert (caught.value.context["title"], caught.value.context["author"]) == (None, None)


def test_a_refusal_is_no_riddle() -> None:
    hub = FakeHub({}, [fails(HubAccessError("forbidden"))])
    with pytest.raises(HubAccessError, match="forbidden"):
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert hub.asked == ["push to org/name", "push to org/name"]


@pytest.mark.parametrize("kind", [HubUnavailableError, HubAccessError, HubError])
@pytest.mark.parametrize("hint", [None, "check the network"])
def test_a_branch_that_cannot_be_looked_at_leaves_the_first_error(
    kind: type[HubError], hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HubUnavailableError("the first", hint=hint)
    hub = FakeHub({}, [fails(first)])
    monkeypatch.setattr(hub, "pin", lambda *_: fails(kind("the second"))(), raising=False)
    with pytest.raises(HubUnavailableError, match="the first") as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    unknown = "whether it took effect is not known: run the same command again, it looks first"
    assert caught.value.hint == (f"{hint}; {unknown}" if hint else unknown)


def test_a_commit_that_cannot_be_checked_is_told_to_be_pushed() -> None:
    hub = FakeHub({"main": BEFORE}, [lambda: OURS])
    with pytest.raises(HubNotFoundError, match="no such revision") as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert caught.value.hint == (
        f"commit {OURS} is pushed, but could not be checked: run the same command again, it looks first"
    )
    assert len(hub.calls) == 1


@pytest.mark.parametrize("before", ["card", "files"])
def test_what_fails_before_the_commit_leaves_nothing_open(before: str, waits: list[float]) -> None:
    hub = FakeHub({}, [], before={before: fails(BUSY)})
    with pytest.raises(HubUnavailableError) as caught:
        commit(hub, ORDER_WITH_CARD)  # type: ignore[arg-type]
    assert caught.value is BUSY
    asked = ["push to org/name, again and again", "push to org/name"][: 1 if before == "card" else 2]
    assert (hub.asked, hub.calls, waits) == (asked, [], [])


def test_a_refused_card_says_why() -> None:
    def refuse() -> str:
        raise ValueError('Invalid metadata in README.md.\n- "license" must be one of\n- "tags" must be a list')

    hub = FakeHub({}, before={"card": refuse})
    with pytest.raises(HubError) as caught:
        commit(hub, ORDER_WITH_CARD)  # type: ignore[arg-type]
    assert (caught.value.problem_code, hub.sent) == ("hub-card", [])
    assert str(caught.value) == (
        'org/name: the Hub refuses the metadata of README.md: "license" must be one of; "tags" must be a list'
    )


def test_another_error_of_value_is_not_mistaken_for_the_card() -> None:
    hub = FakeHub({}, before={"card": lambda: int("x")})
    with pytest.raises(ValueError, match="invalid literal"):
        commit(hub, ORDER_WITH_CARD)  # type: ignore[arg-type]


def test_what_the_client_wraps_is_unwrapped() -> None:
    inner, middle = OSError("the wire"), ValueError("no answer")

    def upload_fails() -> None:
        middle.__cause__ = inner
        raise RuntimeError("Error while uploading 'adapter.air' to the Hub.") from middle

    hub = FakeHub({}, before={"files": upload_fails})
    with pytest.raises(ValueError, match="no answer") as caught:
        commit(hub, ORDER)  # type: ignore[arg-type]
    assert (caught.value, caught.value.__cause__) == (middle, inner)


def test_what_the_client_says_in_its_own_words_stays() -> None:
    def upload_fails() -> None:
        raise RuntimeError("Server error: 503")

    hub = FakeHub({}, before={"files": upload_fails})
    with pytest.raises(RuntimeError, match="Server error: 503"):
        commit(hub, ORDER)  # type: ignore[arg-type]


def test_remarks_of_the_client_become_notes() -> None:
    def warns() -> str:
        import warnings

        warnings.warn("Warnings while validating metadata in README.md:\n- no license", stacklevel=1)
        warnings.warn("soon", DeprecationWarning, stacklevel=1)
        return OURS

    notes: list[str] = []
    hub = FakeHub({OURS: AFTER}, [warns], before={"card": warns})
    commit(hub, ORDER_WITH_CARD, note=notes.append)  # type: ignore[arg-type]
    assert notes == ["Warnings while validating metadata in README.md: - no license"]


@pytest.mark.parametrize("name", ["main", "v1.0", "release/2026-01", "refs/pr/3", "a_b", "1"])
def test_names_that_git_allows_are_allowed(name: str) -> None:
    assert (target.check_branch(name), target.check_tags([name, name])) == (name, (name,))


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a..b", "-a", "/a", "a/", ".a", "a/.b", "a.lock", "a//b", "a~1", "a^", "a:b", "a\\b", "é", "a\n"],
)
def test_names_that_git_refuses_are_refused(name: str) -> None:
    with pytest.raises(HubError) as caught:
        target.check_tags([name])
    assert caught.value.problem_code == "hub-tag"
    assert str(caught.value) == (f"tag {name!r}: expected a name of git: letters, digits, '.', '_', '-' and '/' inside")


def test_a_commit_is_no_branch() -> None:
    with pytest.raises(HubError, match="is a commit, expected a branch") as caught:
        target.check_branch(PARENT)
    assert caught.value.problem_code == "hub-revision"


def test_a_tag_that_is_on_the_commit_already_is_left() -> None:
    hub = FakeHub({}, tags={"v1": OURS})
    target.set_tags(hub, "org/name", OURS, ["v1", "v2"])  # type: ignore[arg-type]
    assert hub.tags == {"v1": OURS, "v2": OURS}


def test_a_tag_on_another_commit_is_a_conflict_that_names_it() -> None:
    hub = FakeHub({}, tags={"v1": THEIRS})
    with pytest.raises(HubConflictError) as caught:
        target.set_tags(hub, "org/name", OURS, ["v1"])  # type: ignore[arg-type]
    assert str(caught.value) == (
        "org/name: tag 'v1' is on commit cccccccccccc already; commit bbbbbbbbbbbb is pushed, without this tag"
    )
    assert caught.value.context == {"repository": "org/name", "tag": "v1", "commit": THEIRS, "pushed": OURS}


@pytest.mark.parametrize("hint", [None, "try again later"])
def test_a_tag_that_cannot_be_set_says_that_the_commit_is_pushed(
    hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub({})
    monkeypatch.setattr(hub, "create_tag", lambda *_, **__: fails(HubUnavailableError("503", hint=hint))())
    with pytest.raises(HubUnavailableError, match="503") as caught:
        target.set_tags(hub, "org/name", OURS, ["v1"])  # type: ignore[arg-type]
    told = f"commit {OURS} is pushed, without tag 'v1': run the same command again, it sets the tag"
    assert caught.value.hint == (f"{hint}; {told}" if hint else told)


def test_a_branch_that_is_not_there_begins_with_main() -> None:
    hub = FakeHub({"main": BEFORE})
    found = target.look(hub, "org/name", "dev")  # type: ignore[arg-type]
    assert (found.snapshot, found.has_branch) == (BEFORE, False)


def test_a_public_repository_is_refused_where_a_private_one_was_asked_for() -> None:
    target.check_private(replace(BEFORE, is_private=True), private=True)
    target.check_private(BEFORE, private=False)
    with pytest.raises(HubAccessError, match="org/name: is public, and --private was asked for") as caught:
        target.check_private(BEFORE, private=True)
    assert caught.value.problem_code == "hub-public"
