"""Batches of paired rows: checked, and their products added to float64 sums.

Rows of float64, and few rows of any dtype, are multiplied in float64. Many rows of float32 or less are multiplied in
float32, which takes half the time, by blocks whose products are then added in float64: what rounding leaves is that of
one block, however many there are.
"""

from __future__ import annotations

import torch

from ual_registry.errors import ShapeError

__all__ = ["add_gram", "add_products", "finite_pairs", "mirrored"]

_BLOCK, _BLOCK_ON_GPU = 256, 1024
"""Rows of a sum that are added to at once: so many that the product stays in a CPU's cache, or keeps a GPU busy."""

_FEW_ROWS = 128
"""Fewer rows than this are multiplied in float64, where that costs next to nothing."""

_ROWS = 1024
"""Rows whose products are summed in float32."""


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
        The rows of both sides, float32 where they may be multiplied so and float64 elsewhere, and the number of pairs
        left out.

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
    # Whoever let torch round what float32 products read (TF32, bfloat16) did so for models, not for these sums.
    is_rounded = torch.get_float32_matmul_precision() != "highest"
    is_exact = torch.float64 in (x.dtype, y.dtype) or len(x) < _FEW_ROWS or is_rounded
    x, y = (rows.detach().to(device, torch.float64 if is_exact else torch.float32) for rows in (x, y))
    finite = x.isfinite().all(1) & y.isfinite().all(1)
    rejected = len(x) - int(finite.sum())
    return (x[finite], y[finite], rejected) if rejected else (x, y, 0)


def add_gram(sums: torch.Tensor, rows: torch.Tensor) -> None:
    """Add ``rows^T rows`` to sums of shape (d, d) in place; the blocks below the diagonal stay as they are.

    Args:
        sums: Shape (d, d), float64.
        rows: Shape (n, d), float32 or float64.
    """
    size = _block(sums.device)
    for part in torch.split(rows, _ROWS):
        for start in range(0, len(sums), size):
            _add(sums[start : start + size, start:], part[:, start : start + size], part[:, start:])


def add_products(sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add ``left^T right`` to sums in place.

    Args:
        sums: Shape (d, k), float64.
        left: Shape (n, d), float32 or float64.
        right: Shape (n, k), of the same dtype.
    """
    size = _block(sums.device)
    for part, other in zip(torch.split(left, _ROWS), torch.split(right, _ROWS), strict=True):
        for start in range(0, len(sums), size):
            _add(sums[start : start + size], part[:, start : start + size], other)


def _block(device: torch.device) -> int:
    return _BLOCK if device.type == "cpu" else _BLOCK_ON_GPU


def _add(sums: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype is torch.float64:
        sums.addmm_(left.T, right)
    else:
        sums.add_(left.T @ right)


def mirrored(sums: torch.Tensor) -> torch.Tensor:
    """Return a whole symmetric matrix, as a copy, from one whose upper half alone is right."""
    upper = sums.triu()
    return upper + upper.triu(1).T
