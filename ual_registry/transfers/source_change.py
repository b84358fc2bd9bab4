"""What an adapter does to the next-token probabilities of its own base model, in groups of tokens.

It decides at which positions of a text this is looked at, and which groups are told apart there.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.errors import NumericalError, TransferError
from ual_registry.models.aligned_text import AlignedText
from ual_registry.models.attach import attach
from ual_registry.models.finite import finite_hint
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups
from ual_registry.projection.token_change import with_rest

__all__ = ["TokenRows", "log_probabilities", "output_size", "read_source"]

_LEAST = 1e-30  # a probability whose logarithm is finite


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Positions, and what the adapter changes there.

    Attributes:
        passages: The index of each position's passage, shape (n,).
        positions: Where in the target's reading of the passage, shape (n,).
        groups: The groups of tokens that are told apart, numbers of ``TokenGroups``, shape (n, k).
        before: Logarithms of their probabilities without the adapter, and of the rest, shape (n, k + 1), float64.
        after: The same with the adapter.
        divergence: What the adapter changes: KL(after || before) over the source's vocabulary, shape (n,), in nats.
        covered: The probability of the groups that are told apart, the mean of before and after, shape (n,).
    """

    passages: torch.Tensor
    positions: torch.Tensor
    groups: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    divergence: torch.Tensor
    covered: torch.Tensor

    def __len__(self) -> int:
        """Return how many positions there are."""
        return len(self.positions)

    def at(self, index: torch.Tensor) -> TokenRows:
        """Return some of the positions."""
        return TokenRows(**{name: getattr(self, name)[index] for name in self.__slots__})


def read_source(
    source: LoadedBase, adapter: Adapter, texts: Sequence[AlignedText], groups: TokenGroups, *, count: int
) -> TokenRows:
    """Run a base model with and without an adapter and compare what it predicts.

    Args:
        source: The base model of the adapter.
        adapter: The adapter.
        texts: Passages, aligned with the target's reading of them.
        groups: The group of every token.
        count: How many groups to tell apart at a position: the likeliest ones, with or without the adapter.

    Raises:
        TransferError: The model predicts no next token, or the adapter cannot be attached.
        NumericalError: A logit is not finite.
    """
    parts = []
    for index, text in enumerate(texts):
        if text.source_positions:
            before = log_probabilities(source, text.source_ids, text.source_positions)
            with attach(source.model, adapter):
                after = log_probabilities(source, text.source_ids, text.source_positions)
            parts.append(_rows(index, text, before, after, groups=groups, count=count))
    if not parts:
        raise TransferError(
            "the calibration text has no position that both models have read up to",
            code="too-little-text",
            hint="give more text, of a kind and language that both tokenizers cut into more than single characters",
        )
    return TokenRows(**{name: torch.cat([getattr(part, name) for part in parts]) for name in TokenRows.__slots__})


def _rows(
    index: int, text: AlignedText, before: torch.Tensor, after: torch.Tensor, *, groups: TokenGroups, count: int
) -> TokenRows:
    masses = [_masses(logs, groups) for logs in (before, after)]
    likeliest = torch.maximum(*masses).topk(min(count, len(groups)), dim=1).indices
    old, new = (with_rest(own.gather(1, likeliest).clamp(min=_LEAST).log()).cpu() for own in masses)
    return TokenRows(
        passages=torch.full((len(old),), index),
        positions=torch.tensor(text.target_positions),
        groups=likeliest.cpu(),
        before=old,
        after=new,
        divergence=(after.exp() * (after - before)).sum(dim=1).cpu(),
        covered=(old[:, :-1].exp().sum(dim=1) + new[:, :-1].exp().sum(dim=1)) / 2,
    )


def _masses(logs: torch.Tensor, groups: TokenGroups) -> torch.Tensor:
    """Return the probability of every group, shape (n, groups)."""
    found = logs.new_zeros(len(logs), len(groups) + 1)
    return found.index_add_(1, groups.source.to(logs.device), logs.exp())[:, :-1]


def log_probabilities(base: LoadedBase, ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
    """Return the logarithms of the next-token probabilities at some positions of a text, shape (n, vocabulary).

    Args:
        base: The base model.
        ids: The text's tokens.
        positions: Where to look.

    Raises:
        TransferError: The model predicts no next token.
        NumericalError: A logit is not finite.
    """
    model: Any = base.model
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise TransferError(
            f"base model {base.base.id}: {type(model).__name__} predicts no next token",
            code="not-causal",
            context={"base_model": base.base.id},
            hint="carry the adapter by 'activations', which needs no predictions",
        )
    kept = torch.tensor(positions, dtype=torch.long, device=base.device)
    row = torch.tensor([list(ids)], device=base.device)
    with torch.inference_mode():
        logits = model(input_ids=row, logits_to_keep=kept, use_cache=False).logits[0].float()
    if not bool(logits.isfinite().all()):
        raise NumericalError(
            f"base model {base.base.id}: its logits are not finite in {str(model.dtype).removeprefix('torch.')}",
            context={"base_model": base.base.id},
            hint=finite_hint(model.dtype),
        )
    return torch.log_softmax(logits, dim=1)


def output_size(base: LoadedBase) -> int:
    """Return how many tokens a model predicts; 0 where it predicts none."""
    head = base.model.get_output_embeddings()
    return 0 if head is None else int(head.weight.shape[0])
