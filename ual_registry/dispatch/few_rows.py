"""Batches of a few rows, token by token, on a processor: products and caches that cost less than the usual ones.

What comes out is the same but for rounding. A product of a large matrix with a few rows is several times as fast as
``W @ x.T`` than as ``x @ W.T``, for which MKL copies the matrix first; and keys and values are written where room was
left for them, where transformers copies all of them for every token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import DynamicLayer

__all__ = ["RoomyLayer", "few_rows", "linear_modules", "with_room"]

_FEW = range(2, 9)
"""Rows for which the product is turned round: ``benchmarks.few_rows`` measures one to sixteen on SmolLM2-135M."""
_ROOM = 64
"""Tokens that room is made for at once."""


def linear_modules(model: nn.Module) -> tuple[nn.Linear, ...]:
    """Return the modules of a model whose products are worth turning round: those that do not narrow."""
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]  # torch has no type for it
        return ()
    return tuple(own for own in model.modules() if type(own) is nn.Linear and own.out_features >= own.in_features)


@contextlib.contextmanager
def few_rows(modules: Sequence[nn.Linear], rows: int) -> Iterator[None]:
    """Let modules compute a few rows in the faster way.

    Args:
        modules: The modules.
        rows: Rows of this forward pass, tokens of one batch row counted apart.
    """
    chosen = [own for own in modules if _is_fit(own)] if rows in _FEW else []
    for own in chosen:
        own.__dict__["forward"] = _Turned(own)
    try:
        yield
    finally:
        for own in chosen:
            own.__dict__.pop("forward", None)


def _is_fit(module: nn.Linear) -> bool:
    weight = module.weight
    # A weight of another kind, such as a quantised one, says itself how it is multiplied.
    is_plain = type(weight) is nn.Parameter and weight.layout is torch.strided and weight.dtype is torch.float32
    return is_plain and weight.device.type == "cpu" and "forward" not in module.__dict__


class _Turned:
    """The forward pass of a linear module, with the rows as columns."""

    __slots__ = ("_module",)

    def __init__(self, module: nn.Linear) -> None:
        self._module = module

    def __call__(self, input: torch.Tensor) -> torch.Tensor:  # named as nn.Linear names it
        weight, bias = self._module.weight, self._module.bias
        rows = input.reshape(-1, input.shape[-1])
        if len(rows) not in _FEW or input.dtype is not weight.dtype:
            return functional.linear(input, weight, bias)
        found = torch.mm(weight, rows.T).T.contiguous().view(*input.shape[:-1], -1)
        return found if bias is None else found + bias


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # likewise transformers
    """Keys and values of one layer, with room for those of the tokens to come."""

    _rooms: tuple[torch.Tensor, torch.Tensor] | None = None
    _seen: tuple[Any, Any] = (None, None)
    """What this layer made itself of its rooms."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in keys and values of shape (rows, heads, tokens, width), and return all of them."""
        keys: Any = self.keys  # absent until the first update
        values: Any = self.values
        if not self.is_initialized or keys.numel() == 0:
            found: tuple[torch.Tensor, torch.Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return found
        start = keys.shape[-2]
        end = start + key_states.shape[-2]
        # Whoever chose rows or cut the cache made tensors of their own.
        is_known = self._seen[0] is keys and self._seen[1] is values
        if self._rooms is None or not is_known or end > self._rooms[0].shape[-2]:
            self._rooms = _roomy(keys, end + _ROOM), _roomy(values, end + _ROOM)
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., start:end, :] = states
        self.keys, self.values = self._seen = self._rooms[0][..., :end, :], self._rooms[1][..., :end, :]
        return self._seen


def _roomy(states: torch.Tensor, tokens: int) -> torch.Tensor:
    room = states.new_empty((*states.shape[:-2], tokens, states.shape[-1]))
    room[..., : states.shape[-2], :] = states
    return room


def with_room(cache: Any) -> Any:
    """Return a cache of transformers whose plain layers have room; what is not plain stays as it is."""
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            own = RoomyLayer()  # type: ignore[no-untyped-call]  # as above
            own.__dict__.update(layer.__dict__)
            cache.layers[place] = own
    return cache
