"""The plan of a transfer that carries the adapter as a whole: which modules of the target get an update.

Layers and roles of the adapter play no part in it, so that nothing of the adapter has to have a counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ual_registry.air.model import Manifest, Stack
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.describe import describe_base
from ual_registry.errors import NoCounterpartError
from ual_registry.transfers.layers import layer_map
from ual_registry.transfers.plan import Action, Move, RotaryPolicy, TransferPlan, slot_label
from ual_registry.transfers.rungs import Rung

__all__ = ["make_whole_plan"]

_WHOLE = "whole adapter"  # as transfers.whole_adapter has it, beside what loads torch


def make_whole_plan(
    manifest: Manifest,
    target: BaseConfig,
    rung: Rung,
    *,
    target_id: str | None = None,
    target_revision: str | None = None,
) -> TransferPlan:
    """Plan a transfer of the whole adapter.

    Args:
        manifest: The adapter's manifest.
        target: The base model to go to.
        rung: The method.
        target_id: Label of the target; the name of its folder where absent.
        target_revision: Its commit, where known.

    Raises:
        NoCounterpartError: The target has no module that could get an update.
        BinderError: The target is unknown.
    """
    base = describe_base(target, id=target_id, revision=target_revision)
    moves = tuple(_moves(bind(target), rung))
    if not moves:
        raise NoCounterpartError(
            f"base model {base.id} has no {' or '.join(rung.roles)} that could get an update",
            context={"target": base.id, "method": rung.name},
            hint="choose another method",
        )
    layers = {stack.name: _layers(manifest.base_model.stack(stack.name), stack.num_layers) for stack in base.stacks}
    return TransferPlan(source=manifest.base_model, target=base, layers=layers, rotary=RotaryPolicy.DROP, moves=moves)


def _layers(source: Stack | None, target_layers: int) -> tuple[int, ...]:
    return layer_map(source.num_layers, target_layers) if source else ()


def _moves(binding: Binding, rung: Rung) -> Iterator[Move]:
    found = [
        (slot.layer, module, slot)
        for module, slot in binding.slots().values()
        if slot.layer is not None and slot.role in rung.roles and slot.expert is None
    ]
    layers = sorted({layer for layer, _, _ in found})
    wanted = set(layers[-math.ceil(len(layers) * rung.last_share) :]) if layers else set()
    for layer, module, slot in found:
        if layer in wanted:
            yield Move(
                source=_WHOLE,
                target=slot_label(slot),
                action=Action.PROJECTED,
                reason=rung.summary,
                module=module,
                slot=slot,
            )
