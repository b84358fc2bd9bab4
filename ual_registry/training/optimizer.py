"""AdamW over the factors of a model, as PEFT makes it for LoRA+, and its state as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer

from ual_registry.training.config import TrainingConfig
from ual_registry.training.work import factors_of

__all__ = ["flat_state", "make_optimizer", "state_by_index"]


def make_optimizer(model: Any, config: TrainingConfig) -> Any:
    """Return AdamW over the factors of a PEFT model; with LoRA+ ``lora_B`` learns faster.

    Args:
        model: The PEFT model.
        config: Learning rate, weight decay and LoRA+.
    """
    if config.lora_plus_ratio is not None:
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=config.learning_rate,
            loraplus_lr_ratio=config.lora_plus_ratio,
            loraplus_weight_decay=config.weight_decay,
        )
    values = list(factors_of(model).values())
    return torch.optim.AdamW(values, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def flat_state(state: Mapping[int, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors of an optimiser's state by index and name, as in ``0.exp_avg``."""
    return {f"{index}.{name}": value for index, own in state.items() for name, value in own.items()}


def state_by_index(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """Return the state that ``flat_state`` took apart."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        found.setdefault(int(index), {})[name] = value
    return found
