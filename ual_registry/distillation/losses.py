"""What a target is trained on: tokens that it should say, and chunks that it should find as likely as the teacher."""

from __future__ import annotations

import torch

__all__ = ["ALM_TEMPERATURE", "alm", "contrastive_target", "sequence_nll"]

ALM_TEMPERATURE = 100.0

_LEAST_DOUBT = 1e-6
"""A chunk is never taken as certain, in nats: the logarithm of its complement would be infinite."""


def sequence_nll(log_probs: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-likelihood of the selected tokens; 0 where none is selected.

    Args:
        log_probs: Shape (n,), in nats.
        selected: Shape (n,), bool.
    """
    chosen = log_probs[selected]
    return -chosen.mean() if chosen.numel() else log_probs.sum() * 0.0


def alm(teacher: torch.Tensor, student: torch.Tensor, temperature: float = ALM_TEMPERATURE) -> torch.Tensor:
    """Return the mean binary cross-entropy between the chunk likelihoods of teacher and student.

    With p and q the likelihoods of one chunk, it is
    ``-[p^(1/t) log q^(1/t) + (1 - p^(1/t)) log(1 - q^(1/t))]``.

    Source: Minixhofer et al., arXiv 2503.20083.

    Args:
        teacher: Log-probabilities of the chunks, shape (chunks,), in nats; no gradient goes there.
        student: The same chunks under the student, shape (chunks,).
        temperature: Above 0; likelihoods of long chunks are too small to be compared as they are.

    Returns:
        A scalar; 0 where there is no chunk.
    """
    if not student.numel():
        return student.sum() * 0.0
    wanted = torch.exp(teacher.detach().to(student.dtype).clamp(max=-_LEAST_DOUBT) / temperature)
    found = student.clamp(max=-_LEAST_DOUBT) / temperature
    return -(wanted * found + (1 - wanted) * torch.log(-torch.expm1(found))).mean()


def contrastive_target(student_base: torch.Tensor, excess: torch.Tensor) -> torch.Tensor:
    """Return what the student should say where the teacher is only followed in what its adapter changed.

    It is the target base model's own log-probability of a chunk plus what the source adapter added to it, so that a
    weaker source does not pull the target down.

    Args:
        student_base: Log-probabilities under the target base model, shape (chunks,), in nats.
        excess: Log-probability with the source adapter minus without, shape (chunks,).

    Returns:
        Log-probabilities, at most 0, shape (chunks,).
    """
    return (student_base + excess).clamp(max=0.0)
