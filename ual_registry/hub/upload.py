"""One atomic commit to a repository of the Hub, and what really became of it where the answer was lost.

First the card is checked, then the large files are sent, then the commit, which alone changes the repository. A commit
names the one that it was planned on, its parent, so that the Hub takes it only where nobody was faster. An answer that
says nothing sure (a cut, 503, 412) is settled by what the branch holds afterwards: what was to be pushed, then the push
is done; still the parent, then it is sent again, which the parent makes safe; else somebody else won.

Only the commit is sent again here; the client itself sends large files again.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ual_registry.errors import HubConflictError, HubError, HubUnavailableError
from ual_registry.hub import conduct
from ual_registry.hub.changes import Content, differing
from ual_registry.hub.history import commits_since, overtaken
from ual_registry.hub.model import Snapshot
from ual_registry.hub.sending import additions, send_files

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub

__all__ = ["CommitOrder", "commit"]

_CARD_FILE = "README.md"
"""The card of a repository, whose metadata the Hub checks."""

_UNSURE = frozenset({"hub-answer", "hub-conflict", "hub-rate-limit", "hub-timeout", "hub-unavailable"})
"""Codes of errors that leave open whether the commit took effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOrder:
    """What is committed, and on what.

    Attributes:
        parent: The repository at the commit that the changes were planned on.
        branch: The branch.
        contents: Every file that the repository shall hold of those that the push is about.
        removed: Paths that shall be gone.
        summary: First line of the commit message.
        description: The rest of it.
        show_progress: Whether the client may draw its bars on a terminal.
    """

    parent: Snapshot
    branch: str
    contents: tuple[Content, ...]
    removed: tuple[str, ...] = ()
    summary: str
    description: str
    show_progress: bool = False

    def missing_in(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Return the paths at which a commit differs from what was ordered."""
        return differing(self.contents, snapshot.files, removed=self.removed)


def commit(hub: Hub, order: CommitOrder, *, note: Callable[[str], None] = lambda _: None) -> str:
    """Commit what differs from the parent, in one commit or not at all, and return the commit that holds it.

    Args:
        hub: The Hub.
        order: What, and on what.
        note: Told what the Hub remarks.

    Raises:
        HubConflictError: Another commit was faster; the message names it.
        HubUnavailableError: The Hub cannot be reached, or answers nothing sure; the hint says where a commit may have
            taken effect, or has.
        HubError: The Hub refuses, or holds other bytes than were sent (``hub-content``).
    """
    operations = _operations(order)
    with _remarks(note), _bars(order.show_progress):
        _check_card(hub, order, operations)
        send_files(hub, order, operations)
        oid = _send_commit(hub, order, operations)
    _check(hub, order, oid)
    return oid


def _operations(order: CommitOrder) -> list[Any]:
    """Return what the client is asked to do; it notes in there what it has sent already."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415  # costs more than the rest

    changed = set(order.missing_in(order.parent))
    found: list[Any] = []
    for content in order.contents:
        if content.path in changed:
            source = content.source if isinstance(content.source, bytes) else str(content.source.absolute())
            operation = CommitOperationAdd(content.path, source)
            if content.is_digested:
                operation.upload_info.sha256 = bytes.fromhex(content.sha256)  # this pins the bytes
            found.append(operation)
    found += [CommitOperationDelete(path) for path in order.removed if path in changed]
    return found


def _check_card(hub: Hub, order: CommitOrder, operations: list[Any]) -> None:
    """Let the Hub check the metadata of the card, before anything is sent.

    Raises:
        HubError: They are wrong (``hub-card``).
    """
    card = next((item for item in additions(operations) if item.path_in_repo == _CARD_FILE), None)
    if card is None:
        return

    def check() -> None:
        with card.as_file() as file:
            text = file.read().decode()
        try:
            hub.api._validate_yaml(text)  # noqa: SLF001  # the client itself asks only together with the commit
        except ValueError as error:
            if str(error).startswith("Invalid metadata"):
                raise _invalid_card(order.parent.repository, str(error)) from error
            raise

    hub.ask(check, "push to", order.parent.repository, revision=order.branch)


def _invalid_card(repository: str, message: str) -> HubError:
    reasons = "; ".join(line.removeprefix("- ") for line in message.splitlines()[1:])
    return HubError(
        f"{repository}: the Hub refuses the metadata of {_CARD_FILE}: {reasons or message}",
        code="hub-card",
        context={"repository": repository, "path": _CARD_FILE},
        hint="see the metadata by --dry-run; what you wrote into it by hand is yours to mend",
    )


def _send_commit(hub: Hub, order: CommitOrder, operations: list[Any]) -> str:
    """Send the commit until it is sure what became of it, a bounded number of times, and return what it is called."""
    waits_s = iter(conduct.BACKOFF_S)
    while True:
        try:
            return hub.ask(
                lambda: _create(hub, order, operations),
                "push to",
                order.parent.repository,
                revision=order.branch,
                retry=False,
            )
        except HubError as error:
            if (landed := _settle(hub, order, error)) is not None:
                return landed
            wait_s = _wait_s(error, next(waits_s, None))
        time.sleep(wait_s)


def _create(hub: Hub, order: CommitOrder, operations: list[Any]) -> str:
    answer = hub.api.create_commit(
        order.parent.repository,
        operations,
        commit_message=order.summary,
        commit_description=order.description,
        revision=order.branch,
        parent_commit=order.parent.commit,
    )
    return str(answer.oid)


@contextlib.contextmanager
def _remarks(note: Callable[[str], None]) -> Iterator[None]:
    """Tell remarks of the client as notes, each once, not as warnings about its source code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = [" ".join(str(item.message).split()) for item in caught if issubclass(item.category, UserWarning)]
    for remark in dict.fromkeys(told):
        note(remark)


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415  # costs more than the rest

    with contextlib.nullcontext() if shown else disable_progress_bars():
        yield


def _check(hub: Hub, order: CommitOrder, oid: str) -> None:
    """Compare what the Hub says that it holds with what was sent.

    Raises:
        HubError: They differ, or the Hub does not say.
    """
    try:
        snapshot = hub.pin(order.parent.repository, oid)
    except HubError as error:
        _tell(error, f"commit {oid} is pushed, but could not be checked: run the same command again, it looks first")
        raise
    wrong = order.missing_in(snapshot)
    if wrong:
        raise HubError(
            f"{snapshot.repository}: commit {oid} does not hold what was pushed at {', '.join(wrong)}",
            code="hub-content",
            context={"repository": snapshot.repository, "commit": oid, "path": wrong[0]},
            hint="a file that is missing there is named by the repository's .gitignore; else push again",
        )


def _tell(error: HubError, what: str) -> None:
    """Add to a hint what became of the commit."""
    error.hint = f"{error.hint}; {what}" if error.hint else what


def _wait_s(error: HubError, backoff_s: float | None) -> float:
    """Return how long to wait before the next attempt: as told, which counts as the other waits of the command do.

    Args:
        error: Why there should be another one.
        backoff_s: How long to wait where nothing is told; ``None`` after the last attempt.

    Raises:
        HubError: ``error``, where another attempt is no use, or the Hub asks for more than we wait.
    """
    is_passing = isinstance(error, HubUnavailableError | HubConflictError) and error.__cause__ is not None
    if backoff_s is None or not is_passing:
        raise error
    told: Any = error.context.get("wait_s")
    return backoff_s if told is None else float(told)


def _settle(hub: Hub, order: CommitOrder, error: HubError) -> str | None:
    """Look at what the branch holds after an unsure answer.

    Returns:
        The commit that holds what was pushed; ``None`` where the branch is still at the parent.

    Raises:
        HubConflictError: Another commit is on the branch.
        HubError: ``error``, where it leaves nothing open, or the branch cannot be looked at.
    """
    if error.problem_code not in _UNSURE:
        raise error
    try:
        tip = hub.pin(order.parent.repository, order.branch)
        if tip.commit == order.parent.commit:
            return None
        if not order.missing_in(tip):
            return tip.commit
        since = commits_since(hub, order.parent, order.branch)
        first = since.first  # ours can only be the one on our parent
        if first and first.title == order.summary and not order.missing_in(hub.pin(tip.repository, first.oid)):
            return first.oid
    except HubError:
        _tell(error, "whether it took effect is not known: run the same command again, it looks first")
        raise error from error.__cause__
    raise overtaken(order.parent, tip, since, branch=order.branch)
