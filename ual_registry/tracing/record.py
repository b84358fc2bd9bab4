"""Run a model once and record what it computes, as a graph of operations.

Every recorded operation is *cut*: its result goes on as a new leaf of autograd. So each input of a later operation
depends on exactly those operations whose results reach it without passing another recorded one, and the gradient with
respect to a leaf tells which of its rows do. Reshapes, transpositions, slices, additions, masks and rotations need no
rules of their own: autograd knows them all.

This module decides what is recorded. What it means is decided in ``roles``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ual_registry.tracing.normalise import behaviour
from ual_registry.tracing.parameters import ParameterPlace, Parameters
from ual_registry.tracing.refusal import refusal

__all__ = ["Operation", "Recording", "record"]

_MATMULS = frozenset({"matmul", "__matmul__", "bmm", "mm", "baddbmm", "einsum", "addmm", "linear"})
_ACTIVATIONS = frozenset(
    {"silu", "gelu", "relu", "tanh", "sigmoid", "relu6", "leaky_relu", "softplus", "hardtanh", "elu", "mish", "erf"}
    | {"logsigmoid", "hardswish", "selu", "celu", "hardsigmoid", "softsign", "glu"}
)
_ELEMENTWISE = {
    "softmax": "softmax",
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "multiply"), "product"),
    **dict.fromkeys(_ACTIVATIONS, "activation"),
}
_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})

_MOST_OPERATIONS = 1500
"""What can be read in a few seconds."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Operation:
    """One recorded operation.

    Attributes:
        number: Its place in the order of the run.
        kind: ``linear``, ``matmul``, ``attention``, ``softmax``, ``activation``, ``product``, ``norm``, ``embedding``
            or ``convolution``.
        name: The function's name; for a norm ``layer`` or ``rms``.
        scope: Path of the module that was running.
        inputs: The tensors that it read, parameters aside.
        leaf: Its result, cut off: a leaf of autograd.
        place: The parameter that it multiplied with or looked up in, where there is one.
        equation: The equation of an ``einsum``.
        axis: The axis of the result along which its features stand.
    """

    number: int
    kind: str
    name: str
    scope: str
    inputs: tuple[Tensor, ...]
    leaf: Tensor
    place: ParameterPlace | None = None
    equation: str | None = None
    axis: int = -1

    @property
    def features(self) -> int:
        """Return how many features its result has."""
        return self.leaf.shape[self.axis]

    @property
    def path(self) -> str:
        """Return the path of the module whose parameter it used; the running module where there is none."""
        return self.place.module if self.place else self.scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What one forward pass did.

    Attributes:
        operations: In the order of the run.
        results: The floating-point tensors that the model returned.
    """

    operations: tuple[Operation, ...]
    results: tuple[Tensor, ...]
    _by_leaf: dict[int, Operation] = field(default_factory=dict)
    _sources: dict[int, frozenset[Operation]] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def sources(self, tensor: Tensor) -> frozenset[Operation]:
        """Return the operations whose results reach ``tensor`` without passing another one."""
        root = tensor.grad_fn
        if root is None:
            own = self._by_leaf.get(id(tensor))
            return frozenset() if own is None else frozenset({own})
        if id(root) not in self._sources:
            self._sources[id(root)] = frozenset(self._walk(root))
            self._kept.append(root)  # an id is only good while its object lives
        return self._sources[id(root)]

    def _walk(self, root: Any) -> Iterator[Operation]:
        seen, waiting = set(), [root]
        while waiting:
            function = waiting.pop()
            if function in seen:
                continue
            seen.add(function)
            operation = self._by_leaf.get(id(getattr(function, "variable", None)))
            if operation is not None:
                yield operation
            waiting.extend(before for before, _ in function.next_functions if before is not None)

    def rows(self, tensor: Tensor, operation: Operation, *, where: Tensor | None = None) -> tuple[int, ...]:
        """Return the features of ``operation``'s result that change ``tensor``.

        Args:
            tensor: What may depend on it.
            operation: Its result has features along its ``axis``.
            where: Look only at these elements: a mask of ``tensor``'s shape.
        """
        if tensor is operation.leaf:
            return tuple(range(operation.features))
        if not tensor.requires_grad:
            return ()
        generator = torch.Generator().manual_seed(1)
        weights = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5
        if where is not None:
            weights = weights * where
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            tensor, operation.leaf, weights, retain_graph=True, allow_unused=True
        )
        found = gradients[0]
        if found is None:
            return ()
        changed = (found != 0).movedim(operation.axis, 0).flatten(1).any(dim=1)
        return tuple(changed.nonzero().flatten().tolist())


def record(model: nn.Module, inputs: Mapping[str, Any]) -> Recording:
    """Run ``model`` once on ``inputs`` and return what it did.

    Args:
        model: A tiny model in evaluation mode; its parameters stop requiring gradients.
        inputs: Keyword arguments of its ``forward``.
    """
    model.requires_grad_(requires_grad=False)
    recorder = _Recorder(model)
    with recorder.watching(), torch.enable_grad(), recorder:
        output = model(**inputs)
    results = tuple(tensor for tensor in _tensors(output) if tensor.is_floating_point())
    operations = tuple(recorder.operations)
    return Recording(
        operations=operations, results=results, _by_leaf={id(operation.leaf): operation for operation in operations}
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


class _Recorder(TorchFunctionMode):
    """Cuts and writes down the operations that matter; everything else runs as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._model = model
        self._parameters = Parameters(model)
        self._scopes: list[str] = [""]
        self._known: dict[int, tuple[str, str] | None] = {}
        self._silent = 0

    def watching(self) -> _Hooks:
        return _Hooks(self._model, self._enter, self._leave)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if self._silent or not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        self._parameters.running = self._scopes[-1]
        name = getattr(func, "__name__", "")
        tensors = tuple(_tensors([*args, *given.values()]))
        found = self._kind(name, tensors)
        if found is None:
            return result
        equation = args[0] if name == "einsum" and isinstance(args[0], str) else None
        return self._cut(result, name=name, equation=equation, **found)

    def _kind(self, name: str, tensors: tuple[Tensor, ...]) -> dict[str, Any] | None:
        """Return what is to be written down of a call; ``None`` where it does not matter."""
        moving = tuple(tensor for tensor in tensors if tensor.requires_grad)
        if name in _MATMULS:
            return self._matmul(name, tensors)
        if name == "embedding":
            place = self._parameters.table(tensors[1])
            return {"kind": "embedding", "inputs": tensors[:1], "place": place}
        if name in _CONVOLUTIONS:
            place = self._parameters.place(tensors[1])
            return {"kind": "convolution", "inputs": tensors[:1], "place": place, "axis": 1}
        if name == "scaled_dot_product_attention":
            return {"kind": "attention", "inputs": tensors[:3]}
        kind = _ELEMENTWISE.get(name)
        is_kept = len(moving) == 2 if kind == "product" else bool(moving)
        return {"kind": kind, "inputs": moving} if kind is not None and is_kept else None

    def _matmul(self, name: str, tensors: tuple[Tensor, ...]) -> dict[str, Any] | None:
        # baddbmm and addmm add their first tensor to the product of the two that follow.
        factors = tensors[1:3] if name in {"baddbmm", "addmm"} else tensors[:2]
        if len(factors) < 2:
            return None
        for weight, other, axis in ((factors[1], factors[0], -1), (factors[0], factors[1], -2)):
            place = self._parameters.place(weight)
            if place is not None:
                return {"kind": "linear", "inputs": (other,), "place": place, "axis": axis}
        moves = any(tensor.requires_grad for tensor in factors)
        return {"kind": "matmul", "inputs": factors} if moves else None

    def _cut(self, result: Tensor, **seen: Any) -> Tensor:
        if len(self.operations) == _MOST_OPERATIONS:
            raise refusal(f"one run of a tiny model takes more than {_MOST_OPERATIONS} operations")
        leaf = result.detach().requires_grad_()
        self.operations.append(Operation(number=len(self.operations), scope=self._scopes[-1], leaf=leaf, **seen))
        return leaf.clone()  # models may write into what they get; a leaf must stay as it is

    def _enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._scopes.append(path)
        if id(module) not in self._known:
            self._known[id(module)] = None  # not while it is being tried
            self._silent += 1
            self._known[id(module)] = behaviour(module, args)
            self._silent -= 1
        self._silent += self._known[id(module)] is not None

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        known = self._known[id(module)]
        self._silent -= known is not None
        if known is not None and not self._silent and isinstance(output, Tensor) and output.requires_grad:
            output = self._cut(output, kind=known[0], name=known[1], inputs=(args[0],))
        self._scopes.pop()
        return output


class _Hooks:
    """Tells the recorder which module is running."""

    def __init__(self, model: nn.Module, enter: Callable[..., None], leave: Callable[..., Any]) -> None:
        self._model, self._enter, self._leave = model, enter, leave
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for path, module in self._model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._before(path)))
            self._handles.append(module.register_forward_hook(self._leave))

    def _before(self, path: str) -> Callable[..., None]:
        return lambda module, args: self._enter(path, module, args)

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
