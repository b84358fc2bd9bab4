"""Which entry of a pattern of ranks or alphas a module has: the first that names it, as PEFT takes its patterns."""

from __future__ import annotations

from collections.abc import Mapping

from ual_registry.training.target_choice import Target

__all__ = ["pattern_key"]


def pattern_key(pattern: Mapping[str, object], target: Target) -> str | None:
    """Return the first key of a pattern that names a module by its path or one of its roles; ``None`` where none does.

    Source: ``get_pattern_key`` of ``peft/utils/other.py``, 0.21.2.
    """
    return next((key for key in pattern if key in (target.path, *target.roles)), None)
