"""Where a training computes and in what: device and precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ual_registry.training.config import TrainingConfig, setting_error
from ual_registry.training.launch import local_index

__all__ = ["Place", "place_of"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a training computes.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        index: Which of several GPUs is this process's own.
    """

    device: str
    precision: str
    index: int = 0

    @property
    def own_device(self) -> str:
        """The device that this process computes on, as torch names it."""
        return self.device if self.device == "cpu" else f"{self.device}:{self.index}"

    @property
    def dtype(self) -> torch.dtype:
        """What the weights of the base model are kept in; factors are always float32."""
        return _DTYPES[self.precision]


def place_of(config: TrainingConfig) -> Place:
    """Return where a training computes.

    Raises:
        TrainingError: There is no such device, or it cannot compute in that precision.
    """
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise setting_error("device", "expected a device that is there, got cuda", hint="device: cpu, or auto")
    device = "cuda" if has_gpu and config.device != "cpu" else "cpu"
    index = local_index() if device == "cuda" else 0
    if config.precision != "auto":
        if config.precision == "float16" and device == "cpu":
            raise setting_error("precision", "expected float32 or bfloat16 on a CPU, got float16")
        return Place(device=device, precision=config.precision, index=index)
    if device == "cpu":
        return Place(device=device, precision="float32")
    return Place(device=device, precision="bfloat16" if torch.cuda.is_bf16_supported() else "float16", index=index)
