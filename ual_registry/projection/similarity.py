"""How alike two representations of the same rows are, whatever their widths and bases."""

from __future__ import annotations

import torch

from ual_registry.projection.moments import PairMoments

__all__ = ["linear_cka"]


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
