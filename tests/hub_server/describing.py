"""Repositories, files and commits as the Hub's answers describe them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.hub_server import cards
from tests.hub_server.git import blob_id, folder_ids
from tests.hub_server.state import Commit, File, Repository

__all__ = ["card_of", "described", "entries", "listed", "moment", "sibling"]


def moment(date: datetime) -> str:
    """Write a moment as the Hub does."""
    return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03d}Z"


def card_of(repository: Repository, commit: Commit) -> dict[str, Any]:
    """Read the metadata of the card of a commit."""
    file = commit.files.get("README.md")
    return cards.metadata(repository.read(file).decode(errors="replace")) if file else {}


def described(repository: Repository, commit: Commit, *, with_blobs: bool) -> dict[str, Any]:
    """Describe a repository at a commit, as for one model."""
    card = card_of(repository, commit)
    files = commit.files.items()
    siblings = [sibling(path, file) if with_blobs else {"rfilename": path} for path, file in files]
    tip = repository.find() or commit
    return {
        "_id": blob_id(repository.id.encode())[:24],
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.id.split("/")[0],
        "private": repository.is_private,
        "gated": repository.gated or False,
        "disabled": repository.is_disabled,
        "sha": commit.oid,
        "createdAt": moment(repository.created),
        "lastModified": moment(tip.date),
        "downloads": repository.downloads,
        "likes": 0,
        "tags": cards.tags(card, tuple(commit.files)),
        **{name: card[name] for name in ("library_name", "pipeline_tag") if card.get(name)},
        "cardData": card or None,
        "siblings": siblings,
        "spaces": [],
        "usedStorage": sum(file.size_bytes for _, file in files),
    }


_SHORT = ("_id", "id", "modelId", "private", "createdAt", "downloads", "likes", "tags", "library_name", "pipeline_tag")
_FULL = (*_SHORT, "author", "gated", "disabled", "sha", "lastModified", "siblings")


def listed(repository: Repository, *, is_full: bool, with_card: bool, expand: list[str]) -> dict[str, Any]:
    """Describe a repository as in a list of many."""
    commit = repository.find()
    if commit is None:
        return {"_id": blob_id(repository.id.encode())[:24], "id": repository.id, "modelId": repository.id}
    whole = described(repository, commit, with_blobs=False)
    names = ("_id", "id", "modelId", *expand) if expand else (_FULL if is_full else _SHORT)
    return {name: whole[name] for name in (*names, *(("cardData",) if with_card else ())) if name in whole}


def sibling(path: str, file: File) -> dict[str, Any]:
    """Describe a file as part of a model."""
    large = (
        {}
        if file.sha256 is None
        else {"lfs": {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": len(file.in_git)}}
    )
    return {"rfilename": path, "blobId": file.blob_id, "size": file.size_bytes, **large}


def entries(repository: Repository, commit: Commit) -> dict[str, dict[str, Any]]:
    """Describe every file and folder of a commit as parts of a tree, by path and in the order of paths."""
    folders = folder_ids({path: file.blob_id for path, file in commit.files.items()})
    found = {path: _folder(path, oid) for path, oid in folders.items() if path}
    found |= {path: _file(repository, path, file) for path, file in commit.files.items()}
    return dict(sorted(found.items()))


def _folder(path: str, oid: str) -> dict[str, Any]:
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _file(repository: Repository, path: str, file: File) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size_bytes, "path": path}
    if file.sha256 is not None:
        told["lfs"] = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": len(file.in_git)}
        xet_hash = repository.objects.xet_hash(file.sha256)
        if xet_hash:
            told["xetHash"] = xet_hash
    return told
