"""The norms of a block against the real model: what is scaled before a norm comes out of it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch

from tests.proof.calls import call
from tests.proof.cases import UNLIKE, Case, case_of
from tests.proof.probe import is_norm
from ual_registry.binders.model import Norms, StackLayout

pytestmark = pytest.mark.filterwarnings("ignore")

QUERY = ("attention_query", "latent_query_down", "latent_query_up")
MLP = ("mlp_up", "moe_router", "shared_mlp_up")
LAYER = 1
"""The block that is looked at: the first one may be particular, and its input may have a norm of its own."""


class Block:
    """One block of a model, scaled at one place and read at another."""

    def __init__(self, case: Case, layout: StackLayout) -> None:
        self.case, self.model, binding = case, case.model(), case.binding()
        self.module = self.model.get_submodule((binding.prefix + layout.path.format(layer=LAYER)).rstrip("."))
        self.base = binding.base.stack(layout.name)
        self.slots = {
            role: (self.model.get_submodule(target.path), slot, target.path)
            for (stack, layer, role, expert), (target, slot) in binding.slots().items()
            if (stack, layer) == (layout.name, LAYER) and target.parameter is None and expert in (None, 0)
        }

    def first(self, roles: tuple[str, ...]) -> Any:
        """Return the module of the first role that the block has; ``None`` where it has none."""
        return next((self.slots[role][0] for role in roles if role in self.slots), None)

    def input_of(self, module: Any, *changes: Any) -> torch.Tensor:
        """Return what a module reads, under some changes."""
        return self._seen(lambda note: _before(module, note), changes)

    def output(self, *changes: Any) -> torch.Tensor:
        """Return what the block writes, under some changes."""
        return self._seen(lambda note: _after(self.module, note), changes)

    def _seen(self, watch: Any, changes: Any) -> torch.Tensor:
        """Return the first states that are noted while the model runs."""
        seen: list[torch.Tensor] = []

        def note(states: torch.Tensor) -> torch.Tensor:
            seen.append(states.detach().clone())
            return states

        with ExitStack() as stack:
            for change in (*changes, watch(note)):
                stack.enter_context(change)
            call(self.model, self.case)
        return seen[0]


@contextmanager
def _before(module: Any, change: Any) -> Iterator[None]:
    """Change the first input of a module, named or not."""

    def hook(_module: Any, args: Any, named: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), named
        return args, {**named, "hidden_states": change(named["hidden_states"])}

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _after(module: Any, change: Any) -> Iterator[None]:
    """Change the first output of a module."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors agree but for the small number that norms add to what they divide by."""
    return float((one - other).abs().max()) < 2e-3 * float(other.abs().max())


def _scaled(states: torch.Tensor) -> torch.Tensor:
    return 3.0 * states


def _position(block: Block) -> str:
    query, output, mlp = block.first(QUERY), block.first(("attention_output",)), block.first(MLP)
    has_pre = _same(block.input_of(query, _before(block.module, _scaled)), block.input_of(query))
    if not has_pre:
        return "post"
    if _same(block.output(_after(output, _scaled)), block.output()):
        return "both"
    if mlp is not None and _same(block.input_of(mlp, _after(output, _scaled)), block.input_of(mlp)):
        return "parallel"
    return "pre"


def _has_query_norm(block: Block) -> bool:
    module, slot, _ = next(block.slots[role] for role in QUERY[:1] + QUERY[2:] if role in block.slots)
    runs = slot.rows.runs() if slot.rows else [(0, slot.out_features)]
    rows = torch.tensor([row for start, count in runs for row in range(start, start + count)])
    output = block.first(("attention_output",))

    def scaled(states: torch.Tensor) -> torch.Tensor:
        changed = states.clone()
        changed[..., rows] *= 3.0
        return changed

    return _same(block.input_of(output, _after(module, scaled)), block.input_of(output))


def _kinds(block: Block) -> set[str]:
    """Return the kinds of the norms over the hidden states: a layer norm does not see a constant that is added."""
    kinds: set[str] = set()
    assert block.base is not None
    hidden_size = block.base.hidden_size

    def look(module: Any, args: Any, _output: Any) -> None:
        if len(args) == 1 and args[0].shape[-1] == hidden_size:
            plain, shifted = module.forward(args[0]), module.forward(args[0] + 1.0)
            kinds.add("layer" if _same(shifted, plain) else "rms")

    with ExitStack() as stack:
        for module in block.module.modules():
            if is_norm(module):
                stack.callback(module.register_forward_hook(look).remove)
        call(block.model, block.case)
    return kinds


NORMED = [
    (case, layout.name)
    for case in UNLIKE
    if case.variant is None
    for layout in case.binder.stacks
    if any(key[0] == layout.name and key[1] == LAYER and key[2] in QUERY for key in case.binding().slots())
]


@pytest.mark.parametrize(("case", "stack"), NORMED, ids=case_of)
def test_the_norms_of_a_block_stand_where_the_binder_says(case: Case, stack: str | None) -> None:
    (layout,) = [layout for layout in case.binder.stacks if layout.name == stack]
    block = Block(case, layout)
    kinds = _kinds(block)

    assert len(kinds) == 1
    found = Norms(kind=kinds.pop(), position=_position(block), query_key=_has_query_norm(block))
    assert found == case.binder.norms_of(case.model_type)
