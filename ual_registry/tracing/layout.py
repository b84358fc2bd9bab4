"""Tell how the rows of a fused module are laid out, from the rows that each role holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["NO_LAYOUT", "find_layout", "follows"]

NO_LAYOUT = "follow no known layout"
"""What is said of rows in any other order."""


def find_layout(rows: Mapping[str, Sequence[int]], *, heads: int | None, groups: int | None) -> str | None:
    """Return ``contiguous``, ``per_head``, ``grouped`` or ``interleaved``; ``None`` where it is none of them.

    Args:
        rows: The rows of each role, in order; the roles in the order of their first rows.
        heads: Query heads of the block.
        groups: Key-value heads of the block.
    """
    return next((layout for layout in _LAYOUTS if follows(layout, rows, heads=heads, groups=groups)), None)


def follows(layout: str, rows: Mapping[str, Sequence[int]], *, heads: int | None, groups: int | None) -> bool:
    """Tell whether rows are laid out so; see ``find_layout``."""
    counts = {"contiguous": 1, "per_head": heads, "grouped": groups, "interleaved": len(next(iter(rows.values())))}
    count = counts[layout]
    wanted = {role: list(held) for role, held in rows.items()}
    return count is not None and _blocks(rows, count, is_even=layout != "contiguous") == wanted


_LAYOUTS = ("contiguous", "per_head", "grouped", "interleaved")


def _blocks(rows: Mapping[str, Sequence[int]], count: int, *, is_even: bool) -> dict[str, list[int]] | None:
    """Return the rows that the roles hold where each is cut into ``count`` blocks that take turns."""
    if is_even and any(len(held) % count for held in rows.values()):
        return None
    widths = {role: len(held) // count for role, held in rows.items()}
    stride, start = sum(widths.values()), 0
    found: dict[str, list[int]] = {}
    for role, width in widths.items():
        found[role] = [start + block * stride + row for block in range(count) for row in range(width)]
        start += width
    return found
