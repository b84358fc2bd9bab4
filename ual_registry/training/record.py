"""What a training did, as a record: for people, and inside the new adapter. Nothing here loads a framework."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ual_registry.air.model import BaseModel, Statement
from ual_registry.air.rounding import rounded
from ual_registry.digest import Digest
from ual_registry.training.config import TrainingConfig

__all__ = [
    "BETTER",
    "NO_BETTER",
    "UNKNOWN",
    "Proof",
    "TrainingRecord",
    "bits_per_byte",
    "training_statement",
    "verdict_of",
]

BETTER = "better"
NO_BETTER = "no better"
UNKNOWN = "not measured"

_POINTS = 100
"""Points of a curve at most, in the record; the log holds all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was measured of the adapter after the training.

    Attributes:
        loss_before: Mean held-out loss of the base model, in nats; ``None`` where nothing is held out.
        loss_after: The same with the adapter.
        bits_before: Held-out bits per byte of the base model; ``None`` where the head predicts no text.
        bits_after: The same with the adapter.
        positions: What the held-out loss goes over.
        logit_change: The largest change of a logit that the adapter makes on the probe.
        reload_error: The largest difference of a logit of the adapter as trained and as read back from its file.
        size_bytes: Size of the file.
    """

    loss_before: float | None
    loss_after: float | None
    bits_before: float | None
    bits_after: float | None
    positions: int
    logit_change: float
    reload_error: float
    size_bytes: int

    @property
    def verdict(self) -> str:
        """Whether the adapter is better than the base model on what was held out."""
        return verdict_of(self.loss_before, self.loss_after)


def verdict_of(before: float | None, after: float | None) -> str:
    """Compare two held-out losses.

    >>> verdict_of(2.0, 1.9), verdict_of(2.0, 2.0), verdict_of(None, None)
    ('better', 'no better', 'not measured')
    """
    if before is None or after is None:
        return UNKNOWN
    return BETTER if after < before else NO_BETTER


def bits_per_byte(loss: float | None, positions: int, size_bytes: int) -> float | None:
    """Turn a mean loss in nats into bits per byte; ``None`` where there is no loss, or no text that it goes over.

    >>> round(bits_per_byte(math.log(2), 10, 20), 12)
    0.5
    """
    return None if loss is None or not size_bytes else loss * positions / (math.log(2) * size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """What a training did.

    Attributes:
        base: The base model.
        config: The settings.
        data: What was trained on, as the preparation of the data tells it.
        data_digest: Digest of the examples with their split.
        rows_digest: Digest of the rows of tokens that the tokenizer made of them, with what is trained on.
        steps: Steps done.
        best_step: The step whose factors are the result.
        steps_per_epoch: Steps of a pass over the examples.
        warmup_steps: Steps in which the learning rate rose.
        processes: How many shared each step.
        trainable: Numbers that were trained.
        tokens: Tokens that went through the model.
        trained_tokens: What the loss of all steps went over.
        train_loss: Mean loss of the last tenth of the steps, in nats.
        losses: Step and training loss.
        held_out: Step and held-out loss.
        wall_time_s: Seconds, those of all parts of an interrupted run.
        peak_memory_bytes: The most memory that the process, or on a GPU the allocator, held.
        environment: Versions and hardware.
        labels: What the head tells apart; empty where it tells no labels.
        proof: What was measured afterwards; ``None`` before that.
    """

    base: BaseModel
    config: TrainingConfig
    data: Mapping[str, Any]
    data_digest: str
    rows_digest: str
    steps: int
    best_step: int
    steps_per_epoch: int
    warmup_steps: int
    processes: int
    trainable: int
    tokens: int
    trained_tokens: int
    train_loss: float
    losses: Sequence[tuple[int, float]]
    held_out: Sequence[tuple[int, float]]
    wall_time_s: float
    peak_memory_bytes: int
    environment: Mapping[str, str]
    labels: Sequence[str] = ()
    proof: Proof | None = None

    @property
    def tokens_per_s(self) -> float:
        """Tokens in a second, looks at the held-out examples included."""
        return self.tokens / max(self.wall_time_s, 1e-9)


def training_statement(record: TrainingRecord, *, created_at: str | None = None) -> Statement:
    """Return the provenance of a training; numbers are rounded to six digits.

    Args:
        record: What it did.
        created_at: When, in RFC 3339.
    """
    config = record.config
    settings = {name: value for name, value in config.document().items() if name not in _NAMED and value is not None}
    further = {"labels": list(record.labels)} if record.labels else {}
    return Statement(
        type="training",
        builder={"name": "ual-registry", "version": version("ual-registry")},
        parameters={
            "steps": record.steps,
            "epochs": rounded(record.steps / record.steps_per_epoch),
            "batch_size": config.effective_batch * record.processes,
            "learning_rate": config.learning_rate,
            "schedule": config.schedule,
            "warmup_steps": record.warmup_steps,
            "seed": config.seed,
            "max_length": config.max_length,
            "settings": {
                **settings,
                "micro_batch": config.batch_size,
                "processes": record.processes,
                "data": dict(record.data),
                **further,
            },
        },
        materials=tuple(_materials(record)),
        byproducts=dict(_byproducts(record)),
        created_at=created_at,
    )


_NAMED = ("steps", "epochs", "batch_size", "learning_rate", "schedule", "warmup_steps", "seed", "max_length", "sinks")
"""Settings that stand beside the others, or are none of the result's."""


def _materials(record: TrainingRecord) -> Iterator[dict[str, str]]:
    yield {"name": "base config", "digest": record.base.config_digest}
    if record.base.weights_digest is not None:
        yield {"name": "base weights", "digest": record.base.weights_digest}
    yield {"name": "examples", "digest": str(Digest.parse(record.data_digest))}
    yield {"name": "rows", "digest": str(Digest.parse(record.rows_digest))}


def _byproducts(record: TrainingRecord) -> Iterator[tuple[str, Any]]:
    yield "train_loss", rounded(record.train_loss)
    yield "best_step", record.best_step
    proof = record.proof
    if proof is not None:
        numbers = {
            "eval_loss_before": proof.loss_before,
            "eval_loss_after": proof.loss_after,
            "eval_bits_per_byte_before": proof.bits_before,
            "eval_bits_per_byte_after": proof.bits_after,
            "logit_change": proof.logit_change,
            "reload_error": proof.reload_error,
        }
        yield from ((name, rounded(value)) for name, value in numbers.items() if value is not None)
        yield "verdict", proof.verdict
    yield "tokens", record.tokens
    yield "trained_tokens", record.trained_tokens
    yield "trainable_parameters", record.trainable
    yield "wall_time_s", round(record.wall_time_s, 1)
    yield "tokens_per_s", rounded(record.tokens_per_s)
    yield "peak_memory_bytes", record.peak_memory_bytes
    yield "environment", dict(record.environment)
    yield "curve", _points(record.losses)
    if record.held_out:
        yield "eval_curve", _points(record.held_out)


def _points(curve: Sequence[tuple[int, float]]) -> tuple[dict[str, Any], ...]:
    """Return the means of a curve over as many stretches as it may have points; the last step of each names it."""
    width = math.ceil(len(curve) / _POINTS) or 1
    found = []
    for start in range(0, len(curve), width):
        stretch = curve[start : start + width]
        mean = sum(loss for _, loss in stretch) / len(stretch)
        found.append({"step": stretch[-1][0], "loss": rounded(mean)})
    return tuple(found)
