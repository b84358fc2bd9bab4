"""Change the rows of one slot in a running model, and see what reaches the modules that read the result.

Nothing is known of how a family is written. What is watched is the input of the modules that close a branch:
the attention's output, the MLP's way down. All norms do nothing meanwhile, so that a branch bends only where
its own attention or activation bends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tests.proof.calls import call
from tests.proof.cases import Case
from ual_registry.binders.bind import Binding
from ual_registry.binders.slots import Slot, TargetModule

__all__ = ["CLOSING", "POSITION", "Place", "Probe", "is_norm", "place", "rows_of"]

POSITION = 2
"""The position that is changed: some stand before it and some after it."""

CLOSING = ("attention_output", "cross_attention_output", "mlp_down", "shared_mlp_down", "state_space_out")
"""Roles of the modules that close a branch."""

UNCALLED = ("state_space_step_up",)
"""Roles of modules that a block never calls, and whose bias is changed instead: Mamba's ``dt_proj``."""

Place = tuple[str | None, int | None, str, int | None]
"""(stack, layer, role, expert)."""


def place(slot: Slot, role: str | None = None) -> Place:
    """Return where a slot stands, or where the slot of another role beside it stands."""
    return (slot.stack, slot.layer, role or slot.role, slot.expert)


def rows_of(slot: Slot) -> torch.Tensor:
    """Return the rows of a slot in its module, in order."""
    runs = slot.rows.runs() if slot.rows else [(0, slot.out_features)]
    return torch.tensor([row for start, count in runs for row in range(start, start + count)])


@dataclass(frozen=True)
class _Change:
    """What is done to the output rows of one slot."""

    target: TargetModule
    slot: Slot
    matrix: torch.Tensor | None = None
    delta: torch.Tensor | None = None
    position: int | slice | None = None

    def apply(self, output: torch.Tensor) -> torch.Tensor:
        """Return a changed copy of a module's output of shape (..., positions, rows)."""
        rows, changed = rows_of(self.slot), output.clone()
        part = changed[..., rows]
        if self.matrix is not None:
            part = part @ self.matrix.to(part.dtype).T
        if self.delta is not None and self.position is None:
            part = part + self.delta
        elif self.delta is not None:
            one = part[..., self.position, :] if part.shape[-2] > 1 else part[..., self.position, :, :]
            one += self.delta
        changed[..., rows] = part
        return changed


class Probe:
    """A tiny random model of one case, changed and watched."""

    def __init__(self, case: Case, *, with_norms: bool = False) -> None:
        self.case = case
        self.model = case.model()
        self.binding: Binding = case.binding()
        self.slots = self.binding.slots()
        if not with_norms:
            _silence_norms(self.model)

    @functools.cached_property
    def base(self) -> dict[Place, torch.Tensor]:
        """What is watched while nothing is changed."""
        return self.run()

    def run(
        self,
        deltas: Mapping[Place, torch.Tensor] | None = None,
        *,
        matrices: Mapping[Place, torch.Tensor] | None = None,
        position: int | slice | None = None,
        until: Place | None = None,
    ) -> dict[Place, torch.Tensor]:
        """Return the input of every closing module, each (positions, features), with some slots changed.

        Args:
            deltas: What is added to the output rows of a slot.
            matrices: What the output rows of a slot are multiplied with.
            position: Where deltas are added, one place or several; everywhere by default.
            until: The closing module that is asked for: the run may end there, and what follows is left out.
        """
        changes = [_Change(*self.slots[key], delta=delta, position=position) for key, delta in (deltas or {}).items()]
        changes += [_Change(*self.slots[key], matrix=matrix) for key, matrix in (matrices or {}).items()]
        seen: dict[Place, torch.Tensor] = {}
        with ExitStack() as stack:
            for change in changes:
                stack.enter_context(self._changed(change))
            stack.enter_context(self._watched(seen, until))
            with suppress(_Enough):
                call(self.model, self.case)
        return seen

    @contextmanager
    def _changed(self, change: _Change) -> Iterator[None]:
        if change.target.parameter is None and change.slot.role not in UNCALLED:
            module = self.model.get_submodule(change.target.path)
            handle = module.register_forward_hook(lambda _module, _args, output: change.apply(output))
            try:
                yield
            finally:
                handle.remove()
            return
        parameter = self.model.get_parameter(change.target.path + ("" if change.target.parameter else ".bias"))
        kept = parameter.detach().clone()
        assert change.delta is not None  # a matrix is for modules that are called
        with torch.no_grad():
            if change.slot.expert is None:
                parameter += change.delta
            else:
                weight = parameter[change.slot.expert].T if change.target.is_conv1d else parameter[change.slot.expert]
                torch.manual_seed(5)
                read = torch.randn(weight.shape[1]) / weight.shape[1] ** 0.5
                weight[rows_of(change.slot)] += torch.outer(change.delta, read)
        try:
            yield
        finally:
            with torch.no_grad():
                parameter.copy_(kept)

    @contextmanager
    def _watched(self, seen: dict[Place, torch.Tensor], until: Place | None) -> Iterator[None]:
        """Note the first input of every closing module; a module may run again where blocks share it."""
        stacked: list[TargetModule] = []
        with ExitStack() as stack:
            for key, (target, _) in self.slots.items():
                if key[2] in CLOSING and target.parameter is None:
                    module = self.model.get_submodule(target.path)
                    handle = module.register_forward_pre_hook(_note_input(seen, key, is_last=key == until))
                    stack.callback(handle.remove)
                elif key[2] in CLOSING and target not in stacked:
                    stacked.append(target)
            if stacked:
                stack.enter_context(_StackedInputs(self.model, stacked, seen))
            yield


