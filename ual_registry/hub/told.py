"""What the headers of an answer tell of limits: ``RateLimit``, ``RateLimit-Policy`` and ``Retry-After``.

The first two are of draft-ietf-httpapi-ratelimit-headers, in the form in which the Hub writes them; the third is of
RFC 9110, section 10.2.3. What is not understood counts as not told.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

__all__ = ["Told"]

_LIMIT = re.compile(r'"(?P<resource>[^"]+)"\s*((?:;\s*\w+\s*=\s*[^;,]+)+)')
_WINDOW = re.compile(r";\s*w\s*=\s*(\d{1,9})(?=\s*(?:[;,]|\Z))")
_NUMBER = re.compile(r";\s*(?P<key>[rt])\s*=\s*(?P<value>\d{1,9})(?=\s*(?:[;,]|\Z))")
_SECONDS = re.compile(r"\d{1,9}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an answer tells.

    Attributes:
        resource: Which budget the request was taken from, such as ``api``.
        remaining: How many requests are left in it.
        reset_s: Seconds until it is full again.
        window_s: Length of a window in seconds.
        retry_after_s: Seconds until the next request is welcome.
    """

    resource: str | None = None
    remaining: int | None = None
    reset_s: int | None = None
    window_s: int | None = None
    retry_after_s: float | None = None

    @property
    def wait_s(self) -> float | None:
        """How long to wait after a refusal: as told, or one window; ``None`` where neither is told."""
        if self.retry_after_s is not None:
            return self.retry_after_s
        is_used_up = self.reset_s is not None and self.remaining == 0
        return self.reset_s if is_used_up else self.window_s

    @classmethod
    def read(cls, headers: Mapping[str, str], *, now: datetime.datetime | None = None) -> Told:
        """Read the headers of an answer.

        Args:
            headers: Found by lower-case names too, such as the client's are.
            now: The time, for a date in ``Retry-After``; by default the clock's.

        >>> Told.read({"ratelimit": '"api";r=3;t=55'})
        Told(resource='api', remaining=3, reset_s=55, window_s=None, retry_after_s=None)
        """
        limit = _LIMIT.search(headers.get("ratelimit", ""))
        numbers = {found["key"]: int(found["value"]) for found in _NUMBER.finditer(limit[0])} if limit else {}
        window = _WINDOW.search(headers.get("ratelimit-policy", ""))
        return cls(
            resource=limit["resource"] if limit and numbers else None,
            remaining=numbers.get("r"),
            reset_s=numbers.get("t"),
            window_s=int(window[1]) if window else None,
            retry_after_s=_retry_after_s(headers.get("retry-after", ""), now),
        )


def _retry_after_s(text: str, now: datetime.datetime | None) -> float | None:
    """Read seconds, or a date."""
    text = text.strip()
    if _SECONDS.match(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    return max(0.0, (date - (now or datetime.datetime.now(datetime.UTC))).total_seconds())
