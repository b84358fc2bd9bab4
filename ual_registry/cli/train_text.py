"""What ``ual train`` says, in words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ual_registry.cli.output import size_text, table

if TYPE_CHECKING:
    from ual_registry.training.record import Proof, TrainingRecord
    from ual_registry.training.target_choice import TargetChoice
    from ual_registry.workflows.train_order import TrainEstimate, TrainResult

__all__ = [
    "estimate_document",
    "estimate_text",
    "targets_text",
    "time_text",
    "training_document",
    "training_text",
]


def targets_text(choice: TargetChoice) -> str:
    """Return the modules of a choice, those that are trained first, with the reason of each."""
    groups = sorted(choice.groups(), key=lambda group: not group.is_included)
    rows = [
        ["train" if group.is_included else "leave", group.path, str(group.count), group.layers, group.reason]
        for group in groups
    ]
    return "\n".join([table(rows, ["", "module", "count", "layers", "why"]), "", _counted(choice)])


def _counted(choice: TargetChoice) -> str:
    return f"{len(choice.included)} modules carry factors, {len(choice.excluded)} do not"


def estimate_document(found: TrainEstimate) -> dict[str, Any]:
    """Return the JSON document of a dry run."""
    own = found.estimate
    names = (
        "steps", "epochs", "looks", "rows", "tokens", "trained_tokens", "modules", "trainable", "parameters",
        "weights_bytes", "factors_bytes", "activations_bytes", "memory_bytes", "micro_step_s", "seconds",
    )  # fmt: skip
    return {
        "base": found.base,
        **{name: getattr(own, name) for name in names},
        "data": found.data,
        "notes": found.notes,
    }


def estimate_text(found: TrainEstimate) -> str:
    """Return what a training would take, for people."""
    own = found.estimate
    share = own.trainable / own.parameters
    parts = (
        (own.weights_bytes, "weights"), (own.factors_bytes, "factors and optimiser"),
        (own.activations_bytes, "activations of the largest micro-batch"),
    )  # fmt: skip
    lines = [
        f"steps      {own.steps:,} ({own.epochs:g} epochs of {own.rows:,} rows), {own.looks} looks at what is held out",
        f"tokens     {own.tokens:,}, {own.trained_tokens:,} of them trained on",
        f"trainable  {own.trainable:,} in {own.modules} modules ({share:.2%} of {own.parameters:,})",
        f"memory     {size_text(own.memory_bytes)}: {', '.join(f'{size_text(size)} {what}' for size, what in parts)}",
        f"time       {time_text(own.seconds)}, {own.micro_step_s:.3g} s for a micro-batch (measured)",
        *(f"note: {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def time_text(seconds: float) -> str:
    """Write a time.

    >>> time_text(5), time_text(200), time_text(7300)
    ('5.0 s', '3 min 20 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def training_document(result: TrainResult) -> dict[str, Any]:
    """Return the JSON document of a training."""
    record, proof = result.record, result.record.proof
    return {
        "path": result.path,
        "digest": result.digest,
        "revision": result.revision,
        "folder": result.folder,
        "base": record.base.id,
        "verdict": proof.verdict if proof else None,
        "steps": record.steps,
        "best_step": record.best_step,
        "trainable": record.trainable,
        "tokens": record.tokens,
        "trained_tokens": record.trained_tokens,
        "train_loss": record.train_loss,
        "proof": None if proof is None else {**_proof(proof)},
        "wall_time_s": record.wall_time_s,
        "tokens_per_s": record.tokens_per_s,
        "peak_memory_bytes": record.peak_memory_bytes,
        "environment": record.environment,
        "data": record.data,
        "data_digest": record.data_digest,
        "settings": record.config.document(),
        "notes": result.notes,
    }


def _proof(proof: Proof) -> dict[str, Any]:
    names = (
        "loss_before", "loss_after", "bits_before", "bits_after", "positions", "logit_change", "reload_error",
        "size_bytes",
    )  # fmt: skip
    return {name: getattr(proof, name) for name in names}


def training_text(result: TrainResult) -> str:
    """Return what a training did and is worth, for people."""
    record = result.record
    pace = f"{time_text(record.wall_time_s)} ({record.tokens_per_s:,.0f} tokens/s)"
    lines = [
        f"trained on {record.base.id}: {record.steps:,} steps, {record.tokens:,} tokens in {pace}",
        *_proof_lines(record),
        f"peak memory {size_text(record.peak_memory_bytes)}",
        f"wrote {result.path}",
        *([f"recorded as {result.revision}"] if result.revision else []),
        result.digest,
    ]
    return "\n".join(lines)


def _proof_lines(record: TrainingRecord) -> Iterator[str]:
    proof = record.proof
    if proof is None:
        return
    if proof.loss_before is None or proof.loss_after is None:
        yield "nothing was held out, so nothing shows whether the adapter is better than its base model"
    else:
        yield f"held-out loss {proof.loss_before:.4f} -> {proof.loss_after:.4f}{_bits(proof)} (step {record.best_step})"
        if proof.verdict != "better":
            yield "the training made nothing better: on what was held out the base model alone is as good"
    size = size_text(proof.size_bytes)
    acts = "changes no logit" if not proof.logit_change else f"changes logits by up to {proof.logit_change:.3g}"
    yield f"the adapter {acts}; read back from its file ({size}) it differs by {proof.reload_error:.1g}"


def _bits(proof: Proof) -> str:
    if proof.bits_before is None or proof.bits_after is None:
        return ""
    return f", bits per byte {proof.bits_before:.3f} -> {proof.bits_after:.3f}"
