"""Where a push goes: the repository, its branch and its tags, looked at before anything is changed, and made ready.

A repository or branch that is not there yet is made on the way; whoever asks for a private one never gets a public one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ual_registry.air.commit import is_commit
from ual_registry.errors import HubAccessError, HubConflictError, HubError, HubNotFoundError
from ual_registry.hub.model import Snapshot

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub

__all__ = [
    "MAIN",
    "Target",
    "check_branch",
    "check_private",
    "check_tags",
    "check_token",
    "look",
    "prepare",
    "set_tags",
    "tag_conflict",
]

MAIN = "main"
"""The branch that every repository has."""

_REF = re.compile(r"(?!-)[A-Za-z0-9._/+=%@!#,-]{1,200}\Z")
_REF_REFUSED = re.compile(r"\.\.|//|@\{|^[./]|/\.|[./]$|\.lock(/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A branch of a repository as it is before a push.

    Attributes:
        repository: Its id, ``owner/name``.
        branch: The branch.
        snapshot: What the branch holds; where it is not there yet, what it will begin with: what ``main`` holds.
            ``None`` where the repository is not there.
        has_branch: Whether the branch is there.
        tags: Commit by tag, where tags were asked for.
    """

    repository: str
    branch: str
    snapshot: Snapshot | None
    has_branch: bool
    tags: Mapping[str, str] = field(default_factory=dict)


def check_branch(branch: str) -> str:
    """Return ``branch`` if a branch may be called so.

    Raises:
        HubError: It may not (``hub-revision``); a commit takes no commits.
    """
    if is_commit(branch):
        raise HubError(
            f"revision {branch!r}: is a commit, expected a branch",
            code="hub-revision",
            context={"revision": branch},
            hint="a push adds a commit to a branch; name the branch",
        )
    return _check_ref("revision", branch, "hub-revision")


def check_tags(tags: Sequence[str], *, branch: str | None = None) -> tuple[str, ...]:
    """Return each of the tags once, if git allows such names.

    Args:
        tags: The names.
        branch: The branch that is pushed to; none of the tags may be called as it is, since a name that is both means
            one of them to some clients and the other to the rest.

    Raises:
        HubError: One is not allowed (``hub-tag``).
    """
    if branch in tags:
        raise HubError(
            f"tag {branch!r}: is the name of the branch that is pushed to, expected another one",
            code="hub-tag",
            context={"tag": branch},
        )
    return tuple(dict.fromkeys(_check_ref("tag", tag, "hub-tag") for tag in tags))


def _check_ref(what: str, name: str, code: str) -> str:
    if not _REF.match(name) or _REF_REFUSED.search(name):
        raise HubError(
            f"{what} {name[:80]!r}: expected a name of git: letters, digits, '.', '_', '-' and '/' inside",
            code=code,
            context={what: name[:80]},
        )
    return name


def check_token() -> None:
    """Check, before any work is done, that there is a token to push with.

    Raises:
        HubAccessError: There is none (``hub-token``).
    """
    from huggingface_hub import get_token  # noqa: PLC0415  # costs more than the rest

    if get_token() is None:
        raise HubAccessError(
            "a push needs a token with write access, and there is none",
            code="hub-token",
            hint="run 'hf auth login', or set HF_TOKEN; tokens are made at https://huggingface.co/settings/tokens",
        )


def look(hub: Hub, repository: str, branch: str, *, tags: Sequence[str] = ()) -> Target:
    """Look at the branch of a repository; nothing is changed.

    Args:
        hub: The Hub.
        repository: Its id.
        branch: The branch; that of another name than ``main`` must not be a tag.
        tags: Tags that shall be set; where there are any, those of the repository are read.

    Raises:
        HubError: The branch is a tag (``hub-revision``), or as ``Hub.pin`` but for what is not there yet.
    """
    try:
        snapshot, has_branch = _seen(hub, repository, branch)
    except HubNotFoundError as error:
        if error.problem_code != "hub-not-found":
            raise
        return Target(repository=repository, branch=branch, snapshot=None, has_branch=False)
    found = _tags(hub, repository) if tags or branch != MAIN else {}
    if branch in found:
        raise HubError(
            f"{repository}: {branch!r} is a tag, expected a branch",
            code="hub-revision",
            context={"repository": repository, "revision": branch},
            hint="a push adds a commit to a branch; --tag names the new commit",
        )
    return Target(repository=repository, branch=branch, snapshot=snapshot, has_branch=has_branch, tags=found)


