"""From a wanted change of next-token probabilities to the change of a final state that makes it.

It decides which distribution is wanted and which change of a model's last normed state comes closest to it. Where the
probabilities come from, and which weights shall make the change, is left to others. Rows are positions of a text,
columns are a few tokens of that row; one more column stands for all other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ual_registry.errors import NumericalError, ShapeError

__all__ = ["LARGEST_CHANGE", "StateChange", "divergence", "log_changes", "state_change", "with_rest"]

_LEAST_REST = 1e-6
LARGEST_CHANGE = 20.0
"""In nats; beyond it a probability is nothing or everything."""

_LARGEST_STEP = 4.0  # in nats; Newton's quadratic model of a softmax holds no further
_HALVINGS = 8
_ROUNDING = 1e-13


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """Changes of states, and how far they go.

    Attributes:
        change: What to add to the states, shape (n, d), float64.
        before: Divergence of the wanted distributions from those without it, in nats, shape (n,).
        after: The same with it.
    """

    change: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor


def with_rest(logs: torch.Tensor, *, least: float = _LEAST_REST) -> torch.Tensor:
    """Append the logarithm of the probability that some tokens leave to all others.

    Args:
        logs: Natural logarithms of the probabilities of different tokens, shape (n, k), any floating dtype.
        least: The smallest probability of the rest, so that its logarithm is finite.

    Returns:
        Shape (n, k + 1), float64.
    """
    own = logs.to(torch.float64)
    rest = (1.0 - own.exp().sum(dim=1, keepdim=True)).clamp(min=least)
    return torch.cat([own, rest.log()], dim=1)


def log_changes(
    own: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    *,
    teacher_weight: float,
    limit: float = LARGEST_CHANGE,
) -> torch.Tensor:
    """Return by how much the logarithms of a model's own probabilities are to change, to follow another model's.

    With a weight of 0 they are changed as the other model's were: ``q ~ own * after / before``. With 1 they become what
    the other model says with its update: ``q ~ after``. Between them its opinion without the update counts in part.

    Source: Liu et al., Tuning language models by proxy, COLM 2024 (arXiv 2401.08565), equation 1, for a weight of 0.

    Args:
        own: Logarithms of the probabilities to change, shape (n, m), any floating dtype.
        before: Those of the other model without its update, shape (n, m).
        after: Those of the other model with its update, shape (n, m).
        teacher_weight: From 0 to 1.
        limit: The largest change of a logarithm, either way.

    Returns:
        Shape (n, m), float64.

    Raises:
        ShapeError: The shapes differ.
    """
    if not own.shape == before.shape == after.shape:
        raise ShapeError(f"log-probabilities of shapes {[tuple(item.shape) for item in (own, before, after)]}: differ")
    start = teacher_weight * own.to(torch.float64) + (1 - teacher_weight) * before.to(torch.float64)
    return (after.to(torch.float64) - start).clamp(-limit, limit)


def divergence(wanted: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return ``KL(wanted || softmax(logits))`` of every row, in nats, shape (n,), float64.

    Args:
        wanted: Probabilities, shape (n, m), any floating dtype.
        logits: Shape (n, m), any floating dtype.
    """
    own = wanted.to(torch.float64)
    surprise = torch.xlogy(own, own) - own * torch.log_softmax(logits.to(torch.float64), dim=1)
    return surprise.sum(dim=1)


def state_change(
    logits: torch.Tensor, wanted: torch.Tensor, directions: torch.Tensor, *, penalty: float = 0.05, steps: int = 12
) -> StateChange:
    """Return ``argmin KL(q || softmax(z + V dn)) + lambda/2 |dn|^2`` for every row, by Newton's method in the dual.

    At the minimum ``dn = V^T a`` with ``lambda a = q - softmax(z + V dn)``, so that the system to solve has as many
    unknowns as there are tokens, however wide the state is. Steps that do not bring the objective down are halved.

    Args:
        logits: z, shape (n, m), any floating dtype.
        wanted: q, probabilities, shape (n, m).
        directions: V, what a change of the state does to the logits, shape (n, m, d).
        penalty: Lambda, above 0.
        steps: How many steps to take at most.

    Raises:
        ShapeError: The shapes do not fit.
        NumericalError: The penalty is not above 0, or a number is not finite.
    """
    _require(logits, wanted, directions, penalty)
    z, q, v = (item.to(torch.float64) for item in (logits, wanted, directions))
    gram = v @ v.transpose(1, 2)
    dual = torch.zeros_like(q)
    for _ in range(steps):
        dual = _descend(z, q, gram, dual, penalty)
    change = (dual[:, None] @ v)[:, 0]
    after = divergence(q, z + _times(gram, dual))
    return StateChange(change=change, before=divergence(q, z), after=after)


def _newton_step(
    z: torch.Tensor, q: torch.Tensor, gram: torch.Tensor, dual: torch.Tensor, penalty: float
) -> torch.Tensor:
    p = torch.softmax(z + _times(gram, dual), dim=1)
    wrong = penalty * dual + p - q
    slope = p[:, :, None] * (gram - p[:, None] @ gram)
    slope.diagonal(dim1=1, dim2=2).add_(penalty)
    found: torch.Tensor = torch.linalg.solve(slope, wrong[:, :, None])
    return found[:, :, 0]


def _descend(z: torch.Tensor, q: torch.Tensor, gram: torch.Tensor, dual: torch.Tensor, penalty: float) -> torch.Tensor:
    """Take one step, as long as brings the objective of each row down."""
    step = _newton_step(z, q, gram, dual, penalty)
    value = _objective(z, q, gram, dual, penalty)
    moved = _times(gram, step).abs().amax(dim=1)
    length = _LARGEST_STEP / moved.clamp(min=_LARGEST_STEP)
    for _ in range(_HALVINGS):
        tried = dual - length[:, None] * step
        is_worse = _objective(z, q, gram, tried, penalty) > value * (1 + _ROUNDING) + _ROUNDING
        if not bool(is_worse.any()):
            return tried
        length = torch.where(is_worse, length / 2, length)
    return torch.where(is_worse[:, None], dual, tried)


def _objective(
    z: torch.Tensor, q: torch.Tensor, gram: torch.Tensor, dual: torch.Tensor, penalty: float
) -> torch.Tensor:
    moved = _times(gram, dual)
    return divergence(q, z + moved) + penalty / 2 * (dual * moved).sum(dim=1)


def _times(matrices: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (matrices @ rows[:, :, None])[:, :, 0]


def _require(logits: torch.Tensor, wanted: torch.Tensor, directions: torch.Tensor, penalty: float) -> None:
    shapes = [tuple(item.shape) for item in (logits, wanted, directions)]
    if directions.ndim != 3 or shapes[0] != shapes[1] or shapes[0] != shapes[2][:2]:
        raise ShapeError(f"logits, wanted, directions of shapes {shapes}: expected (n, m), (n, m), (n, m, d)")
    if not 0.0 < penalty < float("inf"):
        raise NumericalError(f"penalty {penalty}: expected a number above 0")
    if not all(bool(item.isfinite().all()) for item in (logits, wanted, directions)):
        raise NumericalError("logits, wanted probabilities or directions hold a number that is not finite")
