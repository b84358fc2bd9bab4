"""What to do about numbers of a base model that are not finite, as far as its dtype tells."""

from __future__ import annotations

import torch

__all__ = ["DAMAGED", "finite_hint"]

DAMAGED = "the weights are damaged; get the base model again"
"""What is wrong where weights themselves are not finite."""


def finite_hint(dtype: torch.dtype) -> str:
    """Return what to do where a model that computes in a dtype gives a number that is not finite."""
    return "load the model in float32" if dtype in (torch.float16, torch.bfloat16) else DAMAGED