def _seen(hub: Hub, repository: str, branch: str) -> tuple[Snapshot, bool]:
    """Return what a branch holds, or else what it will begin with; and whether it is there."""
    try:
        return hub.pin(repository, branch), True
    except HubNotFoundError as error:
        if error.problem_code != "hub-no-revision" or branch == MAIN:
            raise
    return hub.pin(repository, MAIN), False


def _tags(hub: Hub, repository: str) -> dict[str, str]:
    refs = hub.ask(lambda: hub.api.list_repo_refs(repository), "read the tags of", repository)
    return {tag.name: str(tag.target_commit) for tag in refs.tags}


def prepare(hub: Hub, target: Target, *, private: bool) -> Snapshot:
    """Make the repository and the branch where they are not there, and return what the branch holds.

    Args:
        hub: The Hub.
        target: What was seen.
        private: Whether nobody else shall see the repository.

    Raises:
        HubAccessError: The repository is there and public, and ``private`` was asked for (``hub-public``).
        HubError: The Hub refuses.
    """
    snapshot = target.snapshot
    if snapshot is None:
        _make_repository(hub, target.repository, private=private)
        snapshot = hub.pin(target.repository, MAIN)
    check_private(snapshot, private=private)
    if target.has_branch or target.branch == MAIN:
        return snapshot
    _make_branch(hub, target.repository, target.branch, snapshot.commit)
    return hub.pin(target.repository, target.branch)


def check_private(snapshot: Snapshot, *, private: bool) -> None:
    """Refuse a repository that others can see where a private one was asked for.

    Raises:
        HubAccessError: It is public, and ``private`` was asked for (``hub-public``).
    """
    if private and not snapshot.is_private:
        raise HubAccessError(
            f"{snapshot.repository}: is public, and --private was asked for; nothing was pushed",
            code="hub-public",
            context={"repository": snapshot.repository},
            hint="make it private in its settings on the Hub, or leave out --private",
        )


def _make_repository(hub: Hub, repository: str, *, private: bool) -> None:
    hub.ask(lambda: hub.api.create_repo(repository, private=private or None, exist_ok=True), "make", repository)


def _make_branch(hub: Hub, repository: str, branch: str, commit: str) -> None:
    hub.ask(
        lambda: hub.api.create_branch(repository, branch=branch, revision=commit, exist_ok=True),
        "make the branch",
        repository,
        revision=branch,
    )


def set_tags(hub: Hub, repository: str, commit: str, tags: Sequence[str]) -> None:
    """Set tags on a commit; one that is there already must be on it.

    Raises:
        HubConflictError: A tag is on another commit; the commit itself is pushed.
        HubError: The Hub refuses.
    """
    for tag in tags:
        try:
            hub.ask(lambda tag=tag: hub.api.create_tag(repository, tag=tag, revision=commit), "tag", repository)  # type: ignore[misc]
        except HubConflictError:  # it is there already
            present = _tags(hub, repository).get(tag)
            if present != commit:
                raise tag_conflict(repository, tag, present, after=commit) from None
        except HubError as error:
            told = f"commit {commit} is pushed, without tag {tag!r}: run the same command again, it sets the tag"
            error.hint = f"{error.hint}; {told}" if error.hint else told
            raise


def tag_conflict(repository: str, tag: str, commit: str | None, *, after: str | None = None) -> HubConflictError:
    """Return the error about a tag that stands on another commit.

    Args:
        repository: The repository.
        tag: The tag.
        commit: The commit that it is on.
        after: The commit that was pushed before this was seen; ``None`` where nothing was sent.
    """
    done = f"commit {after[:12]} is pushed, without this tag" if after else "nothing was pushed"
    return HubConflictError(
        f"{repository}: tag {tag!r} is on commit {(commit or 'unknown')[:12]} already; {done}",
        context={"repository": repository, "tag": tag, "commit": commit, "pushed": after},
        hint="choose another tag; a tag that was published should not move",
    )
