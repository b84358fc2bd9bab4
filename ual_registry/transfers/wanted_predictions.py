"""What the target has to predict, to be changed as an adapter changes its own base model.

It decides which tokens are told apart at each position and how probable each is to be. Groups of tokens are what both
models can be compared in (``token_groups``): what source and adapter say of a group is shared out inside it as the
target itself does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ual_registry.models.fit_device import fit_device
from ual_registry.models.token_groups import TokenGroups
from ual_registry.projection.token_change import log_changes, with_rest
from ual_registry.transfers.final_state import FinalState
from ual_registry.transfers.source_change import TokenRows

__all__ = ["Wanted", "token_logs", "wanted_predictions"]

_CHUNK = 64
"""Rows whose whole vocabulary is held at once: of 262,144 tokens they take 64 MiB, several times."""

_LEAST = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Wanted predictions at some positions; one more column stands for all tokens that are not told apart.

    Attributes:
        tokens: The tokens that are told apart, ids of the target, shape (n, k).
        chances: Their wanted probabilities, shape (n, k + 1), float64.
        logs: Logarithms of the target's own probabilities, shape (n, k + 1), float64.
    """

    tokens: torch.Tensor
    chances: torch.Tensor
    logs: torch.Tensor


def wanted_predictions(
    states: torch.Tensor, rows: TokenRows, groups: TokenGroups, final: FinalState, *, count: int, teacher_weight: float
) -> Wanted:
    """Return what the target should predict at the chosen positions.

    Args:
        states: Its normed last states without an adapter, shape (n, d).
        rows: What the source predicts there, with and without the adapter, in groups.
        groups: The group of every token.
        final: The way from the target's residual stream to its logits.
        count: k, how many tokens to tell apart: the likeliest ones, as wanted or as they are.
        teacher_weight: See ``projection.token_change.log_changes``.
    """
    parts, device = [], fit_device(final.table.device)
    owners = groups.target.to(device)
    for index in torch.split(torch.arange(len(rows)), _CHUNK):
        logs = torch.log_softmax(final.logits(states[index].to(final.table.device)), dim=1).to(device)
        wanted = logs + _changes(logs, rows.at(index), owners, len(groups), teacher_weight)
        wanted -= wanted.logsumexp(dim=1, keepdim=True)
        tokens = torch.maximum(logs, wanted).topk(min(count, logs.shape[1] - 1), dim=1).indices
        made = (tokens, with_rest(wanted.gather(1, tokens)).exp(), with_rest(logs.gather(1, tokens)))
        parts.append([own.cpu() for own in made])
    tokens, chances, own = (torch.cat(part) for part in zip(*parts, strict=True))
    return Wanted(tokens=tokens, chances=chances / chances.sum(dim=1, keepdim=True), logs=own)


def _changes(logs: torch.Tensor, rows: TokenRows, owners: torch.Tensor, count: int, weight: float) -> torch.Tensor:
    """Return by how much the logarithm of every token is to change, shape (n, vocabulary); where ``logs`` are."""
    named, before, after = (part.to(logs.device) for part in (rows.groups, rows.before, rows.after))
    masses = logs.new_zeros(len(rows), count + 1).index_add_(1, owners, logs.exp())
    own = masses.gather(1, named)
    rest = masses.scatter_(1, named, 0.0).sum(dim=1, keepdim=True)
    own = torch.cat([own, rest], dim=1).clamp(min=_LEAST).log()
    changes = log_changes(own, before, after, teacher_weight=weight).to(logs)
    spread = changes[:, -1:].repeat(1, masses.shape[1])
    return spread.scatter_(1, named, changes[:, :-1]).index_select(1, owners)


def token_logs(states: torch.Tensor, tokens: torch.Tensor, final: FinalState) -> torch.Tensor:
    """Return the logarithms of the probabilities of some tokens of each row, and of the rest, shape (n, k + 1).

    Args:
        states: Normed last states, shape (n, d).
        tokens: Ids, shape (n, k).
        final: The way from states to logits.
    """
    return torch.cat(list(_chunks(states, tokens, final)))


def _chunks(states: torch.Tensor, tokens: torch.Tensor, final: FinalState) -> Iterator[torch.Tensor]:
    for some, own in zip(torch.split(states, _CHUNK), torch.split(tokens, _CHUNK), strict=True):
        logits = final.logits(some.to(final.table.device))
        logs = logits.gather(1, own.to(logits.device)).sub(logits.logsumexp(dim=1, keepdim=True))
        yield with_rest(logs.cpu())
