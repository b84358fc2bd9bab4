"""The end of a run whose numbers are no numbers any more: at which step, and what is left of it."""

from __future__ import annotations

from pathlib import Path

from ual_registry.errors import TrainingError
from ual_registry.training.checkpoint import last_checkpoint

__all__ = ["not_finite"]


def not_finite(problem: str, *, step: int, checkpoints: Path) -> TrainingError:
    """Return the error that ends the run.

    Args:
        problem: What is not finite.
        step: The step.
        checkpoints: Folder of the run's checkpoints; there may be none yet.
    """
    place = last_checkpoint(checkpoints)
    kept = "there was no checkpoint yet" if place is None else f"the last good checkpoint stays in {place}"
    return TrainingError(
        f"step {step}: {problem}",
        code="not-finite",
        context={"step": step, "checkpoints": str(checkpoints)},
        hint=f"{kept}; lower the learning rate, or look for odd examples",
    )
