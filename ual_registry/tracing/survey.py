"""List the matrices of a model that an adapter could change: linear modules, embeddings, parameters of experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

__all__ = ["Matrix", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One matrix, or the stacked matrices of all experts.

    Attributes:
        kind: ``linear``, ``conv1d``, ``embedding`` or ``parameter``.
        shape: The stored shape.
    """

    kind: str
    shape: tuple[int, ...]

    @property
    def in_out(self) -> tuple[int, int]:
        """Return (in, out) features of a linear module or an embedding."""
        first, second = self.shape[-2:]
        return (second, first) if self.kind == "linear" else (first, second)


def survey(model: nn.Module) -> Mapping[str, Matrix]:
    """Return every matrix of ``model`` by its path; for a parameter the module's path and the parameter's name.

    Args:
        model: A model, on any device; on ``meta`` it costs no memory.
    """
    found: dict[str, Matrix] = {}
    for path, module in model.named_modules():
        kind = _kind(module)
        weight = getattr(module, "weight", None)
        if kind is not None and isinstance(weight, nn.Parameter):
            found[path] = Matrix(kind=kind, shape=tuple(weight.shape))
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 3 and not isinstance(module, (nn.Conv1d, nn.Conv2d)):
                found[f"{path}.{name}"] = Matrix(kind="parameter", shape=tuple(parameter.shape))
    return found


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return "linear"
    if type(module).__name__ == "Conv1D":
        return "conv1d"
    return "embedding" if isinstance(module, nn.Embedding) else None
