"""What a teacher says of all next tokens, not only of the one that it wrote: soft targets in groups of tokens.

Teacher and student cut text differently, so they are compared where both have read equally far, in groups of tokens
that go on with the same bytes (``models.token_groups``). Groups that the teacher does not name share what is left.
Which token of its group stands there is learnt from the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ual_registry.models.token_groups import TokenGroups

__all__ = ["SoftRows", "SoftTargets", "in_groups", "soft_likelihood", "soft_rows"]

_LEAST = 1e-30


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SoftTargets:
    """Soft targets of one text.

    Attributes:
        places: Which of the text's wanted tokens have one, shape (m,).
        groups: The groups that the teacher names there, each once, shape (m, k); the number of groups where it names
            fewer.
        chances: Their probabilities, float32, shape (m, k); 0 where a group is missing.
    """

    places: torch.Tensor
    groups: torch.Tensor
    chances: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SoftRows:
    """Soft targets of some rows of a batch.

    Attributes:
        rows: Indices of the rows, shape (m,), ascending.
        groups: As in ``SoftTargets``, shape (m, k).
        chances: As in ``SoftTargets``, shape (m, k).
        owners: The group of every token of the student, shape (vocabulary,).
        count: How many groups there are.
    """

    rows: torch.Tensor
    groups: torch.Tensor
    chances: torch.Tensor
    owners: torch.Tensor
    count: int

    def between(self, first: int, after: int) -> SoftRows:
        """Return those of some rows that stand together, counted from the first of them."""
        start, end = (int(torch.searchsorted(self.rows, bound)) for bound in (first, after))
        return SoftRows(
            rows=self.rows[start:end] - first,
            groups=self.groups[start:end],
            chances=self.chances[start:end],
            owners=self.owners,
            count=self.count,
        )


def in_groups(tokens: torch.Tensor, logs: torch.Tensor, groups: TokenGroups) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the likeliest tokens of a teacher into groups, each once; tokens of no group are left out.

    Args:
        tokens: Ids of the source, shape (m, k).
        logs: Logarithms of their probabilities, shape (m, k).
        groups: The group of every token.

    Returns:
        Groups and their probabilities, shape (m, k) each.
    """
    own = groups.source[tokens.long()]
    ordered, order = own.sort(dim=1)
    chances = logs.exp().gather(1, order)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    places = is_first.cumsum(dim=1) - 1
    found = torch.zeros_like(chances).scatter_add_(1, places, chances)
    named = torch.full_like(ordered, len(groups)).scatter_(1, places, ordered)
    return named, found.masked_fill(named == len(groups), 0.0)


def soft_rows(
    targets: Sequence[SoftTargets | None], counts: Sequence[int], groups: TokenGroups, device: torch.device
) -> SoftRows:
    """Put the soft targets of a batch of texts into rows, text by text.

    Args:
        targets: Those of each text; ``None`` where it has none.
        counts: How many wanted tokens each text has.
        groups: The group of every token.
        device: Where the student is.
    """
    starts = torch.tensor([0, *counts]).cumsum(dim=0).tolist()
    known = [(start, own) for start, own in zip(starts, targets, strict=False) if own is not None]
    width = max((own.groups.shape[1] for _, own in known), default=1)
    empty = torch.zeros(0, width)
    return SoftRows(
        rows=torch.cat([empty[:, 0].long(), *(start + own.places for start, own in known)]).to(device),
        groups=torch.cat([empty.long(), *(own.groups for _, own in known)]).to(device),
        chances=torch.cat([empty, *(own.chances for _, own in known)]).to(device),
        owners=groups.target.to(device),
        count=len(groups),
    )


def soft_likelihood(chances: torch.Tensor, targets: torch.Tensor, soft: SoftRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how well a student's predictions agree with soft targets.

    With t the teacher's and m the student's probability of every group that the teacher names, and of all others
    together, it is ``sum t log m``; at most what it is where m = t. To it comes ``log p/m`` of the token that stands
    there in its own group: without that a group's mass could go to any of its tokens.

    Args:
        chances: The student's probabilities in the rows that have soft targets, shape (m, vocabulary), float32.
        targets: The token that stands in each of these rows, shape (m,).
        soft: The targets.

    Returns:
        The agreement, shape (m,), in nats; and its gradient to the student's logits, shape (m, vocabulary).
    """
    masses = chances.new_zeros(len(chances), soft.count + 1).index_add(1, soft.owners, chances)
    agreement, ratios = _between_groups(masses, soft)
    group = soft.owners[targets][:, None]
    is_known = (group < soft.count).to(chances)  # what is in no group is not told apart
    mass = masses.gather(1, group).clamp(min=_LEAST)
    chosen = chances.gather(1, targets[:, None]).clamp(min=_LEAST)
    agreement = agreement + (is_known * (chosen / mass).log())[:, 0]
    shares = ratios.scatter_add(1, group, -is_known / mass).index_select(1, soft.owners)
    slopes = (chances * (shares - 1)).scatter_add(1, targets[:, None], is_known)
    return agreement, slopes


def _between_groups(masses: torch.Tensor, soft: SoftRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``sum t log m``, and ``t / m`` of every group: to a token's logit its gradient is ``p (t / m - 1)``."""
    own = masses.gather(1, soft.groups).clamp(min=_LEAST)
    is_named = soft.groups < soft.count
    # Added up, not taken from 1: of a student that is sure, nothing but rounding would be left.
    places = torch.where(is_named, soft.groups, soft.count + 1)
    is_other = torch.ones(len(masses), soft.count + 2, device=masses.device).scatter(1, places, 0.0)[:, :-1]
    rest = (masses * is_other).sum(dim=1).clamp(min=_LEAST)
    left = (1 - soft.chances.sum(dim=1)).clamp(min=0)
    agreement = (soft.chances * own.log()).sum(dim=1) + left * rest.log()
    ratios = (left / rest)[:, None].repeat(1, soft.count + 1)
    named = torch.where(is_named, soft.chances / own, ratios[:, :1])
    return agreement, ratios.scatter(1, soft.groups, named)
