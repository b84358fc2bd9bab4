r"""One exact normal form: plain LoRA with one rank and one alpha, which every engine reads alike.

For each module ``lora_B <- lora_B * s / s*``, where ``s`` is its scaling and ``s*`` the one that the new alpha and rank
give. Then nothing that an engine may drop is left: no rsLoRA, no patterns, no scaling of its own for any module.
Numbers that need not change keep their bits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry
from ual_registry.air.tensor import Tensor
from ual_registry.engines.plain import base_copies, require_plain
from ual_registry.tensors import from_torch, to_torch

__all__ = ["NormalForm", "normal_form"]

_HALF = ("F16", "BF16")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalForm:
    """An adapter in normal form.

    Attributes:
        adapter: The adapter; the scaling of every entry is ``alpha`` divided by its rank.
        rank: The highest rank, and the only one where ranks were padded.
        alpha: The only alpha, a whole number.
        left_out: Names of tensors that are copies of the base model's own and were left out.
    """

    adapter: Adapter
    rank: int
    alpha: int
    left_out: tuple[str, ...]


def normal_form(adapter: Adapter, *, target: str, is_padded: bool = True) -> NormalForm:
    """Bring an adapter into normal form.

    Args:
        adapter: The adapter; it is left as it is.
        target: What the form is wanted for, as a noun phrase, to say so in a refusal.
        is_padded: Whether every module gets the same rank, by rows and columns of zeros.

    Raises:
        ForeignFormatError: The adapter is more than plain LoRA.
        NumericalError: A number leaves the range of its dtype.
    """
    require_plain(adapter.manifest, target=target)
    rank = max(entry.rank for entry in adapter.entries)
    alpha = _alpha(adapter.entries, rank if is_padded else None)
    tensors: dict[str, Tensor] = {}
    entries = []
    for wide in _by_source(adapter.entries):
        own_rank = rank if is_padded else wide[0].rank
        ratio = wide[0].scaling / (alpha / own_rank)
        tensors |= _factors(adapter, wide, ratio, own_rank)
        entries += [replace(entry, rank=own_rank, scaling=alpha / own_rank) for entry in wide]
    manifest = replace(
        adapter.manifest,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        method=replace(adapter.manifest.method, rank=rank, alpha=float(alpha), scaling_rule="alpha/rank", bias="none"),
        extra=(),
        origin=None,
        features=(),
    )
    return NormalForm(
        adapter=Adapter(manifest, tensors), rank=rank, alpha=alpha, left_out=base_copies(adapter.manifest)
    )


def _alpha(entries: tuple[Entry, ...], rank: int | None) -> int:
    """Return the alpha that leaves most entries as they are, or the rank where that is no whole number."""
    alphas = Counter(entry.scaling * (rank or entry.rank) for entry in entries)
    usual = min(alphas, key=lambda alpha: (-alphas[alpha], alpha))
    highest = rank or max(entry.rank for entry in entries)
    return int(usual) if usual.is_integer() and usual > 0 else highest


def _by_source(entries: tuple[Entry, ...]) -> list[list[Entry]]:
    """Group the entries of each module with the same scaling, whose factors must keep one dtype."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.source or entry.label, entry.rank, entry.scaling), []).append(entry)
    return list(found.values())


def _factors(adapter: Adapter, entries: list[Entry], ratio: float, rank: int) -> dict[str, Tensor]:
    """Return the factors of one module by name, scaled and padded."""
    names_b = list(dict.fromkeys(entry.lora_B for entry in entries))
    scaled = [adapter.tensors[name] for name in names_b]
    if ratio != 1.0:
        scaled = _scaled(scaled, ratio)
    pad = rank - entries[0].rank
    found = {name: _padded(tensor, pad, axis=1) for name, tensor in zip(names_b, scaled, strict=True)}
    for name in dict.fromkeys(entry.lora_A for entry in entries):
        found[name] = _padded(adapter.tensors[name], pad, axis=0)
    return found


def _scaled(tensors: list[Tensor], ratio: float) -> list[Tensor]:
    """Multiply tensors of one dtype; they become float32 where a half-precision one would be rounded."""
    products = [to_torch(tensor).double() * ratio for tensor in tensors]
    dtype = tensors[0].dtype
    if dtype in _HALF and any(_is_rounded(product, tensors[0]) for product in products):
        dtype = "F32"
    return [from_torch(product, dtype) for product in products]


def _is_rounded(product: torch.Tensor, like: Tensor) -> bool:
    half = torch.float16 if like.dtype == "F16" else torch.bfloat16
    return not torch.equal(product.to(half).double(), product)


def _padded(tensor: Tensor, pad: int, *, axis: int) -> Tensor:
    """Put ``pad`` rows or columns of zeros behind a matrix."""
    if pad == 0:
        return tensor
    matrix = to_torch(tensor)
    more = (0, 0, 0, pad) if axis == 0 else (0, pad)
    return from_torch(torch.nn.functional.pad(matrix, more), tensor.dtype)
