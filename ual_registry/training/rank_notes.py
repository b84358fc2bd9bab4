"""Ranks that are larger than a module can use: a product of factors has no more than the smaller side of its matrix."""

from __future__ import annotations

from ual_registry.binders.bind import Binding
from ual_registry.training.config import TrainingConfig
from ual_registry.training.patterns import pattern_key
from ual_registry.training.target_choice import Target, TargetChoice

__all__ = ["rank_notes"]


def rank_notes(binding: Binding, choice: TargetChoice, config: TrainingConfig) -> tuple[str, ...]:
    """Return a sentence where ranks are above what their modules can use; nothing where none is.

    Args:
        binding: The base model's binder, applied to it.
        choice: Which modules carry factors.
        config: The ranks.
    """
    sizes = [(min(binding.modules[own.path].matrix_shape), _rank(own, config)) for own in choice.included]
    above = [(size, rank) for size, rank in sizes if rank > size]
    if not above:
        return ()
    size, rank = min(above)
    count = f"{len(above)} of {len(sizes)} modules"
    return (f"rank {rank} is above what {count} can use: {size} says as much for the smallest, and takes less",)


def _rank(target: Target, config: TrainingConfig) -> int:
    key = pattern_key(config.rank_pattern, target)
    return config.rank if key is None else config.rank_pattern[key]
