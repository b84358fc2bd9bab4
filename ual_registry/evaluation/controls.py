"""Control adapters: what must not help if the adapter under test carries anything.

Every function returns a new adapter with the same entries; the one given stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor
from ual_registry.errors import TransferError
from ual_registry.projection.factors import Factors, norm
from ual_registry.tensors import entry_factors, from_torch

__all__ = ["layer_shuffled", "random_same_norm", "refuse_without_effect", "scaled", "sign_flipped"]


def scaled(adapter: Adapter, gamma: float) -> Adapter:
    """Return the adapter with its whole update, biases included, times ``gamma``; no tensor is touched."""
    entries = tuple(replace(entry, scaling=entry.scaling * gamma) for entry in adapter.entries)
    return _with(adapter, entries, adapter.tensors)


def sign_flipped(adapter: Adapter) -> Adapter:
    """Return the adapter with its update turned round: where both help or both hurt alike, it has no direction."""
    return scaled(adapter, -1.0)


def random_same_norm(adapter: Adapter, seed: int) -> Adapter:
    """Return Gaussian factors of the same shapes, each entry's update of the norm that it has in the adapter.

    Entries that share ``lora_A`` share a random one too. Biases of ``lora_B`` stay out: they have no low-rank update.

    Raises:
        NumericalError: A factor holds a NaN or an infinity.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    wide: dict[str, torch.Tensor] = {}
    entries = []
    for entry in adapter.entries:
        if entry.lora_A not in wide:
            wide[entry.lora_A] = _gaussian((entry.rank, entry.in_features), generator)
            tensors[entry.lora_A] = from_torch(wide[entry.lora_A], "F32")
        tall = _gaussian((entry.out_features, entry.rank), generator)
        drawn = norm(Factors(wide[entry.lora_A], tall))
        wanted = norm(entry_factors(adapter, entry))
        tensors[entry.lora_B] = from_torch(tall * (wanted / drawn), "F32")
        entries.append(replace(entry, scaling=1.0, bias=None))
    return _with(adapter, tuple(entries), tensors)


def layer_shuffled(adapter: Adapter, seed: int) -> Adapter:
    """Return the adapter with its layers moved: every layer gets the factors of another one with the same entries.

    Layers whose entries (roles, shapes) no other layer has keep their own.
    """
    by_layer: dict[tuple[str | None, int], list[Entry]] = {}
    for entry in adapter.entries:
        if entry.layer is not None:
            by_layer.setdefault((entry.stack, entry.layer), []).append(entry)
    groups: dict[tuple[object, ...], list[tuple[str | None, int]]] = {}
    for key, own in by_layer.items():
        groups.setdefault((key[0], *(_form(entry) for entry in own)), []).append(key)
    source: dict[tuple[str | None, int], tuple[str | None, int]] = {}
    for keys in groups.values():
        shift = 1 + seed % (len(keys) - 1) if len(keys) > 1 else 0
        source.update({key: keys[(index + shift) % len(keys)] for index, key in enumerate(keys)})
    return _with(adapter, tuple(_moved(entry, by_layer, source) for entry in adapter.entries), adapter.tensors)


def _moved(
    entry: Entry,
    by_layer: Mapping[tuple[str | None, int], Sequence[Entry]],
    source: Mapping[tuple[str | None, int], tuple[str | None, int]],
) -> Entry:
    """Return an entry in its place with the factors of its counterpart in another layer."""
    if entry.layer is None:
        return entry
    key = (entry.stack, entry.layer)
    other = by_layer[source[key]][list(by_layer[key]).index(entry)]
    return replace(other, stack=entry.stack, layer=entry.layer, role=entry.role, source=entry.source, slice=entry.slice)


def _form(entry: Entry) -> tuple[object, ...]:
    return entry.role, entry.expert, entry.in_features, entry.out_features, entry.rank, entry.bias is None


def refuse_without_effect(adapter: Adapter) -> None:
    """Refuse an adapter whose update is zero everywhere: measuring it would measure the base.

    Raises:
        TransferError: It is one.
        NumericalError: A factor holds a NaN or an infinity.
    """
    if any(entry.bias is not None or norm(entry_factors(adapter, entry)) > 0 for entry in adapter.entries):
        return
    name = adapter.manifest.name
    raise TransferError(
        f"the adapter{f' {name!r}' if name else ''} has no effect: lora_B @ lora_A is 0 in every entry",
        code="no-effect",
        hint="it was never trained, or the transfer lost everything",
    )


def _gaussian(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _with(adapter: Adapter, entries: tuple[Entry, ...], tensors: Mapping[str, Tensor]) -> Adapter:
    return Adapter(replace(adapter.manifest, entries=entries), tensors)
