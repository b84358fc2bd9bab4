"""Where a model's predictions are made from: its last norm, its output table, and norms behind single modules.

Nothing is assumed of a class: norms are found by running the model, and what they do by giving them probes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.errors import TransferError
from ual_registry.models.loaded import LoadedBase
from ual_registry.transfers.source_change import log_probabilities

__all__ = [
    "FinalState",
    "NormShape",
    "NormTrace",
    "find_final_state",
    "find_norms_behind",
    "is_same_tensor",
    "norm_shape",
    "trace_norms",
]

_LEAST_GAIN = 0.1
"""Of the median gain; a feature that a norm all but removes must not ask for a huge change before it."""

_LARGEST_MISFIT = 0.02
"""Of the logits' own spread, between those of the model and those of state and table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormShape:
    """What a norm does to a row x: ``gain * (x - mean) / size + offset``.

    Attributes:
        gain: Shape (d,), float64, none of it near 0.
        is_centred: Whether the mean is taken out, as LayerNorm does and RMSNorm does not.
    """

    gain: torch.Tensor
    is_centred: bool

    def size(self, rows: torch.Tensor) -> torch.Tensor:
        """Return by what rows are divided, shape (n, 1), float64."""
        own = self.without_mean(rows.to(torch.float64))
        return (own.square().mean(dim=1, keepdim=True) + _EPSILON).sqrt()

    def scaled(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what it makes of rows, but for the offset, shape (n, d), float64."""
        own = self.without_mean(rows.to(torch.float64))
        return self.gain * own / self.size(rows)

    def folded(self, readers: torch.Tensor) -> torch.Tensor:
        """Return readers of what it gives as readers of what it is given, but for the size: shape (n, d), float64."""
        return self.without_mean(readers.to(torch.float64) * self.gain)

    def without_mean(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows without what it takes out of them, shape (n, d)."""
        return rows - rows.mean(dim=1, keepdim=True) if self.is_centred else rows


_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalState:
    """The way from the residual stream to the logits.

    Attributes:
        path: The module path of the last norm.
        norm: What it does.
        table: From the normed state to the logits, shape (vocabulary, d), float32 or float64.
        bias: Shape (vocabulary,), or ``None``.
    """

    path: str
    norm: NormShape
    table: torch.Tensor
    bias: torch.Tensor | None

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of normed states, shape (n, vocabulary)."""
        return torch.nn.functional.linear(states.to(self.table.dtype), self.table, self.bias)


@dataclass(slots=True)
class NormTrace:
    """Norms and other modules in the order in which they were run; tensors are held so that addresses are unique.

    Attributes:
        seen: Module path, what it read, and what it gave.
        last: The last hidden state.
    """

    seen: list[tuple[str, torch.Tensor, torch.Tensor]]
    last: torch.Tensor


def find_final_state(base: LoadedBase, ids: Sequence[int]) -> FinalState:
    """Return the way from a model's residual stream to its logits.

    Args:
        base: A model that predicts the next token.
        ids: Token ids of some text.

    Raises:
        TransferError: The model has no norm there, or its logits are no linear function of what the norm gives.
    """
    trace = trace_norms(base, ids, ())
    found = [path for path, _, output in trace.seen if is_same_tensor(output, trace.last)]
    head: Any = base.model.get_output_embeddings()
    if not found or head is None:
        raise _not_linear(base, "no norm and table stand before its logits")
    bias = getattr(head, "bias", None)
    table = head.weight.detach().float()
    logits = log_probabilities(base, ids, range(len(ids)))
    own = torch.nn.functional.linear(trace.last.reshape(len(ids), -1).float(), table)
    own = own if bias is None else own + bias.detach().float()
    scale, misfit = _compared(own, logits)
    if not misfit < _LARGEST_MISFIT:
        raise _not_linear(base, "its logits are no linear function of its last state")
    return FinalState(
        path=found[-1],
        norm=norm_shape(base.module(found[-1]), table.shape[1]),
        table=table * scale,
        bias=None if bias is None else bias.detach().float() * scale,
    )


def _compared(own: torch.Tensor, logits: torch.Tensor) -> tuple[float, float]:
    """Return by what to multiply logits to get others, but for a constant per row, and what is left, relatively."""
    x, y = (item - item.mean(dim=1, keepdim=True) for item in (own, logits))
    scale = float((x * y).sum() / x.square().sum())
    scale = 1.0 if abs(scale - 1.0) < 1e-3 else scale
    return scale, float((y - scale * x).norm() / y.norm())


def _not_linear(base: LoadedBase, reason: str) -> TransferError:
    return TransferError(
        f"base model {base.base.id}: {reason}, so what it predicts cannot be turned into a wanted state",
        code="not-linear",
        context={"base_model": base.base.id},
        hint="carry the adapter by 'activations', which needs no predictions",
    )


def find_norms_behind(base: LoadedBase, paths: Collection[str], ids: Sequence[int]) -> dict[str, NormShape]:
    """Return the norms that read what some modules write before it reaches the residual stream, by the module's path.

    Gemma has such norms, most models do not.

    Args:
        base: The model.
        paths: The modules.
        ids: A few token ids to run it on.
    """
    trace = trace_norms(base, ids, paths)
    written = {path: output for path, _, output in trace.seen if path in paths}
    return {
        path: norm_shape(base.module(reader), output.shape[-1])
        for path, output in written.items()
        for reader, read, _ in trace.seen
        if reader not in paths and is_same_tensor(read, output)
    }


def norm_shape(norm: torch.nn.Module, width: int) -> NormShape:
    """Find out what a norm does, by probes.

    Args:
        norm: The module.
        width: d, the features of its rows.
    """
    weight = next(norm.parameters())
    signs = 1.0 - 2.0 * (torch.arange(width) % 2)
    probes = torch.stack([torch.zeros(width), signs, torch.ones(width)]).to(weight.device, weight.dtype)
    with torch.inference_mode():
        offset, answer, level = (row.double() for row in norm(probes[None])[0])
    gain = ((answer - offset) * signs.to(answer)).cpu()
    is_centred = bool((level - offset).abs().mean() < 0.5 * gain.abs().mean())
    least = _LEAST_GAIN * gain.abs().median()
    floor = torch.where(gain < 0, -least, least)
    return NormShape(gain=torch.where(gain.abs() < least, floor, gain), is_centred=is_centred)


def trace_norms(base: LoadedBase, ids: Sequence[int], paths: Collection[str]) -> NormTrace:
    """Run a model once and note what its norms, and some modules, read and gave.

    Args:
        base: The model.
        ids: A few token ids to run it on.
        paths: The modules to note beside norms.
    """
    seen: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def note(path: str) -> Any:
        def hook(_: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            seen.append((path, args[0] if args else next(iter(named.values())), output))

        return hook

    watched = [(path, module) for path, module in base.model.named_modules() if path in paths or _is_norm(module)]
    handles = [module.register_forward_hook(note(path), with_kwargs=True) for path, module in watched]
    try:
        with torch.inference_mode():
            made = base.model.base_model(input_ids=torch.tensor([list(ids)], device=base.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return NormTrace(seen, made.last_hidden_state)


def _is_norm(module: torch.nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 1 and not list(module.children())


def is_same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors are one piece of memory."""
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()
