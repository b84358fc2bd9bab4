"""How measured numbers are written into a record, so that they are the same on machines whose last bits differ."""

from __future__ import annotations

__all__ = ["rounded"]

_DIGITS = 6


def rounded(value: float) -> float:
    """Return a number with six significant digits.

    >>> rounded(0.123456789), rounded(1234567.0)
    (0.123457, 1234570.0)
    """
    return float(f"{value:.{_DIGITS}g}")
