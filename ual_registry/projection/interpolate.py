"""Projection by interpolation: features are samples of a smooth curve, which is sampled anew."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate as resample

from ual_registry.projection import tiles
from ual_registry.projection.factors import Factors, norm
from ual_registry.projection.sides import Carried, Side, products

__all__ = ["interpolate", "norm_ratio", "resample_features", "resampled_side"]


def resample_features(matrix: torch.Tensor, width: int, axis: int = 1) -> torch.Tensor:
    """Sample an axis anew, linearly, with half-pixel centres (``align_corners=False``).

    Args:
        matrix: Two axes, contiguous.
        width: The new length of the axis.
        axis: Which one.

    Returns:
        The matrix itself where that is its shape, as every new sample is an old one then.
    """
    if matrix.shape[axis] == width:
        return matrix
    if axis == 1:
        return resample(matrix[None], size=width, mode="linear", align_corners=False)[0]
    # As an image of one column whose channels lie side by side: what transposing twice would give, in half the time.
    image = matrix[None, :, None].permute(0, 3, 1, 2)
    found = resample(image, size=(width, 1), mode="bilinear", align_corners=False)
    return found.permute(0, 2, 3, 1).reshape(width, matrix.shape[1])


def resampled_side(factor: torch.Tensor, axis: int, width: int) -> Side:
    """Sample the features of a factor anew, there and back; see ``sides.Carry``."""
    if factor.shape[axis] == width:
        gram = (tiles.grams(factor, axis, width) or (_gram(factor, axis),))[0]
        return Side(fitted=factor, own=gram, new=gram)
    found = tiles.resampled(factor, axis, width)
    if found is None:
        return _resampled_side(factor.to(torch.float64), axis, width)
    own, new, back, cross = found[1]
    return Side(fitted=found[0], own=own, new=new, back=back, cross=cross)


def _gram(factor: torch.Tensor, axis: int) -> torch.Tensor:
    exact = factor.to(torch.float64)
    return products(exact, exact, axis)


def _resampled_side(own: torch.Tensor, axis: int, width: int) -> Side:
    """Return what ``tiles.resampled`` finds, by torch."""
    new = resample_features(own, width, axis)
    back = resample_features(new, own.shape[axis], axis)
    return Side(
        fitted=new,
        own=products(own, own, axis),
        new=products(new, new, axis),
        back=products(back, back, axis),
        cross=products(own, back, axis),
    )


def norm_ratio(carried: Carried) -> float:
    """Return the norm of an update over that of what sampling made of it; 1 where nothing is left.

    Args:
        carried: What ``resampled_side`` made of both factors.
    """
    new_size = carried.new_size()
    return carried.size / new_size if new_size > 0 else 1.0


def interpolate(factors: Factors, in_features: int, out_features: int) -> Factors:
    """Fit an update to another shape by linear interpolation along both feature axes, norm restored.

    Neighbouring features of a model mean nothing to one another, so the result carries nothing between
    independently trained models; the method is a control. Plain interpolation changes the norm of the update
    by a factor that depends on the shapes alone, so the norm of the source is restored.

    Source: the ``interpolate`` method of ual-adapter 0.1, which leaves the norm uncontrolled.

    Args:
        factors: The update, any shape.
        in_features: Columns of the result.
        out_features: Rows of the result.
    """
    if (in_features, out_features) == (factors.in_features, factors.out_features):
        return factors
    raw = Factors(
        resample_features(factors.lora_A, in_features),
        resample_features(factors.lora_B.contiguous(), out_features, 0),
    )
    wanted, got = norm(factors), norm(raw)
    return raw.scaled(wanted / got) if got > 0 else raw
