"""What is minimised: the sum of the losses of a batch, and over how many positions it goes.

Sums, not means: a step divides by all the positions of its micro-batches, on all processes, so that how a step is cut
into micro-batches changes nothing (transformers issue 34191). Of a causal model only the logits of positions that are
trained on are made: its head is given their hidden states and no others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ual_registry.training.rows import NO_LABEL

__all__ = ["Loss", "batch_loss", "trained_positions"]


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a batch.

    Attributes:
        total: Sum over the positions, in nats; shape ().
        positions: How many positions those are.
    """

    total: torch.Tensor
    positions: int


def trained_positions(head: str, labels: torch.Tensor) -> int:
    """Count what the loss of a batch goes over.

    Args:
        head: One of ``config.HEADS``.
        labels: Shape (rows, tokens), or (rows,) for classes; ``NO_LABEL`` where nothing is trained on.
    """
    wanted = labels[:, 1:] if head == "causal" else labels
    return int((wanted != NO_LABEL).sum())


def batch_loss(model: Any, base: Any, head: str, batch: Mapping[str, torch.Tensor]) -> Loss:
    """Return the loss of a batch; where nothing is trained on it is 0, and still reaches every parameter.

    Args:
        model: What to run.
        base: The transformers model inside it.
        head: One of ``config.HEADS``.
        batch: Its inputs, and ``labels``.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits, wanted = _HEADS[head](model, base, inputs, batch["labels"])
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(), wanted.flatten(), ignore_index=NO_LABEL, reduction="sum"
    )
    return Loss(total, trained_positions(head, batch["labels"]))


_Answer = tuple[torch.Tensor, torch.Tensor]


def _causal(model: Any, base: Any, inputs: Mapping[str, Any], labels: torch.Tensor) -> _Answer:
    """Every token is found from those before it."""
    wanted = labels[:, 1:]
    needed = wanted != NO_LABEL
    if not bool(needed.any()):
        needed[0, 0] = True  # its label says that nothing is trained on; the parameters are reached all the same
    with _head_sees(base, needed):
        logits = model(**inputs).logits
    if logits.shape[:2] == labels.shape:
        return logits[:, :-1], wanted
    return logits, wanted[needed]


@contextlib.contextmanager
def _head_sees(base: Any, needed: torch.Tensor) -> Iterator[None]:
    """Let the head of a model see some positions alone, as one row; a model whose head is no module makes all logits.

    Args:
        base: The transformers model.
        needed: Which positions but the last, shape (rows, tokens - 1).
    """
    rows, tokens = needed.shape[0], needed.shape[1] + 1
    head = base.get_output_embeddings()

    def choose(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        hidden = given[0]
        return (hidden[:, :-1][needed][None],) if hidden.shape[:2] == (rows, tokens) else None

    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def _masked(model: Any, base: Any, inputs: Mapping[str, Any], labels: torch.Tensor) -> _Answer:
    del base
    return model(**inputs).logits, labels


def _seq2seq(model: Any, base: Any, inputs: Mapping[str, Any], labels: torch.Tensor) -> _Answer:
    shifted = base.prepare_decoder_input_ids_from_labels(labels=labels)
    return model(**inputs, decoder_input_ids=shifted).logits, labels


_HEADS: dict[str, Callable[[Any, Any, Mapping[str, Any], torch.Tensor], _Answer]] = {
    "causal": _causal,
    "masked": _masked,
    "seq2seq": _seq2seq,
    "classification": _masked,
}
