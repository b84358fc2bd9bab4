"""What the Hub's client says of repositories, in our own words; what has not the form it must have is refused."""

from __future__ import annotations

import re
from typing import Any

from ual_registry.air.commit import is_commit
from ual_registry.hub.address import is_path
from ual_registry.hub.model import HubFile, ListedModel, Snapshot

__all__ = ["listed", "snapshot_of"]

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def snapshot_of(info: Any) -> Snapshot:
    """Take what we need from the description of a repository.

    Raises:
        ValueError: A part of it has not the form that it must have.
    """
    if not isinstance(info.sha, str) or not is_commit(info.sha):
        raise ValueError("no commit")
    files = [_file(sibling) for sibling in info.siblings or ()]
    card = info.card_data.to_dict() if info.card_data is not None and hasattr(info.card_data, "to_dict") else {}
    return Snapshot(
        repository=info.id,
        commit=info.sha,
        files={file.path: file for file in files},
        tags=_tags(info),
        card=card,
        is_private=bool(info.private),
        gated=info.gated if isinstance(info.gated, str) else None,
    )


def _file(sibling: Any) -> HubFile:
    if not isinstance(sibling.rfilename, str) or not is_path(sibling.rfilename):
        raise ValueError(f"{str(sibling.rfilename)[:100]!r} is no path")
    size = sibling.lfs.size if sibling.lfs else sibling.size
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    if type(size) is not int or size < 0:
        raise ValueError(f"{sibling.rfilename} has no size")
    if sha256 is not None and not _SHA256.match(str(sha256)):
        raise ValueError(f"{sibling.rfilename} has no digest")
    return HubFile(path=sibling.rfilename, size_bytes=size, sha256=sha256, blob_id=str(sibling.blob_id or ""))


def _tags(info: Any) -> tuple[str, ...]:
    return tuple(tag for tag in info.tags or () if isinstance(tag, str))


def listed(info: Any) -> ListedModel:
    """Take what we need from a line of a list."""
    return ListedModel(
        repository=info.id,
        tags=_tags(info),
        commit=info.sha if isinstance(info.sha, str) and is_commit(info.sha) else None,
        is_private=bool(info.private),
        gated=info.gated if isinstance(info.gated, str) else None,
    )
