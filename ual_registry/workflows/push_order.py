"""How a push is asked for, and whether every word of it is one that can be meant; nothing is asked of the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ual_registry.errors import HubError
from ual_registry.hub.address import HubAddress, is_repository, repository_of_url
from ual_registry.hub.target import MAIN, check_branch, check_tags

__all__ = ["PushOptions", "checked_repository"]

_SIGNS = "letters, digits, '-', '_' and '.', the first a letter or digit"
_SUBFOLDER = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """How to push.

    Attributes:
        air_only: Whether to leave out the PEFT pair.
        tags: Git tags for the new commit.
        private: Whether nobody else shall see the repository; one that is public is refused.
        branch: The branch; it is made where it is not there.
        subfolder: Folder in the repository, for a repository with several adapters.
        message: Commit message; by default what the adapter is.
        dry_run: Whether to say what would change, and change nothing.
        retry: Whether to plan anew where somebody else was faster.
        allow_unpinned: Whether the base model's commit may be unknown.
        show_progress: Whether bars may be drawn on a terminal.
    """

    air_only: bool = False
    tags: tuple[str, ...] = ()
    private: bool = False
    branch: str = MAIN
    subfolder: str | None = None
    message: str | None = None
    dry_run: bool = False
    retry: bool = False
    allow_unpinned: bool = False
    show_progress: bool = False

    @property
    def prefix(self) -> str:
        """What stands before the names of the files in the repository."""
        return f"{self.subfolder}/" if self.subfolder else ""


def checked_repository(repository: str, options: PushOptions, *, reference: str) -> str:
    """Return the id of the repository that is meant, if every word is one that can be meant.

    Args:
        repository: What was written for it.
        options: How to push.
        reference: What was written for the adapter, which may be the repository.

    Raises:
        HubError: One is not; the message names it.
    """
    name = _repository(repository, reference)
    check_branch(options.branch)
    check_tags(options.tags, branch=options.branch)
    if options.subfolder is not None and not _SUBFOLDER.match(options.subfolder):
        raise HubError(
            f"subfolder {options.subfolder[:80]!r}: expected names with '/' between them, such as adapters/medical",
            code="hub-address",
            context={"subfolder": options.subfolder[:80]},
        )
    return name


def _repository(text: str, reference: str) -> str:
    """Return the id of a repository that can be pushed to.

    Raises:
        HubError: It is none; the hint says what it seems to be (``hub-address``).
    """
    try:
        address = HubAddress.parse(text)
    except HubError:
        address = None
    if address is not None and not address.revision and not address.path:
        return address.repository
    if address is not None:
        hint = f"write {address.repository}; --revision names the branch, --subfolder the folder"
    else:
        hint = _hint(text, reference)
    raise HubError(
        f"cannot push to {text[:200]!r}: expected OWNER/NAME",
        code="hub-address",
        context={"address": text[:200]},
        hint=hint,
    ) from None


def _hint(text: str, reference: str) -> str:
    """Say what a word that is no address may be meant for."""
    if meant := repository_of_url(text):
        return f"write {meant}, the end of its address"
    is_reversed = is_repository(reference) and not Path(reference).exists()
    if text.endswith(".air") or Path(text).exists() or is_reversed:
        return "the adapter comes first: ual push REF OWNER/NAME"
    if text.count("/") > 1:
        return f"write {'/'.join(text.split('/')[:2])}; --subfolder names a folder in the repository"
    if "/" in text:
        return f"each of the two has {_SIGNS}"
    return "put your user name, or that of your organization, and '/' before the name"
