"""What came upon a branch since a commit, so that whoever was faster can be named; one page of the history is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ual_registry.errors import HubConflictError, HubError
from ual_registry.hub.answers import Question
from ual_registry.hub.model import Snapshot

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub

__all__ = ["PAGE", "PastCommit", "Since", "commits_since", "overtaken"]

PAGE = 50
"""How many commits are looked at, at most; the Hub tells as many in one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCommit:
    """A commit of a branch.

    Attributes:
        oid: Its name, 40 hexadecimal digits.
        title: The first line of its message.
        authors: Names of whoever made it.
    """

    oid: str
    title: str
    authors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What came upon a branch since a commit.

    Attributes:
        commits: Newest first.
        is_whole: Whether these are all; more than a page are not looked at.
    """

    commits: tuple[PastCommit, ...]
    is_whole: bool

    @property
    def first(self) -> PastCommit | None:
        """The one that was made upon the commit itself, where it is known."""
        return self.commits[-1] if self.commits and self.is_whole else None


def commits_since(hub: Hub, parent: Snapshot, branch: str) -> Since:
    """Read what came upon a branch since a commit.

    ``HfApi.list_repo_commits`` would read the whole history of the branch first.

    Args:
        hub: The Hub.
        parent: The repository at the commit.
        branch: The branch.

    Raises:
        HubError: The branch cannot be read.
    """
    address = f"{hub.endpoint}/api/models/{parent.repository}/commits/{quote(branch, safe='')}"

    def read() -> list[Any]:
        from huggingface_hub.utils._pagination import paginate  # noqa: PLC0415  # the public name has no type

        return list(islice(paginate(address, params={}, headers=hub.headers()), PAGE))

    items = hub.ask(read, "read the commits of", parent.repository, revision=branch)
    question = Question(what="read the commits of", repository=parent.repository, revision=branch)
    return _since(_decoded(items, question), parent.commit)


def _decoded(items: Iterable[Any], question: Question) -> list[PastCommit]:
    try:
        return [
            PastCommit(
                oid=str(item["id"]),
                title=str(item["title"]),
                authors=tuple(str(author["user"]) for author in item["authors"]),
            )
            for item in items
        ]
    except (LookupError, TypeError) as error:
        raise question.fault(
            HubError,
            code="hub-answer",
            reason=f"the answer is not understood ({error})",
            hint="check HF_ENDPOINT; is it a Hub?",
        ) from error


def _since(commits: list[PastCommit], oid: str) -> Since:
    names = [item.oid for item in commits]
    is_whole = oid in names
    return Since(commits=tuple(commits[: names.index(oid)] if is_whole else commits), is_whole=is_whole)


def overtaken(parent: Snapshot, tip: Snapshot, since: Since, *, branch: str) -> HubConflictError:
    """Return the error that names the commit that won: the first one on the parent, or else the newest.

    Args:
        parent: What a commit was planned on.
        tip: What the branch holds instead.
        since: What came upon it.
        branch: The branch.
    """
    winner = since.first or next(iter(since.commits), None)
    oid, author = tip.commit, None
    told = ""
    if winner is not None:
        oid, author = winner.oid, ", ".join(winner.authors) or None
        told = f" ({winner.title!r} by {author})" if author else f" ({winner.title!r})"
        more = len(since.commits) - 1
        told += f" and {'' if since.is_whole else 'at least '}{more} more" if more else ""
    return HubConflictError(
        f"{tip.repository}: commit {oid[:12]}{told} was faster: {branch} is no longer at "
        f"{parent.commit[:12]}; nothing was pushed",
        context={
            "repository": tip.repository,
            "revision": branch,
            "parent": parent.commit,
            "commit": oid,
            "title": winner.title if winner else None,
            "author": author,
            "tip": tip.commit,
        },
        hint="look at what changed, then push again; --retry does so by itself",
    )
