"""How a long command tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int | None], None]
"""Is told what is looked at, how many are done, and how many there are, where that is known."""


def silent(_what: str, _done: int, _total: int | None) -> None:
    """Show no progress."""
