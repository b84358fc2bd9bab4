"""Batches of paired rows: checked, brought to float64, and added to sums of products."""

from __future__ import annotations

import torch

from ual_registry.errors import ShapeError

__all__ = ["add_gram", "finite_pairs", "mirrored"]

_BLOCK = 256


def finite_pairs(
    x: torch.Tensor, y: torch.Tensor, *, widths: tuple[int, int], names: tuple[str, str], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the pairs whose numbers are all finite, and how many others there were.

    Args:
        x: Shape (n, d_x), any floating dtype and device.
        y: Shape (n, d_y), likewise.
        widths: d_x and d_y.
        names: What to call both in a message.
        device: Where the result shall be.

    Returns:
        Float64 rows of both sides, and the number of pairs left out.

    Raises:
        ShapeError: The shapes do not fit one another or the widths.
    """
    for name, rows, width in zip(names, (x, y), widths, strict=True):
        if rows.ndim != 2 or rows.shape[1] != width or not rows.is_floating_point():
            raise ShapeError(
                f"{name}: expected floating rows of shape (n, {width}), got {rows.dtype} of shape {tuple(rows.shape)}"
            )
    if len(x) != len(y):
        raise ShapeError(f"paired rows: got {len(x)} rows of {names[0]} and {len(y)} of {names[1]}")
    x, y = (rows.detach().to(device, torch.float64) for rows in (x, y))
    finite = x.isfinite().all(1) & y.isfinite().all(1)
    rejected = len(x) - int(finite.sum())
    return (x[finite], y[finite], rejected) if rejected else (x, y, 0)


def add_gram(sums: torch.Tensor, rows: torch.Tensor) -> None:
    """Add ``rows^T rows`` to sums of shape (d, d) in place; the blocks below the diagonal stay as they are.

    Args:
        sums: Shape (d, d), float64.
        rows: Shape (n, d), float64.
    """
    for start in range(0, len(sums), _BLOCK):
        sums[start : start + _BLOCK, start:].addmm_(rows[:, start : start + _BLOCK].T, rows[:, start:])


def mirrored(sums: torch.Tensor) -> torch.Tensor:
    """Return a whole symmetric matrix, as a copy, from one whose upper half alone is right."""
    upper = sums.triu()
    return upper + upper.triu(1).T
