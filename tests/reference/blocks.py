"""What the reference models share: norm, rotary position embedding, causal attention."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Divide by the root of the mean square, then scale."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply it; hidden is (..., width)."""
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.epsilon)


def rotate_halves(states: torch.Tensor, rotated: int, base: float) -> torch.Tensor:
    """Turn row j with row j + rotated / 2 by an angle that grows with the position.

    Args:
        states: Queries or keys, (batch, length, heads, head_dim).
        rotated: How many of the first rows of each head are turned.
        base: The base of the frequencies.
    """
    half = rotated // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(states.shape[1], dtype=torch.float64)[:, None] * frequencies
    cosine, sine = (turned[:, None, :].to(states) for turned in (angles.cos(), angles.sin()))
    first, second, rest = states[..., :half], states[..., half:rotated], states[..., rotated:]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend causally; several query heads may share a key-value head.

    Args:
        query: (batch, length, heads, head_dim).
        key: (batch, length, key-value heads, head_dim).
        value: As ``key``.

    Returns:
        (batch, length, heads * head_dim).
    """
    states = (part.transpose(1, 2) for part in (query, key, value))
    found = functional.scaled_dot_product_attention(*states, is_causal=True, enable_gqa=True)
    return found.transpose(1, 2).flatten(2)
