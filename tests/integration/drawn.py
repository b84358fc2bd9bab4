"""Numbers for tiny models that are shown to other engines, and the prompt that all of them get."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["PROMPT", "draw"]

PROMPT = [1, 5, 9, 33, 21, 60, 7]


def draw(model: Any, size: float) -> None:
    """Draw every matrix that is trained, so that what a model says is far from even."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.normal_(0, size)
