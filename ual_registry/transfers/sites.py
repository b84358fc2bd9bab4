"""Where activations are taken: the inputs and outputs of modules, read by hooks while a model runs over a text."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from ual_registry.errors import NumericalError, TransferError
from ual_registry.models.finite import finite_hint
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.positions import position_limit

__all__ = ["Reader", "Side", "Site", "SitePair", "predicts_next", "shared_sites"]


class Side(StrEnum):
    """On which side of a module."""

    INPUT = "input"
    OUTPUT = "output"
    GRADIENT = "gradient"
    """Of the text's negative log likelihood, with respect to the output."""


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """One side of a module, by its path."""

    path: str
    side: Side = Side.INPUT


@dataclass(frozen=True, slots=True, order=True)
class SitePair:
    """A site of the source and the one of the target that it is compared with."""

    source: Site
    target: Site

    @property
    def name(self) -> str:
        """A short name for files: 32 hexadecimal digits."""
        words = (self.source.path, self.source.side, self.target.path, self.target.side)
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


_MAX_LOGITS = 128
"""At how many positions of a passage a loss is taken; a vocabulary may have hundreds of thousands of rows."""


class Reader:
    """Runs a base model over token ids and takes rows at sites; the head of the model is not run.

    Args:
        base: The base model.
        clip: Rows longer than this many times the median length of their text are shortened to that; ``None`` leaves
            them as they are. Attention sinks and massive activations are such rows.

    Raises:
        TransferError: The model has two stacks, which one text does not run through alike.
    """

    def __init__(self, base: LoadedBase, *, clip: float | None = None) -> None:
        if getattr(base.model.config, "is_encoder_decoder", False):
            raise TransferError(
                f"base model {base.base.id}: activations are taken from models of one stack, it has two",
                code="two-stacks",
                context={"base_model": base.base.id},
            )
        self.base = base
        self.clip = clip
        self.backbone: Any = base.model.base_model
        known = inspect.signature(self.backbone.forward).parameters
        self.settings = {"use_cache": False} if "use_cache" in known else {}

    @property
    def limit(self) -> int | None:
        """How many tokens the model can read, where that is known."""
        return position_limit(self.base.model)

    def rows(self, ids: Sequence[int], positions: Sequence[int], sites: Iterable[Site]) -> dict[Site, torch.Tensor]:
        """Run the model once and return the rows at some positions of every site, shape (n, width).

        Args:
            ids: Token ids of one text.
            positions: Which of them to return, n of them; the rows of a module that runs k times are k n.
            sites: Where to look.

        Raises:
            NumericalError: A number is not finite; the first module where that shows is named.
            TransferError: A module was not run.
        """
        index = torch.tensor(positions, dtype=torch.long, device=self.base.device)
        taken: dict[Site, list[torch.Tensor]] = {}

        def take(site: Site, value: torch.Tensor) -> None:
            rows = value.detach().reshape(-1, value.shape[-1]).index_select(0, index)
            self._require_finite(site, rows)
            taken.setdefault(site, []).append(rows if site.side is Side.GRADIENT else self._clipped(rows))

        wanted = set(sites)
        self._run(ids, wanted, take, positions)
        self.require_run(wanted, taken)
        return {site: rows[0] if len(rows) == 1 else torch.cat(rows) for site, rows in taken.items()}

    def values(self, ids: Sequence[int], sites: Iterable[Site]) -> dict[Site, list[torch.Tensor]]:
        """Run the model once and return what stood at every site of a module that was run, the very tensors."""
        taken: dict[Site, list[torch.Tensor]] = {}
        self._run(ids, sites, lambda site, value: taken.setdefault(site, []).append(value), ())
        return taken

    def _run(
        self,
        ids: Sequence[int],
        sites: Iterable[Site],
        take: Callable[[Site, torch.Tensor], None],
        positions: Sequence[int],
    ) -> None:
        wanted = sorted(set(sites))
        has_gradients = any(site.side is Side.GRADIENT for site in wanted)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad() if has_gradients else torch.inference_mode())
            for site in wanted:
                stack.callback(_hook(self.base.module(site.path), site, take).remove)
            row = torch.tensor([list(ids)], device=self.base.device)
            if has_gradients:
                self._descend(row, positions)
            else:
                self.backbone(input_ids=row, **self.settings)

    def require_run(self, sites: Iterable[Site], seen: Collection[Site]) -> None:
        """Refuse sites of modules that were not run.

        Args:
            sites: All that were asked for.
            seen: Those that something was seen at.

        Raises:
            TransferError: A module was not run.
        """
        for site in sorted(sites):
            if site not in seen:
                raise TransferError(
                    f"{site.path}: {type(self.backbone).__name__} of {self.base.base.id} does not run this module",
                    code="module-not-run",
                    context={"module": site.path},
                )

    def _descend(self, ids: torch.Tensor, positions: Sequence[int]) -> None:
        """Run the model and send the gradient of its loss back; logits are made at a few positions alone."""
        self._require_loss()
        before = [position for position in positions if position + 1 < ids.shape[1]]
        kept = torch.tensor(before[:: 1 + len(before) // _MAX_LOGITS], dtype=torch.long, device=ids.device)
        embedding = self.base.model.get_input_embeddings()
        handle = embedding.register_forward_hook(lambda _, __, output: output.detach().requires_grad_())
        try:
            logits = self.base.model(input_ids=ids, logits_to_keep=kept, **self.settings).logits[0]
        finally:
            handle.remove()
        loss: Any = torch.nn.functional.cross_entropy(logits.float(), ids[0, kept + 1], reduction="sum")
        loss.backward()

    def _require_loss(self) -> None:
        if not predicts_next(self.base):
            raise TransferError(
                f"base model {self.base.base.id}: {type(self.base.model).__name__} predicts no next token, so its "
                "outputs have no gradient",
                code="no-loss",
                context={"base_model": self.base.base.id},
                hint="fit the write maps to outputs alone (--write-map outputs)",
            )

    def _require_finite(self, site: Site, rows: torch.Tensor) -> None:
        if not bool(rows.isfinite().all()):
            dtype = str(rows.dtype).removeprefix("torch.")
            raise NumericalError(
                f"{site.path}: its {site.side} is not finite in {dtype} (base model {self.base.base.id})",
                context={"module": site.path, "base_model": self.base.base.id},
                hint=finite_hint(rows.dtype),
            )

    def _clipped(self, rows: torch.Tensor) -> torch.Tensor:
        if self.clip is None or not len(rows):
            return rows
        lengths = rows.float().norm(dim=1, keepdim=True)
        limit = self.clip * lengths.median()
        return (rows * (limit / lengths).clamp(max=1.0).to(rows.dtype)) if bool((lengths > limit).any()) else rows


def predicts_next(base: LoadedBase) -> bool:
    """Tell whether a model predicts the next token, and makes logits where they are asked for alone."""
    return "logits_to_keep" in inspect.signature(base.model.forward).parameters


def _hook(module: torch.nn.Module, site: Site, note: Callable[[Site, torch.Tensor], None]) -> Any:
    if site.side is Side.GRADIENT:

        def watch(_: Any, __: Any, output: Any) -> None:
            tensor: Any = _tensor(output)
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: note(site, gradient))

        return module.register_forward_hook(watch)
    if site.side is Side.OUTPUT:
        return module.register_forward_hook(lambda _, __, output: note(site, _tensor(output)))
    return module.register_forward_pre_hook(
        lambda _, args, named: note(site, _tensor(args or tuple(named.values()))), with_kwargs=True
    )


def _tensor(value: Any) -> torch.Tensor:
    """Return the first tensor of what a module takes or gives."""
    found: torch.Tensor = value[0] if isinstance(value, tuple) else value
    return found


def shared_sites(reader: Reader, ids: Sequence[int], sites: Collection[Site]) -> dict[Site, Site]:
    """Return for every site the first one that reads the very same tensor: query, key and value read one.

    The first one need not have been asked for, so that it is the same whichever of them are.

    Args:
        reader: Of the model.
        ids: A few token ids to run it on.
        sites: Where to look.

    Raises:
        TransferError: A module was not run.
    """
    forward = {site for site in sites if site.side is not Side.GRADIENT}
    values = reader.values(ids, forward | _beside(reader.base, forward))  # held, so that no identity is used twice
    reader.require_run(forward, values)
    first: dict[tuple[int, ...], Site] = {}
    shared = {site: first.setdefault(tuple(map(id, values[site])), site) for site in sorted(values)}
    return {site: shared.get(site, site) for site in sites}


def _beside(base: LoadedBase, sites: Iterable[Site]) -> set[Site]:
    """Return the inputs of the linear modules in the same parents as those of some sites; not all of them may run."""
    parents = {site.path.rpartition(".")[0] for site in sites if site.side is Side.INPUT}
    return {
        Site(f"{parent}.{name}" if parent else name)
        for parent in parents
        for name, module in base.module(parent).named_children()
        if isinstance(module, (torch.nn.Linear, Conv1D))
    }
