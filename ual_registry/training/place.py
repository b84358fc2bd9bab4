"""Where a training computes and in what: device, precision, processes; and what that machine is."""

from __future__ import annotations

import os
import platform
import resource
import sys
from dataclasses import dataclass
from importlib.metadata import version

import torch

from ual_registry.training.config import TrainingConfig, setting_error

__all__ = ["Place", "environment", "peak_memory_bytes", "place_of", "processes"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PACKAGES = ("torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a training computes.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
    """

    device: str
    precision: str

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
    if config.precision != "auto":
        if config.precision == "float16" and device == "cpu":
            raise setting_error("precision", "expected float32 or bfloat16 on a CPU, got float16")
        return Place(device=device, precision=config.precision)
    if device == "cpu":
        return Place(device=device, precision="float32")
    return Place(device=device, precision="bfloat16" if torch.cuda.is_bf16_supported() else "float16")


def processes() -> tuple[int, int]:
    """Return which process this is, from 0, and how many there are, as ``accelerate launch`` tells them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def environment(device: str) -> dict[str, str]:
    """Return the versions of what computes, and what it computes on."""
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    if device == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    else:
        found |= {"device": f"{platform.machine()} CPU", "threads": str(torch.get_num_threads())}
    return found


def peak_memory_bytes(device: str) -> int:
    """Return the most memory that was held: on a GPU by the allocator, else by the whole process since its start."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
