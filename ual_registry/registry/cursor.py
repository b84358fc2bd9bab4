"""Cursors as text: a small JSON document that its user hands back unread, so it is checked like any input."""

from __future__ import annotations

import base64
import json
from typing import Any

__all__ = ["pack", "unpack"]


def pack(document: Any) -> str:
    """Write a document as a cursor."""
    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode().rstrip("=")


def unpack(cursor: str) -> Any:
    """Return the document of a cursor, with or without its padding; ``None`` where it is none of ours.

    >>> unpack(pack({"log": 7}))
    {'log': 7}
    >>> unpack("####") is None
    True
    """
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # binascii's error is a ValueError, as are those of JSON and of UTF-8
        return None
