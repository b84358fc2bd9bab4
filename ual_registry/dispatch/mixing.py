"""Adapters on a model row by row: every row of a batch has its own, or none, in one forward pass.

Hooks stay on the modules and do nothing until a thread runs the model with a mix; they see the mix of their own thread
alone, so that threads never meet each other's adapters. No weight is changed. The factors of all adapters of a batch
stand side by side in one pair of matrices, and what an adapter says about another one's row is set to zero between
the two: as many operations as for one adapter, whatever their number.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ual_registry.dispatch.few_rows import few_rows, linear_modules
from ual_registry.errors import RouteError, TransferError
from ual_registry.models.attach import ModuleUpdate
from ual_registry.models.dense_head import dense_head

__all__ = ["AdapterMix", "MixingModel", "Updates", "mix_updates"]

Updates = Mapping[str, ModuleUpdate]
"""What one adapter adds, by the path of the module."""


@dataclass(frozen=True, slots=True)
class _MixedUpdate:
    """What is added to one module.

    Attributes:
        update: The factors of all adapters side by side, without a bias.
        mask: Shape (rows, 1, ranks): which of the ranks are those of other rows' adapters; ``None`` where all rows have
            the same adapter.
        bias: Shape (rows, 1, out_features), or (out_features,) where all rows have the same adapter; ``None`` where no
            adapter has one.
    """

    update: ModuleUpdate
    mask: torch.Tensor | None
    bias: torch.Tensor | None

    def of(self, module: nn.Module, inputs: torch.Tensor, rows: int, tokens: int, path: str) -> torch.Tensor:
        """Return the update of a module's output, in the form of that output."""
        if self.mask is None:
            found = self.update.of(module, inputs)
            return found if self.bias is None else found + self.bias
        inner = self.update.inner(module, inputs)
        is_flat = inner.ndim == 2 and inner.shape[0] == rows * tokens  # some models lay all tokens in one line
        if is_flat:
            inner = inner.reshape(rows, tokens, -1)
        elif inner.ndim != 3 or not (inner.shape[0] == rows or inner.shape[:2] == (1, tokens)):
            raise TransferError(
                f"{path}: its input of shape {tuple(inputs.shape)} does not tell the {rows} rows of a batch apart",
                code="not-attachable",
                context={"module": path},
                hint="run one adapter at a time",
            )
        found = self.update.outer(module, inner.masked_fill(self.mask, 0.0))
        found = found if self.bias is None else found + self.bias
        return found.flatten(0, 1) if is_flat else found

    def of_rows(self, index: torch.Tensor) -> _MixedUpdate:
        """Return the update of some rows."""
        if self.mask is None:
            return self
        return _MixedUpdate(self.update, self.mask[index], None if self.bias is None else self.bias[index])


@dataclass(frozen=True, slots=True)
class AdapterMix:
    """Which adapter every row of a batch has, ready to be run.

    Attributes:
        rows: Number of rows.
        modules: What is added, by the path of the module.
    """

    rows: int
    modules: Mapping[str, _MixedUpdate]

    def of_rows(self, index: torch.Tensor) -> AdapterMix:
        """Return the mix of some rows; ``index`` has the shape (rows,)."""
        return AdapterMix(len(index), {path: own.of_rows(index) for path, own in self.modules.items()})


def mix_updates(rows: Sequence[Updates | None]) -> AdapterMix:
    """Lay the adapters of a batch side by side.

    Args:
        rows: The adapter of every row; ``None`` for the base model as it is. One adapter is one object.
    """
    adapters = list({id(own): own for own in rows if own is not None}.values())
    places = [next((place for place, own in enumerate(adapters) if own is row), -1) for row in rows]
    paths = dict.fromkeys(path for own in adapters for path in own)
    return AdapterMix(len(rows), {path: _mixed(path, adapters, places) for path in paths})


def _mixed(path: str, adapters: Sequence[Updates], places: Sequence[int]) -> _MixedUpdate:
    if len(adapters) == 1 and -1 not in places:
        own = adapters[0][path]
        return _MixedUpdate(ModuleUpdate(own.lora_A, own.lora_B, None), None, own.bias)
    held = [(place, own[path]) for place, own in enumerate(adapters) if path in own]
    first = held[0][1]
    device = first.lora_A.device
    owners = torch.tensor([place for place, own in held for _ in range(own.lora_A.shape[0])], device=device)
    mask = torch.tensor(places, device=device)[:, None, None] != owners
    bias = None
    if any(own.bias is not None for _, own in held):
        given = {place: own.bias for place, own in held}
        none = torch.zeros(first.lora_B.shape[0], dtype=first.lora_B.dtype, device=device)
        found = [given.get(place) for place in places]
        bias = torch.stack([none if own is None else own for own in found])[:, None, :]
    if len(held) == 1:
        return _MixedUpdate(ModuleUpdate(first.lora_A, first.lora_B, None), mask, bias)
    lora_A = torch.cat([own.lora_A for _, own in held])
    lora_B = torch.cat([own.lora_B for _, own in held], dim=1)
    return _MixedUpdate(ModuleUpdate(lora_A, lora_B, None), mask, bias)


_TURNS: weakref.WeakKeyDictionary[nn.Module, threading.Lock] = weakref.WeakKeyDictionary()
_TURNS_TURN = threading.Lock()


def _turn_of(model: nn.Module) -> threading.Lock:
    """Return the lock of a model: whoever runs it takes turns, through whatever object."""
    with _TURNS_TURN:
        return _TURNS.setdefault(model, threading.Lock())


class MixingModel:
    """A model that runs batches of mixed adapters; threads may share it, and several may share one model.

    Args:
        model: A causal model of transformers, in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._own = threading.local()
        self._turn = _turn_of(model)
        self._hooks: dict[str, Any] = {}
        self._linear = linear_modules(model)
        self._is_closed = False

    @contextlib.contextmanager
    def running(self, mix: AdapterMix, tokens: int) -> Iterator[None]:
        """Run the model with a mix, one thread at a time: some models keep things between a pass's parts.

        Args:
            mix: Which adapter every row has.
            tokens: Tokens that every row of this forward pass has.

        Raises:
            RouteError: It was closed.
        """
        with self._turn:
            if self._is_closed:
                raise RouteError(
                    "the dispatcher was closed",
                    code="closed",
                    hint="make another one, or close it when all is answered",
                )
            for path in mix.modules.keys() - self._hooks.keys():
                self._hooks[path] = self.model.get_submodule(path).register_forward_hook(self._hook(path))
            self._own.mix, self._own.tokens, self._own.used = mix, tokens, set()
            try:
                with dense_head(self.model), few_rows(self._linear, mix.rows * tokens):
                    yield
            finally:
                self._own.mix = None

    def used(self) -> frozenset[str]:
        """Return the modules with an adapter that this thread's last forward pass ran."""
        return frozenset(getattr(self._own, "used", ()))

    def close(self) -> None:
        """Take the hooks off, once the pass that runs now is over; what is being generated ends with an error."""
        with self._turn:
            self._is_closed = True
            for hook in self._hooks.values():
                hook.remove()
            self._hooks.clear()

    def _hook(self, path: str) -> Any:
        own = self._own

        def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            mix: AdapterMix | None = getattr(own, "mix", None)
            if mix is None or path not in mix.modules:
                return None
            own.used.add(path)
            update = mix.modules[path].of(module, inputs[0], mix.rows, own.tokens, path)
            return (output + update).to(output.dtype)

        return add
