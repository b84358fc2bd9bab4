"""A device that is not there: tensors that say they are elsewhere than on the CPU, and compute as the CPU does.

As on a GPU, an operation on tensors of two devices is refused, and so is a look at the memory of one. The numbers are
those of the CPU, so that what is computed there can be compared. The device is called ``meta``, the one name of another
device that every build of PyTorch has.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["NAME", "moved", "other_device", "tiny_llama"]

NAME = "meta"

_aten: Any = torch.ops.aten
_ITEMS = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_BETWEEN = {_aten._to_copy.default, _aten.copy_.default}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}


class _Elsewhere(torch.Tensor):
    """A tensor on the other device."""

    _own: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, own: torch.Tensor) -> _Elsewhere:
        made: _Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls, own.shape, own.stride(), own.storage_offset(), dtype=own.dtype, device=NAME
        )
        made._own = own
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self._own.data_ptr()

    def tolist(self) -> Any:
        return self.detach().to("cpu").tolist()


class _Mode(TorchDispatchMode):
    """Lets tensors be made on the other device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """Takes numbers there by way of the CPU: PyTorch would make a tensor of no numbers at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is torch.tensor and str(named.get("device")) == NAME:
            return func(*args, **{**named, "device": "cpu"}).to(NAME)
        if func in _ITEMS and isinstance(args[1], tuple):
            index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in args[1])
            return func(args[0], index, *args[2:])
        return func(*args, **named)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU. This is called for every operation, so nothing is walked through twice."""
    tensors: list[torch.Tensor] = []
    own_args, own_kwargs = _inner(args, tensors), {name: _inner(item, tensors) for name, item in kwargs.items()}
    is_elsewhere = any(isinstance(item, _Elsewhere) for item in tensors)
    if is_elsewhere:
        _refuse_mixture(func, args, tensors)
    named = kwargs.get("device")
    is_wanted = is_elsewhere if named is None else torch.device(named).type == NAME
    if named is not None:
        own_kwargs["device"] = torch.device("cpu")
    made = func(*own_args, **own_kwargs)
    if not is_wanted:
        return made
    if func is _aten.copy_.default and not isinstance(args[0], _Elsewhere):
        return args[0]
    made = _outer(made)
    return return_and_correct_aliasing(func, args, kwargs, made) if is_elsewhere and _has_alias(func) else made


def _inner(item: Any, tensors: list[torch.Tensor]) -> Any:
    """Return what to compute with, and note the tensors."""
    if isinstance(item, torch.Tensor):
        tensors.append(item)
        return item._own if isinstance(item, _Elsewhere) else item
    return type(item)([_inner(part, tensors) for part in item]) if type(item) in (list, tuple) else item


def _outer(made: Any) -> Any:
    if isinstance(made, torch.Tensor):
        return _Elsewhere(made)
    return type(made)([_outer(part) for part in made]) if type(made) in (list, tuple) else made


@functools.cache
def _has_alias(func: Any) -> bool:
    """Return whether an operation gives a view, or what it was given."""
    return any(item.alias_info is not None for item in func._schema.returns)


def _refuse_mixture(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    if func in _INDEXED and isinstance(args[0], _Elsewhere):
        indices = {id(item) for item in args[1]}  # they may be on the CPU
        tensors = [item for item in tensors if id(item) not in indices]
    if func not in _BETWEEN and any(not isinstance(item, _Elsewhere) and item.ndim for item in tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")


@contextlib.contextmanager
def other_device() -> Iterator[None]:
    """Let there be a device ``NAME`` that computes."""
    # Tensors of inference have no views that can be kept track of, so gradients alone are turned off.
    without_gradients = mock.patch.object(torch._C, "_InferenceMode", side_effect=lambda _: torch.no_grad())
    with without_gradients, _Numbers(), _Mode():
        yield


def moved(model: torch.nn.Module) -> None:
    """Put a model there, tensors that it shares once."""
    found: dict[torch.Tensor, Any] = {}
    for module in model.modules():
        for name, own in module._parameters.items():
            if own is not None:
                made = torch.nn.Parameter(_Elsewhere(own.data), requires_grad=own.requires_grad)
                module._parameters[name] = found.setdefault(own, made)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = found.setdefault(buffer, _Elsewhere(buffer))


def tiny_llama() -> Any:
    """Make a model of 40 tokens with random weights, always the same ones, on the CPU."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()
