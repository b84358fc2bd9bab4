"""The door to what only an extra installs, the same for every workflow that goes through it."""

from __future__ import annotations

import importlib.util
import os

from ual_registry.errors import MissingExtraError

__all__ = [
    "has_peft",
    "has_torch",
    "need_dispatch",
    "need_gguf",
    "need_torch",
    "need_training",
    "need_transformers",
    "need_web",
]


def has_peft() -> bool:
    """Tell whether peft is installed; it is not loaded."""
    return _is_installed("peft")


def has_torch() -> bool:
    """Tell whether torch is installed; it is not loaded."""
    return _is_installed("torch")


def need_torch(needed_for: str) -> None:
    """Make sure of torch before it is loaded.

    Args:
        needed_for: What cannot be done without it.

    Raises:
        MissingExtraError: It is not installed.
    """
    if not has_torch():
        raise MissingExtraError("torch", needed_for=needed_for)
    # Waiting threads must not spin: on shared cores that makes every step many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def need_transformers(needed_for: str) -> None:
    """Make sure of torch and transformers before they are loaded; see ``need_torch``."""
    need_torch(needed_for)
    if not _is_installed("transformers"):
        raise MissingExtraError("torch", needed_for=needed_for)


def need_training(needed_for: str) -> None:
    """Make sure of all that a training needs before it is loaded; see ``need_torch``."""
    need_torch(needed_for)
    if not all(_is_installed(package) for package in ("transformers", "peft", "accelerate")):
        raise MissingExtraError("train", needed_for=needed_for)


def need_gguf(needed_for: str) -> None:
    """Make sure of torch and gguf before they are loaded; see ``need_torch``."""
    need_torch(needed_for)
    if not _is_installed("gguf"):
        raise MissingExtraError("gguf", needed_for=needed_for)


def need_dispatch(needed_for: str) -> None:
    """Make sure of all that sentence encoders and routers need before it is loaded; see ``need_torch``."""
    need_torch(needed_for)
    if not all(_is_installed(package) for package in ("sentence_transformers", "sklearn")):
        raise MissingExtraError("dispatch", needed_for=needed_for)


def need_web(needed_for: str) -> None:
    """Make sure of all that servers need before it is loaded.

    Args:
        needed_for: What cannot be done without it.

    Raises:
        MissingExtraError: It is not installed.
    """
    if not all(_is_installed(package) for package in ("fastapi", "uvicorn", "httpx", "prometheus_client")):
        raise MissingExtraError("web", needed_for=needed_for)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # what hides a package may raise instead of finding nothing
        return False
