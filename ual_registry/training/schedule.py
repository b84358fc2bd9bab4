"""How long a run is, and when it looks and keeps: numbers that follow from settings and data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ual_registry.training.config import TrainingConfig

__all__ = ["SCHEDULE_NAMES", "Length", "length_of"]

SCHEDULE_NAMES = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
    "warmup-stable-decay": "warmup_stable_decay",
}
"""What transformers calls each schedule."""

_LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How long a run is.

    Attributes:
        steps: Steps in all.
        steps_per_epoch: Steps of a pass over the examples.
        warmup_steps: Steps in which the learning rate rises.
        decay_steps: Steps in which a warm-up-stable-decay schedule falls.
        evaluate_every: Steps from one look at the held-out examples to the next.
        checkpoint_every: Steps from one checkpoint to the next.
    """

    steps: int
    steps_per_epoch: int
    warmup_steps: int
    decay_steps: int
    evaluate_every: int
    checkpoint_every: int

    @property
    def epochs(self) -> float:
        """Passes over the examples."""
        return self.steps / self.steps_per_epoch


def length_of(config: TrainingConfig, steps_per_epoch: int) -> Length:
    """Return how long a run is.

    Args:
        config: Its settings.
        steps_per_epoch: Steps of a pass over the examples.

    >>> length_of(TrainingConfig(epochs=2.0), 50).warmup_steps
    5
    """
    steps = config.steps or max(math.ceil(config.epochs * steps_per_epoch), 1)
    warmup = math.ceil(config.warmup_share * steps) if config.warmup_steps is None else config.warmup_steps
    evaluate_every = config.evaluate_every or math.ceil(steps / _LOOKS)
    return Length(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=min(warmup, steps - 1),
        decay_steps=math.ceil(config.decay_share * steps),
        evaluate_every=evaluate_every,
        checkpoint_every=config.checkpoint_every or evaluate_every,
    )
