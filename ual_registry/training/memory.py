"""When memory runs out: which settings to lower, in the order of what they cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ual_registry.errors import TrainingError
from ual_registry.models.memory import is_out_of_memory
from ual_registry.training.config import TrainingConfig

__all__ = ["memory_told"]


@contextlib.contextmanager
def memory_told(config: TrainingConfig) -> Iterator[None]:
    """Turn what frameworks raise when memory runs out into what a user can do about it.

    Raises:
        TrainingError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory with {config.batch_size} rows of at most {config.max_length} tokens",
            code="out-of-memory",
            context={"batch_size": config.batch_size, "max_length": config.max_length},
            hint=_advice(config),
        ) from error


def _advice(config: TrainingConfig) -> str:
    found = []
    if config.batch_size > 1:
        half = -(-config.batch_size // 2)
        found.append(f"batch_size {half} with accumulation {config.accumulation * 2} (the same steps)")
    if not config.gradient_checkpointing:
        found.append("gradient_checkpointing")
    found.append(f"max_length {max(config.max_length // 2, 2)}")
    return f"lower one: {', '.join(found)}"
