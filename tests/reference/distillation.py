"""Distillation, slow and obvious: losses from their formulas, chunks by comparing every pair of cuts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch


def alm(teacher: Sequence[float], student: Sequence[float], temperature: float) -> float:
    """Binary cross-entropy between ``p^(1/t)`` and ``q^(1/t)``, chunk by chunk (arXiv 2503.20083)."""
    total = 0.0
    for log_p, log_q in zip(teacher, student, strict=True):
        p, q = math.exp(log_p) ** (1 / temperature), math.exp(log_q) ** (1 / temperature)
        total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    return total / len(teacher)


def shared_cuts(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Cut a text wherever the parts before are the same text in both lists of parts."""
    cuts = [
        "".join(one[:i])
        for i in range(len(one) + 1)
        for j in range(len(other) + 1)
        if "".join(one[:i]) == "".join(other[:j])
    ]
    return [after[len(before) :] for before, after in itertools.pairwise(cuts)]


def token_log_probs(model: Any, ids: Sequence[int]) -> list[float]:
    """Return the log-probability of every token but the first, one forward pass for each, in float64."""
    found = []
    for index in range(1, len(ids)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(ids[:index])])).logits[0, -1].double()
        found.append(float(logits[ids[index]] - torch.logsumexp(logits, dim=0)))
    return found


def agreement(student: Sequence[float], owners: Sequence[int], named: dict[int, float]) -> float:
    """Return ``sum t log m`` over the groups that the teacher names and all others together, for one row.

    Args:
        student: Probability of every token.
        owners: Group of every token.
        named: The teacher's probability of the groups that it names.
    """
    masses = {group: sum(p for p, own in zip(student, owners, strict=True) if own == group) for group in named}
    terms = [chance * math.log(masses[group]) for group, chance in named.items()]
    left = 1 - sum(named.values())
    return sum(terms) + (left * math.log(1 - sum(masses.values())) if left > 0 else 0.0)


def within(student: Sequence[float], owners: Sequence[int], token: int) -> float:
    """Return ``log p/m`` of a token in its own group, for one row; 0 where it is in the last group, that of no group.

    Args:
        student: Probability of every token.
        owners: Group of every token; the highest one stands for none.
        token: The token that stands there.
    """
    mass = sum(p for p, own in zip(student, owners, strict=True) if own == owners[token])
    return 0.0 if owners[token] == max(owners) else math.log(student[token] / mass)
