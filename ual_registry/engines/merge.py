"""A base model with an adapter merged into its weights: what DoRA and whole trained modules need in most engines.

It decides what each weight becomes, as ``merge_and_unload`` of PEFT does. Weights are read, changed and written one at
a time; what no entry changes is copied byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, RowSlice
from ual_registry.air.tensor import FLOAT_DTYPES, Tensor
from ual_registry.engines.base_weights import BaseWeights
from ual_registry.engines.plain import base_copies
from ual_registry.errors import BaseMismatchError, ForeignFormatError
from ual_registry.tensors import entry_factors, from_torch, to_torch

__all__ = ["Change", "plan_merge"]

_PREFIX = "base_model.model."
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Change:
    """What a stored tensor of the base model becomes.

    Attributes:
        name: Its name in the base model's files.
        of: Makes the new tensor from the old one.
    """

    name: str
    of: Callable[[Tensor], Tensor]


def plan_merge(adapter: Adapter, weights: BaseWeights) -> tuple[Change, ...]:
    """Say what becomes of each stored tensor that an adapter changes; nothing is computed yet.

    Args:
        adapter: The adapter.
        weights: The base model's weights.

    Raises:
        ForeignFormatError: The adapter holds what cannot be merged; all of it is named.
        BaseMismatchError: A module's weight is not in the files, or has another shape.
    """
    _refuse(adapter, has_tied_head=weights.has_tied_head)
    modules: dict[str, list[Entry]] = {}
    for entry in adapter.entries:
        modules.setdefault(entry.source or "", []).append(entry)
    changes = []
    for path, entries in modules.items():
        module = _Module(adapter, path, tuple(entries), is_conv1d=weights.is_conv1d(path))
        changes.append(Change(weights.name_of(f"{path}.weight"), module.weight))
        if any(entry.bias for entry in entries):
            changes.append(Change(weights.name_of(f"{path}.bias"), module.bias))
    return (*changes, *_whole(adapter, weights))


def _whole(adapter: Adapter, weights: BaseWeights) -> Iterator[Change]:
    """Yield the tensors that the adapter holds as a whole: modules to save and biases."""
    copies = base_copies(adapter.manifest)
    for extra in adapter.manifest.extra:
        if extra.name not in copies:
            own = adapter.tensors[extra.tensor]
            path = extra.name.removeprefix(_PREFIX).replace(".base_layer.", ".")
            yield Change(weights.name_of(path), _Replacement(extra.name, own))


def _refuse(adapter: Adapter, *, has_tied_head: bool) -> None:
    found = [
        *(f"{entry.label} (one expert of a parameter)" for entry in adapter.entries if entry.expert is not None),
        *(f"{entry.label} (no module path)" for entry in adapter.entries if entry.source is None),
        *(
            f"{entry.label} (a DoRA magnitude of an embedding)"
            for entry in adapter.entries
            if entry.magnitude and entry.role == "token_embedding"
        ),
        *(
            f"{entry.label} (a head is tied to it, which the adapter leaves as it is)"
            for entry in adapter.entries
            if has_tied_head and entry.role == "token_embedding"
        ),
        *(
            f"{extra.name} (trained tokens)"
            for extra in adapter.manifest.extra
            if extra.name.endswith(".trainable_tokens_delta")
        ),
    ]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ForeignFormatError(
            f"cannot merge: {', '.join(found[:_SHOWN])}{more}",
            code="not-mergeable",
            context={"entries": found},
            hint="PEFT's merge_and_unload may do it, on 'ual convert REF DIR'",
        )


@dataclass(frozen=True, slots=True)
class _Replacement:
    """A tensor in the place of the base model's."""

    name: str
    tensor: Tensor

    def __call__(self, old: Tensor) -> Tensor:
        if self.tensor.shape != old.shape:
            raise _misfit(self.name, self.tensor.shape, old.shape)
        return self.tensor if self.tensor.dtype == old.dtype else from_torch(to_torch(self.tensor), old.dtype)


@dataclass(frozen=True, slots=True)
class _Module:
    """A target module and the entries that change it."""

    adapter: Adapter
    path: str
    entries: tuple[Entry, ...]
    is_conv1d: bool

    def weight(self, old: Tensor) -> Tensor:
        """Return the merged weight, rounded once.

        Source: peft 0.21.2, ``tuners/lora/layer.py``, ``Linear.merge``; for DoRA ``tuners/lora/variants.py``.
        """
        _check_dtype(self.path, old)
        stored = to_torch(old).double()
        is_turned = self.is_conv1d or self.entries[0].role == "token_embedding"
        matrix = stored.T if is_turned else stored
        merged = matrix.clone()
        for entry in self.entries:
            rows = _rows(entry)
            merged[rows] = self._merged_rows(entry, matrix, rows)
        return from_torch(merged.T if is_turned else merged, old.dtype)

    def _merged_rows(self, entry: Entry, matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        end, is_whole = int(rows.max()) + 1, entry.slice is not None or entry.out_features == matrix.shape[0]
        if end > matrix.shape[0] or entry.in_features != matrix.shape[1] or not is_whole:
            raise _misfit(self.path, (entry.out_features, entry.in_features), tuple(matrix.shape))
        factors = entry_factors(self.adapter, entry)
        new = matrix[rows] + factors.lora_B @ factors.lora_A
        if entry.magnitude is None:
            return new
        magnitude = to_torch(self.adapter.tensors[entry.magnitude]).double().reshape(-1, 1)
        lengths: torch.Tensor = torch.linalg.vector_norm(new, dim=1, keepdim=True)
        return new * (magnitude / lengths)

    def bias(self, old: Tensor) -> Tensor:
        """Return the merged bias, rounded once."""
        merged = to_torch(old).double()
        for entry in self.entries:
            if entry.bias is not None:
                merged[_rows(entry)] += to_torch(self.adapter.tensors[entry.bias]).double() * entry.scaling
        return from_torch(merged, old.dtype)


def _rows(entry: Entry) -> torch.Tensor:
    rows = entry.slice or RowSlice.whole(entry.out_features)
    return torch.cat([torch.arange(start, start + count) for start, count in rows.runs()])


def _check_dtype(path: str, tensor: Tensor) -> None:
    if tensor.dtype not in FLOAT_DTYPES:
        raise BaseMismatchError(
            f"{path}: the base model stores it as {tensor.dtype}, expected {', '.join(sorted(FLOAT_DTYPES))}",
            context={"module": path},
            hint="merge into the weights that are not quantised, and quantise the result",
        )


def _misfit(path: str, got: Sequence[int], wanted: Sequence[int]) -> BaseMismatchError:
    return BaseMismatchError(
        f"{path}: the adapter has the shape {tuple(got)}, the base model {tuple(wanted)}",
        context={"module": path},
        hint="give the base model that the adapter was made for",
    )
