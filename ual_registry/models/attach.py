"""An AIR adapter on a loaded model: low-rank forward hooks, exact, nestable and removable; no weight is changed.

It decides how factors meet modules. What is measured with them is left to others. A hook adds ``B (A x)`` to what its
module returns, as an unmerged PEFT layer does (``peft/tuners/lora/layer.py``, ``Linear.forward``); factors are held in
the module's dtype, or in float32 where that is a half-precision one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, Extra, RowSlice
from ual_registry.air.tensor import FLOAT_DTYPES
from ual_registry.errors import BaseMismatchError, TransferError, UnresolvedModuleError
from ual_registry.tensors import entry_factors, to_torch

__all__ = ["Attachment", "ModuleUpdate", "attach", "module_updates"]

_HALF = (torch.float16, torch.bfloat16)
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Attachment:
    """An adapter that is on a model.

    Attributes:
        modules: Paths of the modules that carry factors, in the order of the entries.
        used: Paths of those that were run since.
    """

    modules: tuple[str, ...]
    used: set[str] = field(default_factory=set)

    def unused(self) -> tuple[str, ...]:
        """Return the modules that no forward pass has run; what their factors do was not seen."""
        return tuple(path for path in self.modules if path not in self.used)


@dataclass(frozen=True, slots=True)
class ModuleUpdate:
    """What is added to one module.

    Attributes:
        lora_A: Shape (rank, in_features).
        lora_B: Shape (out_features, rank), scaling folded in.
        bias: Shape (out_features,), scaling folded in; ``None`` where there is none.
    """

    lora_A: torch.Tensor
    lora_B: torch.Tensor
    bias: torch.Tensor | None

    def of(self, module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return the update of a module's output for its input."""
        return self.outer(module, self.inner(module, inputs))

    def inner(self, module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return what ``lora_A`` makes of a module's input, one number for every rank."""
        if isinstance(module, nn.Embedding):
            return functional.embedding(inputs, self.lora_A.T)
        return functional.linear(inputs.to(self.lora_A.dtype), self.lora_A)

    def outer(self, module: nn.Module, inner: torch.Tensor) -> torch.Tensor:
        """Return the update of a module's output for what ``lora_A`` made of its input."""
        found = functional.linear(inner, self.lora_B, self.bias)
        # Gemma scales what it looks up, factors included.
        scale = getattr(module, "embed_scale", None) if isinstance(module, nn.Embedding) else None
        return found if scale is None else found * scale.to(found.dtype)


@contextlib.contextmanager
def attach(model: nn.Module, adapter: Adapter) -> Iterator[Attachment]:
    """Let a model compute with an adapter; on leaving it is as before.

    Several adapters may be attached at once, in any order: their updates add up.

    Args:
        model: A transformers model, whose module paths are those of the adapter's entries.
        adapter: An adapter for it; its tensors are copied to each module's device.

    Yields:
        Which modules carry factors, and which of them were run.

    Raises:
        UnresolvedModuleError: The model has no such module, or an entry does not name one.
        BaseMismatchError: A module is of another shape or kind.
        TransferError: The adapter holds what hooks cannot add: experts, DoRA magnitudes, tensors without a role.
        NumericalError: A factor holds a NaN or an infinity.
    """
    updates = [(path, model.get_submodule(path), update) for path, update in module_updates(model, adapter).items()]
    attachment = Attachment(tuple(path for path, _, _ in updates))
    with contextlib.ExitStack() as handles:
        for path, module, update in updates:
            handles.callback(_hook(module, path, update, attachment.used).remove)
        yield attachment


def module_updates(model: Any, adapter: Adapter) -> dict[str, ModuleUpdate]:
    """Return what an adapter adds to every module that it names, by path, in the order of the entries.

    Args:
        model: A transformers model, whose module paths are those of the adapter's entries.
        adapter: An adapter for it; its tensors are copied to each module's device.

    Raises:
        UALError: As ``attach``.
    """
    _refuse_unsupported(model, adapter)
    return {
        path: _update(adapter, entries, path, _module(model, path, entries[0]))
        for path, entries in _by_module(adapter).items()
    }


def _hook(module: nn.Module, path: str, update: ModuleUpdate, used: set[str]) -> Any:
    def add(owner: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        used.add(path)
        return (output + update.of(owner, inputs[0])).to(output.dtype)

    return module.register_forward_hook(add)


def _refuse_unsupported(model: nn.Module, adapter: Adapter) -> None:
    changed = [extra.name for extra in adapter.manifest.extra if not _is_of_base(model, adapter, extra)]
    if changed:
        raise TransferError(
            f"cannot attach: tensors without a role ({', '.join(changed[:3])}) would be left out",
            code="not-attachable",
            hint="run the adapter with PEFT: 'ual convert FILE.air FOLDER'",
        )
    for entry in adapter.entries:
        if entry.expert is not None:
            raise _not_attachable(entry, "experts of one parameter have no module of their own")
        if entry.magnitude is not None:
            raise _not_attachable(entry, "a DoRA magnitude needs the base model's weights")


def _is_of_base(model: nn.Module, adapter: Adapter, extra: Extra) -> bool:
    """Tell whether a tensor without a role is a copy of the model's own, which PEFT stores beside embeddings."""
    name = extra.name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", ".")
    own, tensor = model.state_dict(keep_vars=True).get(name), adapter.tensors[extra.tensor]
    if own is None or tensor.dtype not in FLOAT_DTYPES or tuple(own.shape) != tensor.shape:
        return False
    return torch.equal(own.detach().cpu(), to_torch(tensor).to(own.dtype))


def _not_attachable(entry: Entry, reason: str) -> TransferError:
    return TransferError(
        f"cannot attach {entry.label}: {reason}",
        code="not-attachable",
        context={"entry": entry.label},
        hint="run the adapter with PEFT: 'ual convert FILE.air FOLDER'",
    )


def _by_module(adapter: Adapter) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in adapter.entries:
        if entry.source is None:
            raise UnresolvedModuleError(
                f"{entry.label}: does not say which module of the base model it belongs to",
                context={"entry": entry.label},
                hint="make the AIR file again with --base, or transfer it to this base model",
            )
        found.setdefault(entry.source, []).append(entry)
    return found


def _module(model: nn.Module, path: str, entry: Entry) -> nn.Module:
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise UnresolvedModuleError(
            f"{entry.label}: {type(model).__name__} has no module {path}",
            context={"entry": entry.label, "module": path},
            hint="give the base model that the adapter was made for",
        ) from error
    if not isinstance(module, (nn.Linear, Conv1D, nn.Embedding)):
        raise BaseMismatchError(
            f"{path}: is a {type(module).__name__}, expected a linear module or an embedding",
            context={"module": path},
        )
    return module


def _shape(module: nn.Module) -> tuple[int, int]:
    """Return (out_features, in_features); an embedding reads its vocabulary."""
    rows, columns = (int(size) for size in module.weight.shape)  # type: ignore[union-attr]
    return (columns, rows) if isinstance(module, (Conv1D, nn.Embedding)) else (rows, columns)


def _update(adapter: Adapter, entries: Sequence[Entry], path: str, module: nn.Module) -> ModuleUpdate:
    """Put the entries of one module together: factors side by side, each in its own rows."""
    out_features, in_features = _shape(module)
    for entry in entries:
        _check_fit(entry, path, out_features, in_features)
    lora_A, lora_B, biases = [], [], []
    for shared in _sharing(entries):
        tall = torch.zeros(out_features, shared[0].rank, dtype=torch.float64)
        for entry in shared:
            factors = entry_factors(adapter, entry)
            rows = _rows(entry)
            tall[rows] = factors.lora_B
            if entry.bias is not None:
                biases.append((rows, to_torch(adapter.tensors[entry.bias]).double() * entry.scaling))
        lora_A.append(factors.lora_A)
        lora_B.append(tall)
    return _placed(torch.cat(lora_A), torch.cat(lora_B, dim=1), _bias(biases, out_features), module)


def _sharing(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Group the roles of a fused module that read through one ``lora_A``."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.lora_A, []).append(entry)
    return list(found.values())


def _rows(entry: Entry) -> torch.Tensor:
    rows = entry.slice or RowSlice.whole(entry.out_features)
    return torch.cat([torch.arange(start, start + count) for start, count in rows.runs()])


def _bias(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], out_features: int) -> torch.Tensor | None:
    if not parts:
        return None
    bias = torch.zeros(out_features, dtype=torch.float64)
    for rows, own in parts:
        bias[rows] = own
    return bias


def _placed(lora_A: torch.Tensor, lora_B: torch.Tensor, bias: torch.Tensor | None, module: nn.Module) -> ModuleUpdate:
    weight: torch.Tensor = module.weight  # type: ignore[assignment]  # every kind that is let in has one
    dtype = torch.float32 if weight.dtype in _HALF else weight.dtype
    moved = [None if part is None else part.to(weight.device, dtype) for part in (lora_A, lora_B, bias)]
    assert moved[0] is not None  # only a bias can be absent
    assert moved[1] is not None
    return ModuleUpdate(moved[0], moved[1], moved[2])


def _check_fit(entry: Entry, path: str, out_features: int, in_features: int) -> None:
    rows = entry.slice or RowSlice.whole(entry.out_features)
    end = rows.offset + (rows.count - 1) * rows.stride + rows.block
    is_whole = entry.slice is not None or entry.out_features == out_features
    if entry.in_features != in_features or end > out_features or not is_whole:
        raise BaseMismatchError(
            f"{entry.label}: updates ({entry.out_features}, {entry.in_features}), "
            f"but {path} has the shape ({out_features}, {in_features})",
            context={"entry": entry.label, "module": path},
            hint="give the base model that the adapter was made for",
        )
