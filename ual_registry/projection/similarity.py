"""How alike two representations of the same rows are, whatever their widths and bases."""

from __future__ import annotations

import torch

from ual_registry.errors import NumericalError, ShapeError
from ual_registry.projection.moments import PairMoments

__all__ = ["linear_cka", "unbiased_cka", "unbiased_products"]


def linear_cka(moments: PairMoments) -> float:
    """Return linear centred kernel alignment: ``|Xc^T Yc|_F^2 / (|Xc^T Xc|_F |Yc^T Yc|_F)``.

    It does not change when a side is turned, moved or scaled. With fewer rows than features it is biased upwards.

    Source: Kornblith et al., Similarity of neural network representations revisited, ICML 2019, equation 5 and
    section 3.

    Args:
        moments: Of pairs (row of one model, row of the other).

    Returns:
        A number from 0 to 1; 0 where a side does not vary.
    """
    found = moments.centred()
    sizes = [float(torch.linalg.matrix_norm(part)) for part in (found.xy, found.xx, found.yy)]
    if min(sizes) == 0.0:
        return 0.0
    cross, x_size, y_size = sizes
    return min((cross / x_size) * (cross / y_size), 1.0)


def unbiased_products(rows: torch.Tensor) -> torch.Tensor:
    """Return the inner products of rows with each other, centred so that few rows bias no comparison.

    Source: Szekely and Rizzo, Partial distance correlation with methods for dissimilarities, Annals of Statistics
    2014, definition 2 (U-centring).

    Args:
        rows: Shape (n, d), any floating dtype; n of at least 4.

    Returns:
        Shape (n, n), float64, zero on the diagonal.

    Raises:
        NumericalError: There are fewer than four rows, or a number is not finite.
    """
    count = len(rows)
    if count < 4 or not bool(rows.isfinite().all()):
        raise NumericalError(f"{count} rows to compare: expected at least four, all of them finite")
    own = rows.to(torch.float64)
    products = (own - own.mean(0)) @ (own - own.mean(0)).T
    products.fill_diagonal_(0.0)
    sums = products.sum(0) / (count - 2)
    products -= sums + sums[:, None] - sums.sum() / (count - 1)
    return products.fill_diagonal_(0.0)


def unbiased_cka(x_products: torch.Tensor, y_products: torch.Tensor) -> float:
    """Return linear centred kernel alignment without the bias of few rows, from ``unbiased_products`` of both sides.

    It goes to the same number as ``linear_cka`` with many rows, and is 0 on average for unrelated rows however few.

    Source: Song et al., Feature selection via dependence maximization, JMLR 2012, equation 5, for the estimator; Nguyen
    et al., Do wide and deep networks learn the same things?, ICLR 2021, for its use.

    Args:
        x_products: Shape (n, n).
        y_products: Shape (n, n), of the same positions.

    Returns:
        A number up to 1, a little below 0 for unrelated rows; 0 where a side does not vary.

    Raises:
        ShapeError: The numbers of rows differ.
    """
    if x_products.shape != y_products.shape:
        raise ShapeError(f"products of {len(y_products)} rows: expected {len(x_products)}")
    cross, x_size, y_size = (
        float((one * other).sum())
        for one, other in ((x_products, y_products), (x_products, x_products), (y_products, y_products))
    )
    return min(cross / (x_size**0.5 * y_size**0.5), 1.0) if x_size > 0 and y_size > 0 else 0.0
