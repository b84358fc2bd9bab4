"""How much a server takes on, and the reading of a body that keeps to it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from ual_registry.errors import RouteError
from ual_registry.web.failure import HttpError

__all__ = ["Limits", "read_document"]

_DRAINED = 16
"""So many times the largest body is still read and thrown away, so that the client gets to read the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a server takes on.

    Attributes:
        max_running: Requests that are answered at once.
        max_waiting: Requests that wait beside them; the next is told to come later.
        max_body_bytes: Size of a request.
        max_prompt_tokens: Tokens of a prompt; as many as the model reads where absent.
        max_tokens: Tokens that a request may ask for.
        default_tokens: Tokens where it does not say; never more than ``max_tokens``.
        grace_s: Seconds that running requests have when the server is stopped.

    Raises:
        RouteError: A number is out of its range.
    """

    max_running: int = 8
    max_waiting: int = 64
    max_body_bytes: int = 1 << 20
    max_prompt_tokens: int | None = None
    max_tokens: int = 1024
    default_tokens: int = 256
    grace_s: int = 30

    def __post_init__(self) -> None:
        """Refuse what no server can keep."""
        for name in ("max_running", "max_body_bytes", "max_prompt_tokens", "max_tokens", "default_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RouteError(f"{name}: expected at least 1, got {value}", code="limits")
        for name in ("max_waiting", "grace_s"):
            if getattr(self, name) < 0:
                raise RouteError(f"{name}: expected 0 or more, got {getattr(self, name)}", code="limits")


async def read_document(request: Request, limits: Limits) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        HttpError: It is too large, or no JSON object; NaN and infinite numbers are no JSON.
    """
    # A page in a browser can send any other type to a server on this machine without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(400, "invalid_content_type", "content-type: expected application/json")
    try:
        read = json.loads(await _read(request, limits.max_body_bytes), parse_constant=_no_number, parse_float=_finite)
        # Half of a surrogate pair is no character: no tokenizer takes it, and no answer can quote it.
        found = json.loads(json.dumps(read, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "invalid_json", "the body is not JSON") from error
    if not isinstance(found, dict):
        raise HttpError(400, "invalid_json", f"the body is not a JSON object but {type(found).__name__}")
    return found


def _no_number(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    found = float(text)
    return found if math.isfinite(found) else _no_number(text)


async def _read(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _DRAINED * limit:
            break
        if size <= limit:
            parts.append(part)
    if size > limit:
        raise HttpError(413, "request_too_large", f"the body is larger than {limit} bytes")
    return b"".join(parts)
