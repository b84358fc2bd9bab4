"""LoRA on a target base model while it is trained: put on its modules by PEFT, started, read out, and taken off again.

The modules are those of the target's binder. Factors start fresh (``lora_A`` random, ``lora_B`` zero: no change) or
from an adapter, balanced, so that both factors are of one size and learn alike; directions that the adapter does not
use start fresh as well.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import peft
import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Entry, RowSlice
from ual_registry.air.tensor import Tensor
from ual_registry.binders.bind import Binding
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.distillation.recipe import Recipe
from ual_registry.errors import TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.factors import Factors, balance
from ual_registry.tensors import entry_factors, from_torch

__all__ = ["Trainee", "module_ranks", "start_factors", "trainee"]

_ADAPTER = "default"
_NEGLIGIBLE = 1e-12
"""A direction below this share of the largest singular value holds nothing but rounding."""


@dataclass(frozen=True, slots=True)
class Trainee:
    """A target base model that carries trainable factors.

    Attributes:
        model: The causal model, the factors inside its modules.
        modules: The target modules by their paths, in the binder's order.
        scaling: What multiplies the product of every pair of factors.
    """

    model: Any
    modules: Mapping[str, TargetModule]
    scaling: float

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return every trainable factor by module path and factor."""
        found = {}
        for path in self.modules:
            layer = self.model.get_submodule(path)
            found[f"{path}.lora_A"] = layer.lora_A[_ADAPTER].weight
            found[f"{path}.lora_B"] = layer.lora_B[_ADAPTER].weight
        return found

    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Put back factors that ``parameters`` named."""
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(values[name])

    def start(self, factors: Mapping[str, Factors]) -> None:
        """Start from factors by module path; directions without weight, and modules without factors, stay fresh."""
        with torch.no_grad():
            for path, own in factors.items():
                layer = self.model.get_submodule(path)
                balanced = balance(own, 1 / self.scaling)
                sizes = balanced.lora_A.norm(dim=1)
                used = torch.nonzero(sizes**2 > _NEGLIGIBLE * sizes.max() ** 2).flatten()
                lora_A, lora_B = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
                lora_A[: len(used)] = balanced.lora_A[used].to(lora_A)
                lora_B[:, : len(used)] = balanced.lora_B[:, used].to(lora_B)

    def entries(self) -> tuple[tuple[Entry, ...], dict[str, Tensor]]:
        """Return the factors as entries of an adapter, with their tensors, in float32."""
        entries: list[Entry] = []
        tensors: dict[str, Tensor] = {}
        for path, module in self.modules.items():
            layer = self.model.get_submodule(path)
            lora_A, lora_B = (own[_ADAPTER].weight.detach().cpu() for own in (layer.lora_A, layer.lora_B))
            shared = module.slots[0].tensor_name("lora_A")
            tensors[shared] = from_torch(lora_A, "F32")
            for slot in module.slots:
                name = slot.tensor_name("lora_B")
                tensors[name] = from_torch(lora_B[_rows(slot.all_rows)], "F32")
                rank, scaling = lora_A.shape[0], self.scaling
                entries.append(slot.entry(source=path, lora_A=shared, lora_B=name, rank=rank, scaling=scaling))
        return tuple(sorted(entries, key=lambda entry: entry.key)), tensors


def _rows(rows: RowSlice) -> torch.Tensor:
    return torch.cat([torch.arange(first, first + count) for first, count in rows.runs()])


def start_factors(adapter: Adapter, binding: Binding) -> dict[str, Factors]:
    """Return the update of an adapter for every target module that it has one for, in float64.

    Args:
        adapter: An adapter for the target base model.
        binding: The target's.

    Raises:
        TrainingError: It holds more than plain factors, or an entry has no place in the target.
    """
    if adapter.manifest.extra or any(entry.magnitude or entry.bias for entry in adapter.entries):
        raise _no_start("it holds more than plain factors")
    slots = binding.slots()
    modules: dict[str, list[tuple[Entry, Slot]]] = {}
    for entry in adapter.entries:
        module, slot = slots.get((entry.stack, entry.layer, entry.role, entry.expert), (None, None))
        fits = slot is not None and (slot.in_features, slot.out_features) == (entry.in_features, entry.out_features)
        if module is None or slot is None or module.parameter is not None or not fits:
            raise _no_start(f"{entry.label} has no place in {binding.base.id}")
        modules.setdefault(module.path, []).append((entry, slot))
    return {path: _module_factors(adapter, binding.modules[path], own) for path, own in modules.items()}


def _module_factors(adapter: Adapter, module: TargetModule, entries: list[tuple[Entry, Slot]]) -> Factors:
    """Put the entries of one module together, each in its own rows; those of one ``lora_A`` share it."""
    out_features, _ = module.matrix_shape
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for entry, slot in entries:
        own = entry_factors(adapter, entry)
        _, tall = parts.setdefault(entry.lora_A, (own.lora_A, own.lora_B.new_zeros(out_features, own.rank)))
        tall[_rows(slot.all_rows)] = own.lora_B
    return Factors(
        torch.cat([lora_A for lora_A, _ in parts.values()]), torch.cat([tall for _, tall in parts.values()], dim=1)
    )


def _no_start(problem: str) -> TrainingError:
    return TrainingError(
        f"cannot start from this adapter: {problem}",
        code="warm-start",
        hint="start from an adapter that a transfer made for this base model, or without one",
    )


def module_ranks(binding: Binding, recipe: Recipe, factors: Mapping[str, Factors]) -> dict[str, int]:
    """Return the rank of every module to train: those of the recipe's roles, and those that are started from.

    Raises:
        TrainingError: The target has no such module.
    """
    found = {
        path: max(recipe.rank, factors[path].rank if path in factors else 0)
        for path, module in binding.modules.items()
        if path in factors or (module.parameter is None and any(slot.role in recipe.roles for slot in module.slots))
    }
    if not found:
        raise TrainingError(
            f"{binding.base.id}: has no module of the roles {', '.join(recipe.roles)} that factors can be put on",
            code="no-modules",
        )
    return found


@contextlib.contextmanager
def trainee(target: LoadedBase, recipe: Recipe, ranks: Mapping[str, int]) -> Iterator[Trainee]:
    """Put fresh factors on a target; on leaving, the target is as before.

    Args:
        target: The target base model, changed in place meanwhile.
        recipe: Scaling and seed.
        ranks: The rank of every module to train, by its path.
    """
    modules = {path: target.binding.modules[path] for path in ranks}
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # PEFT divides by the rank, whatever the number
        lora_dropout=0.0,
        target_modules=list(ranks),
        rank_pattern={path: rank for path, rank in ranks.items() if rank != recipe.rank},
        alpha_pattern={path: rank * recipe.scaling for path, rank in ranks.items() if rank != recipe.rank},
        fan_in_fan_out=any(module.is_conv1d for module in modules.values()),
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT remarks on models that are of no known task
        torch.manual_seed(recipe.seed)
        wrapped: Any = peft.get_peft_model(target.model, config)
    try:
        yield Trainee(wrapped.get_base_model(), modules, recipe.scaling)
    finally:
        wrapped.unload()
