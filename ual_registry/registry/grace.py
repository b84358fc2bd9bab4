"""How old something must be before it goes: durations as people write them."""

from __future__ import annotations

import datetime
import re

from ual_registry.errors import RegistryError
from ual_registry.registry.reference import quoted

__all__ = ["DEFAULT_GRACE", "moment_before", "parse_duration"]

DEFAULT_GRACE = datetime.timedelta(hours=24)
"""How long garbage stays, unless told otherwise."""

_DURATION = re.compile(r"([0-9]{1,9})([smhdw]?)\Z", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> datetime.timedelta:
    """Read a duration: a whole number and s, m, h, d or w; a number alone is in seconds.

    Raises:
        RegistryError: It is none.

    >>> parse_duration("24h"), parse_duration("0")
    (datetime.timedelta(days=1), datetime.timedelta(0))
    """
    match = _DURATION.match(text)
    if not match:
        raise RegistryError(
            f"duration {quoted(text)}: expected a whole number of at most 9 digits and s, m, h, d or w",
            code="duration",
            hint="such as 24h or 7d",
        )
    try:
        return datetime.timedelta(**{_UNITS[match[2] or "s"]: int(match[1])})
    except OverflowError:
        return datetime.timedelta.max


def moment_before(grace: datetime.timedelta) -> datetime.datetime:
    """Return the end of a grace that begins now; without any, a clock that is behind keeps nothing back."""
    now = datetime.datetime.now(datetime.UTC)
    if not grace:
        return now + datetime.timedelta(days=1)
    try:
        return now - grace
    except OverflowError:
        return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
