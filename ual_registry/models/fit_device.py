"""Where what is fitted to a model's activations or weights is computed."""

from __future__ import annotations

import torch

__all__ = ["fit_device"]

_WITHOUT_FLOAT64 = frozenset({"mps"})


def fit_device(device: torch.device) -> torch.device:
    """Return the device of a model, or the CPU where that device has no float64, in which everything is fitted."""
    return torch.device("cpu") if device.type in _WITHOUT_FLOAT64 else device
