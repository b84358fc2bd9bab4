"""Tell what a small module does to numbers: whether it is a norm, an activation, or something else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["behaviour"]


def behaviour(module: nn.Module, args: tuple[Any, ...]) -> tuple[str, str] | None:
    """Return ``("norm", "layer" or "rms")``, ``("activation", class name)``, or ``None`` for any other module.

    A norm gives the same result for a multiple of its input; a layer norm also for a shifted one.
    An activation bends every number by itself.

    Args:
        module: The module, about to run.
        args: What it is about to read.
    """
    if len(args) != 1 or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return None
    if any(True for _ in module.children()) or any(parameter.dim() > 1 for parameter in module.parameters()):
        return None
    sample = torch.randn(args[0].shape, generator=torch.Generator().manual_seed(0), dtype=args[0].dtype)
    try:
        with torch.no_grad():
            kind = _norm(module, sample * 100)
            if kind is not None:
                return "norm", kind
            return ("activation", type(module).__name__) if _is_activation(module, sample) else None
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None  # a module that refuses such numbers is neither


def _norm(module: nn.Module, sample: Tensor) -> str | None:
    plain, scaled, shifted = (module(value.clone()) for value in (sample, sample * 3, sample + 50))
    if not isinstance(plain, Tensor) or plain.shape != sample.shape or torch.allclose(plain, sample):
        return None
    if not torch.allclose(plain, scaled, rtol=1e-3, atol=1e-4) or bool((plain == plain.flatten()[0]).all()):
        return None
    return "layer" if torch.allclose(plain, shifted, rtol=1e-2, atol=1e-2) else "rms"


def _is_activation(module: nn.Module, sample: Tensor) -> bool:
    plain, doubled = module(sample.clone()), module(sample * 2)
    if not isinstance(plain, Tensor) or plain.shape != sample.shape or torch.allclose(doubled, plain * 2):
        return False
    order = torch.randperm(sample.numel(), generator=torch.Generator().manual_seed(1))
    moved = module(sample.flatten()[order].reshape(sample.shape))
    return torch.allclose(moved.flatten(), plain.flatten()[order], rtol=1e-4, atol=1e-5)
