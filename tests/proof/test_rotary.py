"""The rotary style and width against the real model, by what leaves attention as it is.

Turning query and key by the same angle in each pair of rows that rotary embedding turns together changes no score.
Turning other pairs, or stretching a pair, does. Rows that are not rotated may be mixed freely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial

import pytest
import torch

from tests.proof.cases import UNLIKE, Case, case_of
from tests.proof.probe import Place, Probe
from ual_registry.air.model import Stack
from ual_registry.binders.describe import rotary_structure

pytestmark = pytest.mark.filterwarnings("ignore")

QUERIES = ("attention_query", "attention_position_query", "cross_attention_query", "latent_query_up")
KEYS = ("attention_key", "cross_attention_key")
TURNED = [case for case in UNLIKE if any(key[2] in QUERIES for key in case.binding().slots())]
Matrix = Callable[[int], torch.Tensor]
NOISE = 1e-4
"""Products of turned rows are summed in another order; a real change is far above it (a ratio)."""


def pairs(style: str, rotated: int) -> list[tuple[int, int]]:
    """Return the rows that a style turns together."""
    half = rotated // 2
    return [(2 * row, 2 * row + 1) if style == "interleaved" else (row, row + half) for row in range(half)]


def turn(style: str, rotated: int, head_dim: int) -> torch.Tensor:
    """Return a matrix that turns each pair by an angle of its own and mixes the other rows."""
    matrix = torch.eye(head_dim)
    for index, (one, other) in enumerate(pairs(style, rotated)):
        angle = torch.tensor(0.6 + 0.3 * index)
        matrix[one, one] = matrix[other, other] = angle.cos()
        matrix[one, other], matrix[other, one] = -angle.sin(), angle.sin()
    if rotated < head_dim:
        matrix[rotated:, rotated:] = _mixed(head_dim - rotated)
    return matrix


def stretch(pair: tuple[int, int], factor: float, head_dim: int) -> torch.Tensor:
    """Return a matrix that makes one row of a pair longer; its inverse does not change an unrotated score."""
    matrix = torch.eye(head_dim)
    matrix[pair[0], pair[0]] = factor
    return matrix


def _effect(probe: Probe, query: Matrix, key: Matrix, base: dict[Place, torch.Tensor]) -> float:
    """Return the largest change of an attention result, as a ratio, when every head of query and key is multiplied.

    A matrix is made from the width of a head, which may differ from one stack to the other.
    """
    matrices = {}
    for place_, (_, slot) in probe.slots.items():
        stack = probe.binding.base.stack(place_[0])
        assert stack is not None
        role = place_[2]
        if role in QUERIES:
            head, heads = _head(query, stack), stack.num_attention_heads
        elif role in KEYS:
            head, heads = _head(key, stack), stack.num_key_value_heads
        elif role == "attention_position_key":
            head, heads = _head(key, stack), stack.num_attention_heads
        elif role == "latent_key_up":
            head, heads = _mixed(_unrotated(stack)), stack.num_key_value_heads
        elif role == "latent_key_rotary":
            head, heads = key(slot.out_features), 1
        else:
            continue
        assert heads is not None
        matrices[place_] = torch.block_diag(*[head] * heads)
    after = probe.run(matrices=matrices)
    results = [name for name in base if name[2].endswith("attention_output")]
    return max(float((after[name] - base[name]).abs().max() / base[name].abs().max()) for name in results)


def _head(matrix: Matrix, stack: Stack) -> torch.Tensor:
    """Return the matrix of one head; with latent attention its rotated rows come last and the others are mixed."""
    assert stack.head_dim is not None
    if stack.rotary_head_dim is None:
        return matrix(stack.head_dim)
    return torch.block_diag(_mixed(_unrotated(stack)), matrix(stack.rotary_head_dim))


def _unrotated(stack: Stack) -> int:
    assert stack.head_dim is not None
    assert stack.rotary_head_dim is not None
    return stack.head_dim - stack.rotary_head_dim


def _mixed(width: int) -> torch.Tensor:
    """Return a matrix that mixes rows and keeps lengths and angles."""
    torch.manual_seed(4)
    free, _ = torch.linalg.qr(torch.randn(width, width))
    return free


@functools.lru_cache(maxsize=4)
def _probe(case: Case) -> Probe:
    """Return a probe whose rotary angles differ well from one pair to the next, and which adds nothing to turned rows.

    DeBERTa adds biases of query and value after its fused module; MVP puts keys of a prompt beside the others.
    """
    probe = Probe(case)
    for name, parameter in probe.model.named_parameters():
        if name.endswith("q_bias") or "prompt_trans" in name:
            parameter.data.zero_()
    for name, buffer in probe.model.named_buffers():
        if name.endswith("inv_freq"):
            buffer.copy_(torch.linspace(0.4, 1.3, buffer.numel()).reshape(buffer.shape))
        if name.endswith("embed_positions"):  # sine and cosine of every position, side by side (GPT-J)
            count, width = buffer.shape
            angles = torch.outer(torch.arange(count), torch.linspace(0.4, 1.3, width // 2))
            buffer.copy_(torch.cat((angles.sin(), angles.cos()), dim=1))
    return probe


@pytest.mark.parametrize("case", TURNED, ids=case_of)
def test_turning_the_pairs_of_the_binder_changes_nothing(case: Case) -> None:
    probe = _probe(case)
    structure = rotary_structure(probe.binding.base, case.base())
    base = probe.base
    right = partial(turn, structure.style, structure.rotated)

    assert _effect(probe, right, right, base) < NOISE
    assert _effect(probe, right, torch.eye, base) > 10 * NOISE


@pytest.mark.parametrize("case", TURNED, ids=case_of)
def test_another_style_and_another_width_change_the_attention(case: Case) -> None:
    probe = _probe(case)
    structure = rotary_structure(probe.binding.base, case.base())
    if structure.style == "none":
        assert structure.rotated == 0
        return
    base = probe.base
    other = partial(turn, "half" if structure.style == "interleaved" else "interleaved", structure.rotated)

    assert structure.rotated > 2, "two rows are one pair in either style: make the tiny head wider"
    assert _effect(probe, other, other, base) > 10 * NOISE
    for pair in pairs(structure.style, structure.rotated):
        longer, shorter = partial(stretch, pair, 2.0), partial(stretch, pair, 0.5)
        assert _effect(probe, longer, shorter, base) > 10 * NOISE, pair
