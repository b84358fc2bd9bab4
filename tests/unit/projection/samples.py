"""Random rows and updates for the tests of projections."""

from __future__ import annotations

import numpy as np
import torch

from tests.reference import projection as reference
from ual_registry.projection.factors import Factors
from ual_registry.projection.moments import PairMoments

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def random_rows(count: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """Return normal numbers around 1, float64."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1.0


def related_rows(count: int, width: int, other_width: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows, and rows of another width that a linear map with some noise makes of them."""
    x = random_rows(count, width, seed=seed)
    mixing = random_rows(width, other_width, seed=seed + 1000) - 1.0
    return x, x @ mixing + 0.3 * random_rows(count, other_width, seed=seed + 2000)


def random_factors(rank: int, ins: int, outs: int, *, seed: int = 0) -> Factors:
    """Return factors of normal numbers, float64."""
    return Factors(random_rows(rank, ins, seed=seed) - 1.0, random_rows(outs, rank, seed=seed + 1) - 1.0)


def isometry(rows: int, columns: int, *, seed: int = 0) -> torch.Tensor:
    """Return orthonormal columns, or orthonormal rows where there are fewer of those."""
    tall = random_rows(max(rows, columns), min(rows, columns), seed=seed)
    basis = torch.linalg.qr(tall).Q
    return basis if rows >= columns else basis.T


def moments_of(x: torch.Tensor, y: torch.Tensor) -> PairMoments:
    """Return the moments of one batch."""
    found = PairMoments(x.shape[1], y.shape[1])
    found.update(x, y)
    return found


def dense(factors: Factors) -> np.ndarray:
    """Return the dense update."""
    return reference.delta(factors.lora_A, factors.lora_B)
