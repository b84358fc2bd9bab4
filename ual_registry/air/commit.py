"""The name of a commit, which means the same for ever, unlike that of a branch or a tag."""

from __future__ import annotations

import re
from typing import TypeGuard

__all__ = ["is_commit"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> TypeGuard[str]:
    """Tell whether a revision is the name of a commit.

    >>> is_commit("1" * 40), is_commit("main"), is_commit("1" * 40 + chr(10)), is_commit(None)
    (True, False, False, False)
    """
    return revision is not None and _COMMIT.fullmatch(revision) is not None
