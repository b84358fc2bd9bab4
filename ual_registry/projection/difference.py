"""How far two updates of one shape are apart, computed on their factors alone.

The difference of two updates of ranks r and s is itself an update of rank r + s, whose factors are those of both side
by side. Its norm is that of the product of two triangular cores, which keeps the full precision of float64 where the
identity ``|X|^2 - 2 <X, Y> + |Y|^2`` would lose half of its digits.
"""

from __future__ import annotations

import torch

from ual_registry.projection.factors import Factors

__all__ = ["core_norm", "relative_difference"]


def relative_difference(first: Factors, second: Factors) -> float | None:
    """Return ``|X - Y|_F / |X|_F``.

    Args:
        first: The update X, in float64.
        second: The update Y, of the same shape; its rank may differ.

    Returns:
        A number from 0; ``None`` where X is zero and Y is not, so that no ratio exists.
    """
    apart = core_norm(
        Factors(
            torch.cat((first.lora_A, second.lora_A)),
            torch.cat((first.lora_B, -second.lora_B), dim=1),
        )
    )
    size = core_norm(first)
    if size == 0.0:
        return 0.0 if apart == 0.0 else None
    return apart / size


def core_norm(factors: Factors) -> float:
    """Return the Frobenius norm of an update through the triangular cores of both factors.

    Source: Golub and Van Loan, Matrix Computations, 4th ed., section 5.2: an orthonormal basis leaves the norm as it
    is, so ``|B A| = |R_B R_A^T|`` with ``B = Q_B R_B`` and ``A^T = Q_A R_A``.
    """
    left = torch.linalg.qr(factors.lora_B, mode="r").R
    right = torch.linalg.qr(factors.lora_A.T, mode="r").R
    return float(torch.linalg.matrix_norm(left @ right.T))
