"""Sending the large files of a commit, before the commit itself; the Hub's client sends them again as it thinks fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ual_registry.hub.changes import Content
from ual_registry.hub.xet import has_xet
from ual_registry.hub.xet_session import bound_uploads

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub
    from ual_registry.hub.upload import CommitOrder

__all__ = ["additions", "send_files"]

_LATE_FROM_BYTES = 8 << 20
"""From this size on, bytes that are not sent spare more time than the requests of a second group take."""


def additions(operations: Sequence[Any]) -> list[Any]:
    """Return what a commit brings, of all that it does."""
    from huggingface_hub import CommitOperationAdd  # noqa: PLC0415  # costs more than the rest

    return [item for item in operations if isinstance(item, CommitOperationAdd)]


def send_files(hub: Hub, order: CommitOrder, operations: Sequence[Any]) -> None:
    """Send the large files; nothing refers to them before the commit does.

    What is not digested yet the client digests as it reads it, several files side by side or while it sends.

    Args:
        hub: The Hub.
        order: What is committed, and on what.
        operations: The same as the client wants it; it notes in there what it has sent.

    Raises:
        HubError: The Hub refuses, or cannot be reached.
    """
    added = additions(operations)
    is_xet = has_xet()
    if is_xet and added:
        bound_uploads()
    for group in _groups(order.contents, added) if is_xet else [added]:
        _send_group(hub, order, group)
    digests = {item.path_in_repo: item.upload_info for item in added}
    for content in order.contents:
        info = digests.get(content.path)
        if info is not None and info.is_hashed:
            content.note_sha256(info.sha256.hex())


def _groups(contents: Sequence[Content], added: list[Any]) -> list[list[Any]]:
    """Return what to send side by side over Xet, one group after the other.

    A file goes after the one that it is like, and then most of its bytes are known; side by side, both would
    be sent whole.
    """
    sent = {item.path_in_repo for item in added}
    late = {each.path for each in contents if each.like in sent and each.size_bytes >= _LATE_FROM_BYTES}
    groups = ([item for item in added if (item.path_in_repo in late) is is_late] for is_late in (False, True))
    return [group for group in groups if group]


def _send_group(hub: Hub, order: CommitOrder, added: list[Any]) -> None:
    def send() -> None:
        try:
            hub.api.preupload_lfs_files(order.parent.repository, added, revision=order.branch, free_memory=False)
        except RuntimeError as error:
            cause = error.__cause__  # what the client wraps in words of its own is unwrapped
            if cause is None:
                raise
            raise cause from cause.__cause__

    hub.ask(send, "push to", order.parent.repository, revision=order.branch, retry=False)
