"""What a training would take, before it is begun: counted where that can be, measured on micro-batches where not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from ual_registry.models.loaded import LoadedBase
from ual_registry.training.batches import Batches
from ual_registry.training.config import TrainingConfig
from ual_registry.training.factors import factors_on, lora_config, targets_of
from ual_registry.training.launch import processes
from ual_registry.training.memory import memory_told
from ual_registry.training.objective import batch_loss
from ual_registry.training.place import Place, place_of
from ual_registry.training.prepare import Prepared
from ual_registry.training.schedule import Length, length_of
from ual_registry.training.surroundings import undisturbed

__all__ = ["Estimate", "estimate"]

_BYTES_OF_A_FACTOR = 16
"""Value, gradient, and the two means of AdamW, each float32."""

_TIMED = 3
_LOOK_SHARE = 1 / 3
"""A look goes forward alone, which is a third of a step's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training would take.

    Attributes:
        steps: Steps in all.
        epochs: Passes over the examples.
        looks: Looks at the held-out examples, that before the first step among them.
        rows: Rows of a pass.
        tokens: Tokens that go through the model in all steps.
        trained_tokens: What the loss of all steps goes over.
        modules: Modules that carry factors.
        trainable: Numbers that are trained.
        parameters: Numbers of the base model.
        weights_bytes: The base model's weights.
        factors_bytes: Factors, their gradients and the optimiser.
        activations_bytes: What the largest micro-batch keeps for the way back.
        micro_step_s: Seconds of a typical micro-batch, there and back.
        seconds: Seconds in all, looks included.
    """

    steps: int
    epochs: float
    looks: int
    rows: int
    tokens: int
    trained_tokens: int
    modules: int
    trainable: int
    parameters: int
    weights_bytes: int
    factors_bytes: int
    activations_bytes: int
    micro_step_s: float
    seconds: float

    @property
    def memory_bytes(self) -> int:
        """Memory in all, without that of Python and its libraries."""
        return self.weights_bytes + self.factors_bytes + self.activations_bytes


def estimate(base: LoadedBase, prepared: Prepared, config: TrainingConfig) -> Estimate:
    """Say what a training would take; a few micro-batches are run, and nothing is kept.

    Args:
        base: The base model, with the head that is trained through; it is left as it was.
        prepared: What would be trained on.
        config: How.

    Raises:
        TrainingError: The settings do not fit the base model, or memory runs out already here.
    """
    choice, place = targets_of(base, config), place_of(config)
    rows = Batches(prepared.train, prepared, config)
    length = length_of(config, len(rows.steps(0, processes()[1])))
    peft_config = lora_config(base, choice, config)
    on = factors_on(base, peft_config, seed=config.seed, is_recomputed=config.gradient_checkpointing)
    with memory_told(config), undisturbed(), on as model:
        trainable = sum(own.numel() for own in model.parameters() if own.requires_grad)
        model.to(place.own_device)
        measured = _measure(model, base.model, rows, config, place)
    weights = [own for name, own in base.model.named_parameters() if ".lora_" not in name]
    passes, looks = length.epochs, _looks(length) if prepared.held_out else 0
    report = prepared.report
    total = passes * report.train.tokens + looks * _LOOK_SHARE * report.held_out.tokens
    return Estimate(
        steps=length.steps,
        epochs=passes,
        looks=looks,
        rows=len(prepared.train),
        tokens=round(passes * report.train.tokens),
        trained_tokens=round(passes * report.train.trained_tokens),
        modules=len(choice.included),
        trainable=trainable,
        parameters=sum(own.numel() for own in weights),
        weights_bytes=sum(own.numel() * own.element_size() for own in weights),
        factors_bytes=trainable * _BYTES_OF_A_FACTOR,
        activations_bytes=measured.activations_bytes,
        micro_step_s=measured.micro_step_s,
        seconds=measured.token_s * total,
    )


def _looks(length: Length) -> int:
    """Return how often a run looks: before the first step, every so many steps, and after the last."""
    return 1 + length.steps // length.evaluate_every + bool(length.steps % length.evaluate_every)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What some micro-batches took: bytes, seconds of a typical one, and seconds of a token."""

    activations_bytes: int
    micro_step_s: float
    token_s: float


def _measure(model: Any, inner: Any, rows: Batches, config: TrainingConfig, place: Place) -> _Measured:
    """Run the largest micro-batch, then some of the first steps, which are of all lengths."""
    size = config.batch_size
    lengths = [len(row.input_ids) for row in rows.rows]
    largest = sorted(range(len(lengths)), key=lambda row: -lengths[row])[:size]
    model.train()
    with _counted() as held:
        _run(model, inner, rows.collate(largest, 0), config, place)
    micro = [part for step in rows.steps(0) for part in rows.parts(step)]
    spread = micro[:: max(len(micro) // _TIMED, 1)][:_TIMED]
    taken = []
    for some in spread:
        begun = time.perf_counter()
        _run(model, inner, rows.collate(some, 0), config, place)
        taken.append(time.perf_counter() - begun)
    tokens = sum(lengths[row] for some in spread for row in some)
    return _Measured(sum(held.values()), median(taken), sum(taken) / max(tokens, 1))


def _run(model: Any, inner: Any, batch: Mapping[str, torch.Tensor], config: TrainingConfig, place: Place) -> None:
    """Go forward and back with one micro-batch."""
    moved = {name: value.to(place.own_device) for name, value in batch.items()}
    is_half = place.precision != "float32"
    with torch.autocast(place.device, dtype=place.dtype if is_half else torch.bfloat16, enabled=is_half):
        loss = batch_loss(model, inner, config.head, moved)
    torch.autograd.backward(loss.total / max(loss.positions, 1))
    model.zero_grad()
    if place.device == "cuda":
        torch.cuda.synchronize()


class _counted(torch.autograd.graph.saved_tensors_hooks):  # noqa: N801  # it is used as a function is
    """Count the bytes that are kept for the way back, each piece of memory once."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        super().__init__(self._keep, lambda value: value)

    def _keep(self, value: torch.Tensor) -> torch.Tensor:
        if not isinstance(value, torch.nn.Parameter):
            storage = value.untyped_storage()
            self._held[storage.data_ptr()] = storage.nbytes()
        return value

    def __enter__(self) -> dict[int, int]:  # type: ignore[override]  # what was counted is what is asked for
        super().__enter__()
        return self._held
