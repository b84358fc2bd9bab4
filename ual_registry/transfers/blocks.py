"""A model block by block: texts go through one block at a time, so that a block can be fitted before the next is run.

Nothing is assumed of a class but that its blocks form a chain: each reads what the one before it gives, and is told
the rest (positions, masks) by the model. What the model tells is noted in one run of it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.errors import NumericalError, TransferError
from ual_registry.models.finite import finite_hint
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.factors import Factors
from ual_registry.transfers.sites import Side, Site

__all__ = ["BlockWalk", "block_paths", "updated"]


def block_paths(base: LoadedBase) -> tuple[str, ...]:
    """Return the module paths of a model's blocks, in the order of their layers.

    A block is the innermost module that holds all bound modules of a layer.

    Args:
        base: A model of one stack.
    """
    modules: dict[int, list[str]] = {}
    for module in base.binding.modules.values():
        if module.slots[0].layer is not None:
            modules.setdefault(module.slots[0].layer, []).append(module.path)
    return tuple(_holder(modules[layer]) for layer in sorted(modules))


def _holder(paths: Sequence[str]) -> str:
    names = zip(*(path.split(".")[:-1] for path in paths), strict=False)
    same = itertools.takewhile(lambda level: len(set(level)) == 1, names)
    return ".".join(level[0] for level in same)


@dataclass(frozen=True, slots=True)
class _Call:
    """What the model tells a block beside the states."""

    args: tuple[Any, ...]
    named: Mapping[str, Any]


class BlockWalk:
    """Texts on their way through a model; after ``advance`` they stand before the next block.

    Attributes:
        layer: The block before which they stand, from 0.

    Args:
        base: The model.
        texts: Token ids and positions of each text; rows are taken at the positions.

    Raises:
        TransferError: The blocks do not form a chain.
    """

    def __init__(self, base: LoadedBase, texts: Iterable[tuple[Sequence[int], Sequence[int]]]) -> None:
        self.base = base
        self.paths = block_paths(base)
        self.layer = 0
        self._texts = list(texts)
        self._states: list[torch.Tensor] = []
        self._calls: list[tuple[_Call, ...]] = []
        for ids, _ in self._texts:
            first, calls = self._noted(ids)
            self._states.append(first)
            self._calls.append(calls)

    def rows(self, sites: Iterable[Site]) -> dict[Site, torch.Tensor]:
        """Run the block and return what stands at sites in it, at the positions of all texts; they stay before it.

        Args:
            sites: Inputs and outputs of modules in the block, or of the block itself.

        Returns:
            Shape (n, width), float32.

        Raises:
            NumericalError: A number is not finite.
            TransferError: A module was not run, or several times.
        """
        wanted = sorted(set(sites))
        seen: dict[Site, list[torch.Tensor]] = {site: [] for site in wanted}
        found: dict[Site, list[torch.Tensor]] = {site: [] for site in wanted}
        with contextlib.ExitStack() as stack:
            for site in wanted:
                stack.callback(
                    self.base.module(site.path).register_forward_hook(_noting(seen, site), with_kwargs=True).remove
                )
            for index, (_, positions) in enumerate(self._texts):
                self._run(index)
                for site in wanted:
                    found[site].append(self._rows(site, seen[site], positions))
                    seen[site].clear()
        return {site: torch.cat(rows) for site, rows in found.items()}

    def advance(self) -> None:
        """Run the block, with whatever is attached to the model, and stand before the next one."""
        self._states = [self._run(index) for index in range(len(self._texts))]
        self.layer += 1

    @torch.inference_mode()
    def _run(self, index: int) -> torch.Tensor:
        call = self._calls[index][self.layer]
        block = self.base.module(self.paths[self.layer])
        return _first(block(self._states[index], *call.args, **call.named))

    def _rows(self, site: Site, runs: list[torch.Tensor], positions: Sequence[int]) -> torch.Tensor:
        if len(runs) != 1:
            raise TransferError(
                f"{site.path}: block {self.paths[self.layer]} of {self.base.base.id} runs it {len(runs)} times, "
                "expected one",
                code="module-not-run",
                context={"module": site.path},
            )
        index = torch.tensor(positions, dtype=torch.long, device=self.base.device)
        rows = runs[0].reshape(-1, runs[0].shape[-1]).index_select(0, index).float().cpu()
        if not bool(rows.isfinite().all()):
            raise NumericalError(
                f"{site.path}: its {site.side} is not finite (base model {self.base.base.id})",
                context={"module": site.path, "base_model": self.base.base.id},
                hint=finite_hint(self.base.model.dtype),
            )
        return rows

    def _noted(self, ids: Sequence[int]) -> tuple[torch.Tensor, tuple[_Call, ...]]:
        """Run the model once, and note what stands before the first block and what each block is told."""
        seen: list[tuple[torch.Tensor, torch.Tensor, _Call]] = []

        def hook(_: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            states, rest, others = _split(args, named)
            seen.append((states, _first(output), _Call(rest, others)))

        handles = [self.base.module(path).register_forward_hook(hook, with_kwargs=True) for path in self.paths]
        row = torch.tensor([list(ids)], device=self.base.device)
        try:
            with torch.inference_mode():
                self.base.model.base_model(input_ids=row, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        pairs = itertools.pairwise(seen)
        if len(seen) != len(self.paths) or any(after[0] is not before[1] for before, after in pairs):
            raise TransferError(
                f"base model {self.base.base.id}: the blocks of {type(self.base.model).__name__} do not hand one state "
                "from each to the next",
                code="no-chain",
                context={"base_model": self.base.base.id},
                hint="carry the adapter by 'activations', which looks at each module alone",
            )
        return seen[0][0], tuple(call for _, _, call in seen)


def _split(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]:
    """Return the states that a block reads, and what else it is told."""
    if args:
        return args[0], args[1:], named
    others = dict(named)
    return others.pop("hidden_states"), (), others


def _first(value: Any) -> torch.Tensor:
    found: torch.Tensor = value[0] if isinstance(value, tuple) else value
    return found


def _noting(seen: Mapping[Site, list[torch.Tensor]], site: Site) -> Any:
    def hook(_: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen[site].append(_first(output if site.side is Side.OUTPUT else args or tuple(named.values())))

    return hook


@contextlib.contextmanager
def updated(base: LoadedBase, updates: Mapping[str, Factors]) -> Iterator[None]:
    """Let modules compute with updates; on leaving they are as before.

    Args:
        base: The model.
        updates: The updates by module path.
    """
    with contextlib.ExitStack() as stack:
        for path, factors in updates.items():
            stack.callback(base.module(path).register_forward_hook(_adding(factors, base)).remove)
        yield


def _adding(factors: Factors, base: LoadedBase) -> Any:
    lora_A, lora_B = (part.to(base.device, torch.float32) for part in (factors.lora_A, factors.lora_B))

    def hook(_: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = output + (args[0].float() @ lora_A.T) @ lora_B.T
        return changed.to(output.dtype)

    return hook
