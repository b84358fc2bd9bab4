"""What a run works on, and how the Trainer of transformers is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from ual_registry.training.batches import Batches
from ual_registry.training.config import TrainingConfig
from ual_registry.training.log import Journal
from ual_registry.training.place import Place
from ual_registry.training.schedule import SCHEDULE_NAMES, Length

__all__ = ["Work", "factors_of", "load_factors", "trainer_arguments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run works on.

    Attributes:
        config: Its settings.
        base: The transformers model inside what is trained.
        train: What is trained on.
        held_out: What is looked at; ``None`` where nothing is held out.
        length: Steps, and when to look and to keep.
        checkpoints: Folder of the checkpoints.
        journal: The log.
        processes: Which process this is, and how many there are.
        is_stopped: Tells whether the run was asked to end.
    """

    config: TrainingConfig
    base: Any
    train: Batches
    held_out: Batches | None
    length: Length
    checkpoints: Path
    journal: Journal
    processes: tuple[int, int] = (0, 1)
    is_stopped: Callable[[], bool] = field(default=lambda: False)


def trainer_arguments(work: Work, place: Place) -> Any:
    """Return the Trainer's own settings; it neither logs, looks nor saves by itself.

    Args:
        work: What to work on.
        place: Where to compute.
    """
    config, length = work.config, work.length
    is_falling = config.schedule == "warmup-stable-decay"
    arguments = transformers.TrainingArguments(
        output_dir=str(work.checkpoints),
        max_steps=length.steps,
        per_device_train_batch_size=config.batch_size,  # a batch of the feed is a whole step, so none are accumulated
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type=SCHEDULE_NAMES[config.schedule],
        lr_scheduler_kwargs={"num_decay_steps": length.decay_steps} if is_falling else {},
        warmup_steps=length.warmup_steps,
        max_grad_norm=config.max_gradient or 0.0,
        seed=config.seed % (1 << 32),
        bf16=place.precision == "bfloat16",
        fp16=place.precision == "float16",
        use_cpu=place.device == "cpu",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        log_level="error",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # noqa: SLF001  # several GPUs are several processes, never DataParallel
    return arguments


def factors_of(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name."""
    return {name: own for name, own in model.named_parameters() if own.requires_grad}


def load_factors(model: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Put back parameters that ``factors_of`` named."""
    with torch.no_grad():
        for name, parameter in factors_of(model).items():
            parameter.copy_(values[name])
