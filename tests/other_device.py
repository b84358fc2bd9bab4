"""A device that is not there: tensors that say they are elsewhere than on the CPU, and compute as the CPU does.

As on a GPU, an operation on tensors of two devices is refused, and so is a look at the memory of one. The numbers are
those of the CPU, so that what is computed there can be compared. The device is called ``meta``, the one name of another
device that every build of PyTorch has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["NAME", "moved", "other_device"]

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
        named = dict(kwargs or {})
        if func is torch.tensor and str(named.get("device")) == NAME:
            return func(*args, **{**named, "device": "cpu"}).to(NAME)
        if func in _ITEMS and isinstance(args[1], tuple):
            index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in args[1])
            return func(args[0], index, *args[2:])
        return func(*args, **named)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
    is_elsewhere = any(isinstance(item, _Elsewhere) for item in tensors)
    _refuse_mixture(func, args, tensors)
    named = kwargs.get("device")
    device = None if named is None else torch.device(named)
    own = {**kwargs, "device": torch.device("cpu")} if device is not None else kwargs
    made = func(*tree_map(_inner, args), **tree_map(_inner, own))
    if not (is_elsewhere if device is None else device.type == NAME):
        return made
    if func is _aten.copy_.default and not isinstance(args[0], _Elsewhere):
        return args[0]
    made = tree_map(lambda item: _Elsewhere(item) if isinstance(item, torch.Tensor) else item, made)
    return return_and_correct_aliasing(func, args, kwargs, made) if is_elsewhere else made


def _inner(item: Any) -> Any:
    return item._own if isinstance(item, _Elsewhere) else item


def _refuse_mixture(func: Any, args: Any, tensors: list[torch.Tensor]) -> None:
    if func in _INDEXED and isinstance(args[0], _Elsewhere):
        indices = {id(item) for item in args[1]}  # they may be on the CPU
        tensors = [item for item in tensors if id(item) not in indices]
    here = [item for item in tensors if not isinstance(item, _Elsewhere) and item.ndim]
    if func not in _BETWEEN and here and any(isinstance(item, _Elsewhere) for item in tensors):
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