class _Enough(Exception):  # noqa: N818  # no error
    """What was asked for has been seen."""


def _note_input(seen: dict[Place, torch.Tensor], key: Place, *, is_last: bool) -> Callable[[Any, Any], None]:
    """Return a hook that notes the first input of a module and leaves it as it is."""

    def hook(_module: Any, args: Any) -> None:
        seen.setdefault(key, _flat(args[0]))
        if is_last:
            raise _Enough

    return hook


@functools.lru_cache(maxsize=4)
def probe_of(case: Case) -> Probe:
    """Return the probe of a case, the same one for the tests that run one after the other; see ``conftest.py``."""
    return Probe(case)


def _flat(states: torch.Tensor) -> torch.Tensor:
    """Return (positions, features) of the only sequence."""
    return states.detach().reshape(-1, states.shape[-1]).clone()


class _StackedInputs(TorchFunctionMode):
    """Notes what is multiplied with one expert's matrix of a parameter that holds those of all experts."""

    def __init__(self, model: Any, targets: list[TargetModule], seen: dict[Place, torch.Tensor]) -> None:
        super().__init__()
        self._by_storage = {model.get_parameter(target.path).untyped_storage().data_ptr(): target for target in targets}
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if len(args) > 1 and isinstance(args[1], torch.Tensor) and func.__name__ in ("linear", "matmul", "bmm"):
            target = self._by_storage.get(args[1].untyped_storage().data_ptr())
            if target is not None:
                self._note(target, args[0], args[1])
        return func(*args, **(kwargs or {}))

    def _note(self, target: TargetModule, states: torch.Tensor, weight: torch.Tensor) -> None:
        if weight.dim() == 3:
            for slot in target.slots:
                assert slot.expert is not None
                self._seen.setdefault(place(slot), _flat(states[slot.expert]))
            return
        expert = weight.storage_offset() // weight.numel()
        (slot,) = [slot for slot in target.slots if slot.expert == expert]
        self._seen.setdefault(place(slot), _flat(states))


def is_norm(module: Any) -> bool:
    """Tell whether a module is a norm, and not part of a model that is named after where its norms stand."""
    return "Norm" in type(module).__name__ and not any(module.children())


def _silence_norms(model: Any) -> None:
    """Let every norm with one argument return it."""
    for module in model.modules():
        if is_norm(module):
            original = module.forward
            module.forward = lambda states, *more, original=original, **named: (
                original(states, *more, **named) if more or named else states
            )
