"""What a repository of the Hub holds at one commit, in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HubFile", "ListedModel", "Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository at one commit.

    Attributes:
        path: Its path in the repository, with ``/``.
        size_bytes: Its size.
        sha256: Digest of its content in hexadecimal, where the Hub keeps it as a large file; else ``None``.
        blob_id: SHA-1 of its git blob: of the content, or of the pointer where it is a large file.
    """

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository at one commit, as the Hub describes it in one answer.

    Attributes:
        repository: Its id, ``owner/name``.
        commit: The commit, 40 hexadecimal digits.
        files: Its files by path.
        tags: Its tags, those that the Hub derives too.
        card: The metadata of its card.
        is_private: Whether others cannot see it.
        gated: ``auto`` or ``manual`` where access must be asked for, else ``None``.
    """

    repository: str
    commit: str
    files: Mapping[str, HubFile]
    tags: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    is_private: bool = False
    gated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A repository in a list of the Hub; only what a list tells.

    Attributes:
        repository: Its id, ``owner/name``.
        tags: Its tags, those that the Hub derives too.
        commit: The tip of its main branch, where the list says it.
        is_private: Whether others cannot see it.
        gated: ``auto`` or ``manual`` where access must be asked for, else ``None``.
    """

    repository: str
    tags: tuple[str, ...] = ()
    commit: str | None = None
    is_private: bool = False
    gated: str | None = None
