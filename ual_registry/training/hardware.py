"""What a training ran on: versions, processor, memory, GPUs, for its record; and the most memory it held."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["environment", "peak_memory_bytes"]

_PACKAGES = ("torch", "transformers", "peft", "accelerate")
_CPUINFO = Path("/proc/cpuinfo")
_BRAND = "model name"


def environment(device: str) -> dict[str, str]:
    """Return the versions of what computes, and what it computes on.

    Args:
        device: ``cpu`` or ``cuda``.

    Returns:
        Texts by name: ``device`` is the GPU, or else the processor; ``cores`` are those that the process may use.
    """
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    found |= {"processor": _processor(), "cores": str(_cores()), "memory": _gigabytes(_memory_bytes())}
    if device == "cuda":
        total = int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
        found |= {
            "device": torch.cuda.get_device_name(),
            "devices": str(torch.cuda.device_count()),
            "device_memory": _gigabytes(total),
            "cuda": str(torch.version.cuda),
        }
    else:
        found |= {"device": found["processor"], "threads": str(torch.get_num_threads())}
    return found


def _processor() -> str:
    """Return the name of the processor; that of its kind where the system does not tell more."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = next((line.partition(":")[2].strip() for line in lines if line.startswith(_BRAND)), "")
    return told or f"{platform.machine() or 'unknown'} CPU"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):  # a system that does not tell
        return 0


def _gigabytes(size_bytes: int) -> str:
    """Write a size.

    >>> _gigabytes(33_600_000_000), _gigabytes(0)
    ('33.6 GB', 'unknown')
    """
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes > 0 else "unknown"


def peak_memory_bytes(device: str) -> int:
    """Return the most memory that was held: on a GPU by the allocator, else by the whole process since its start."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
