"""Find the parameter, and the expert's part of it, that a weight tensor came from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ParameterPlace", "Parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterPlace:
    """A parameter, or one matrix of it.

    Attributes:
        module: Path of the module that holds it.
        name: Its name in that module.
        expert: Index of the matrix, for a 3-D parameter used one matrix at a time.
        is_stacked: Whether the parameter has three axes, one matrix per expert.
    """

    module: str
    name: str
    expert: int | None = None
    is_stacked: bool = False


class Parameters:
    """The parameters of a model, found again by the memory that they lie in."""

    def __init__(self, model: nn.Module) -> None:
        self._by_memory: dict[int, list[tuple[str, str, Tensor]]] = {}
        self._embeddings: set[str] = set()
        self._stacked: list[tuple[str, str, Tensor]] = []
        for path, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, nn.Embedding):
                self._embeddings.add(path)
            for name, parameter in module.named_parameters(recurse=False):
                row = (path, name, parameter)
                self._by_memory.setdefault(parameter.untyped_storage().data_ptr(), []).append(row)
                if parameter.dim() == 3:
                    self._stacked.append(row)
        self.running = ""

    def table(self, weight: Tensor) -> ParameterPlace | None:
        """Return the first embedding that holds ``weight``, which others may share; ``None`` where there is none."""
        rows = self._by_memory.get(weight.untyped_storage().data_ptr(), [])
        module = next((row[0] for row in rows if row[0] in self._embeddings), None)
        return None if module is None else ParameterPlace(module=module, name="weight")

    def place(self, weight: Tensor) -> ParameterPlace | None:
        """Return where ``weight`` came from; ``None`` where it is no parameter.

        Args:
            weight: A parameter, or a matrix or a transposition of one.
        """
        if weight.requires_grad or weight.dim() < 2:
            return None
        rows = self._by_memory.get(weight.untyped_storage().data_ptr(), [])
        if rows:
            module, name, parameter = next((row for row in rows if row[0] == self.running), rows[0])
            return self._of(module, name, parameter, weight)
        return self._copied(weight)

    def _of(self, module: str, name: str, parameter: Tensor, weight: Tensor) -> ParameterPlace:
        if parameter.dim() != 3:
            return ParameterPlace(module=module, name=name)
        expert = None
        if weight.dim() == 2:
            expert = (weight.storage_offset() - parameter.storage_offset()) // parameter.stride(0)
        return ParameterPlace(module=module, name=name, expert=expert, is_stacked=True)

    def _copied(self, weight: Tensor) -> ParameterPlace | None:
        """Return the place of a matrix that indexing copied out of a 3-D parameter."""
        if weight.dim() != 2:
            return None
        for module, name, parameter in self._stacked:
            for candidate in (weight, weight.T):
                if parameter.shape[1:] == candidate.shape:
                    same = (parameter == candidate).flatten(1).all(dim=1)
                    if bool(same.any()):
                        expert = int(torch.nonzero(same)[0])
                        return ParameterPlace(module=module, name=name, expert=expert, is_stacked=True)
        return None
