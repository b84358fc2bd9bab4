"""What the registry answers with: frozen records, free of the database."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from ual_registry.errors import UALError

__all__ = [
    "AdapterEdit",
    "AddOutcome",
    "AddResult",
    "AliasMove",
    "Attestation",
    "HubLink",
    "HubPlace",
    "LogEntry",
    "TagChange",
    "YankResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddResult:
    """What ``add`` did.

    Attributes:
        name: The adapter's name.
        number: The revision that holds the bytes.
        digest: Digest of the bytes.
        is_new: Whether the revision was made now; the same bytes under the same name are the same revision.
        moves: The aliases that were set.
        is_yanked: Whether the revision was there and is hidden; it stays so.
    """

    name: str
    number: int
    digest: str
    is_new: bool
    moves: tuple[AliasMove, ...] = ()
    is_yanked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOutcome:
    """What became of one file of many.

    Attributes:
        path: The file.
        result: What ``add`` did; ``None`` where it failed.
        error: Why it failed; ``None`` where it did not.
    """

    path: str
    result: AddResult | None = None
    error: UALError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """An alias before and after.

    Attributes:
        name: The adapter's name.
        alias: The alias.
        previous: The revision that it pointed to; ``None`` where it is new.
        number: The revision that it points to; ``None`` where it was deleted.
        is_protected: Whether it changes only by force and with a reason.
    """

    name: str
    alias: str
    previous: int | None
    number: int | None
    is_protected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    """The tags of a revision after a change.

    Attributes:
        name: The adapter's name.
        number: The revision.
        tags: Every tag that it has now; the value is empty where there is none.
    """

    name: str
    number: int
    tags: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class YankResult:
    """Whether a revision is hidden from lists and searches, and why.

    Attributes:
        name: The adapter's name.
        number: The revision.
        is_yanked: Whether it is hidden.
        reason: Why.
    """

    name: str
    number: int
    is_yanked: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterEdit:
    """What is said of an adapter.

    Attributes:
        name: Its name.
        owner: Who answers for it.
        description: What it is for.
    """

    name: str
    owner: str | None
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """Something that was done.

    Attributes:
        at: When, UTC.
        actor: Who.
        action: The word of the command.
        name: The adapter; empty where there is none.
        digest: The artifact, where there is one.
        detail: What exactly.
    """

    at: datetime.datetime
    actor: str
    action: str
    name: str
    digest: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A file of a Hub repository at one commit.

    Attributes:
        repository: Hub repository.
        commit: Commit of the repository.
        path: File in the repository.
    """

    repository: str
    commit: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLink:
    """Where an artifact was published, or where it came from.

    Attributes:
        digest: The artifact.
        repository: Hub repository.
        commit: Commit of the repository.
        path: File in the repository.
        direction: ``push`` or ``pull``.
        at: When, UTC.
    """

    digest: str
    repository: str
    commit: str
    path: str
    direction: str
    at: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A signed statement about an artifact, as it came.

    Attributes:
        digest: The artifact.
        predicate_type: What the statement says something about.
        signer: Who signed it, where that is known.
        statement_digest: Digest of the envelope.
        envelope: The envelope.
        added_at: When it came here, UTC.
    """

    digest: str
    predicate_type: str
    signer: str | None
    statement_digest: str
    envelope: dict[str, Any]
    added_at: datetime.datetime
