"""Every role by what it does: which positions it reaches, whether it bends, and which columns it moves.

Changing a slot's rows at one position and watching the module that closes the branch tells the roles apart:
a query reaches its own position alone and bends (softmax); a key reaches others and bends; a value reaches others
and is linear; the gate of an MLP bends and what is multiplied with it is linear.
"""

from __future__ import annotations

import pytest
import torch

from tests.proof.cases import UNLIKE, Case, case_of
from tests.proof.probe import CLOSING, POSITION, Place, Probe, place, probe_of
from ual_registry.binders.slots import Slot

pytestmark = pytest.mark.filterwarnings("ignore")

ONE, MANY, ANY = "one position", "many positions", "any positions"
LINEAR, BENT = "linear", "bent"

ATTENTION = {
    "attention_query": (ONE, BENT),
    "attention_key": (MANY, BENT),
    "attention_value": (MANY, LINEAR),
    "cross_attention_query": (ONE, BENT),
    "cross_attention_key": (MANY, BENT),
    "cross_attention_value": (MANY, LINEAR),
    "latent_query_down": (ONE, BENT),
    "latent_query_up": (ONE, BENT),
    "latent_key_value_down": (MANY, BENT),
    "latent_key_rotary": (MANY, BENT),
    "latent_key_up": (MANY, BENT),
    "latent_value_up": (MANY, LINEAR),
    "attention_position_query": (ANY, BENT),
    "attention_position_key": (ANY, BENT),
}
STATE_SPACE = {
    "state_space_in": (MANY, BENT),
    "state_space_gate": (ONE, BENT),
    "state_space_step_down": (MANY, BENT),
    "state_space_step_up": (MANY, BENT),
    "state_space_input": (MANY, LINEAR),
    "state_space_output": (ONE, LINEAR),
}
_OF_DISTANCES = ("attention_position_query", "attention_position_key")
"""Roles that read a table of distances; what is added to all of them alike changes no choice of the attention."""
_EVERY_OTHER = slice(None, None, 2)
MLP = ("mlp_gate", "mlp_up", "shared_mlp_gate", "shared_mlp_up")


def closing_role(role: str) -> str:
    """Return the role that closes the branch of a role."""
    if role.startswith("cross_attention_"):
        return "cross_attention_output"
    if role.startswith(("attention_", "latent_")):
        return "attention_output"
    if role.startswith("state_space_"):
        return "state_space_out"
    return "shared_mlp_down" if role.startswith("shared_") else "mlp_down"


def expected(slot: Slot, slots: dict[Place, object]) -> tuple[str, str]:
    """Return what the role of a slot promises."""
    if slot.role in MLP:
        gate = slot.role.replace("_up", "_gate")
        is_linear = slot.role != gate and place(slot, gate) in slots
        return ANY, LINEAR if is_linear else BENT
    return (ATTENTION | STATE_SPACE)[slot.role]


def found(probe: Probe, slot: Slot, base: dict[Place, torch.Tensor]) -> tuple[str, str]:
    """Return what a change of a slot does to its branch."""
    torch.manual_seed(3)
    delta = (0.7 + 0.6 * torch.rand(slot.out_features)) * torch.randn(slot.out_features).sign()
    if slot.role in _OF_DISTANCES:
        delta *= 8.0  # their scores are one of several kinds, and each counts for less
    wanted, _ = expected(slot, dict(probe.slots))
    position = _EVERY_OTHER if slot.role in _OF_DISTANCES else None if wanted == ANY else POSITION
    key, branch = place(slot), place(slot, closing_role(slot.role))
    if branch not in base:
        return "never runs", "never runs"
    before = base[branch]
    more = probe.run({key: delta}, position=position, until=branch)[branch]
    less = probe.run({key: -delta}, position=position, until=branch)[branch]
    moved = ((more - before).abs().amax(1) > 1e-5).nonzero().flatten().tolist()
    reach = {(): "nothing", (POSITION,): ONE}.get(tuple(moved), MANY if len(moved) > 1 else f"position {moved}")
    change = (more - less).abs().max()
    bend = float((more + less - 2 * before).abs().max() / change) if change else 0.0
    shape = LINEAR if bend < 1e-3 else BENT if bend > 1e-2 else f"unclear ({bend})"
    return (wanted if wanted == ANY and moved else reach), shape


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_every_slot_does_what_its_role_says(case: Case) -> None:
    probe = probe_of(case)
    base = probe.base
    judged = [slot for _, slot in probe.slots.values() if slot.role in {*ATTENTION, *STATE_SPACE, *MLP}]
    idle = _idle_experts(probe, base)
    judged = [slot for slot in judged if (slot.layer, slot.expert) not in idle]

    wanted = {place(slot): expected(slot, dict(probe.slots)) for slot in judged}
    assert {place(slot): found(probe, slot, base) for slot in judged} == wanted


def _idle_experts(probe: Probe, base: dict[Place, torch.Tensor]) -> set[tuple[int | None, int | None]]:
    """Return the experts that no token was sent to, or nothing but zeros; in every mixture some must work."""
    experts = [slot for _, slot in probe.slots.values() if slot.role == "mlp_down" and slot.expert is not None]
    idle = {(slot.layer, slot.expert) for slot in experts if not base.get(place(slot), torch.empty(0)).any()}
    assert not experts or len(idle) < len(experts)
    return idle


HEADS = {
    "attention_query": "num_attention_heads",
    "latent_query_up": "num_attention_heads",
    "cross_attention_query": "num_attention_heads",
    "attention_key": "num_key_value_heads",
    "latent_key_up": "num_key_value_heads",
    "cross_attention_key": "num_key_value_heads",
    "attention_value": "num_key_value_heads",
    "latent_value_up": "num_key_value_heads",
    "cross_attention_value": "num_key_value_heads",
}


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_every_head_of_a_slot_moves_its_own_columns(case: Case) -> None:
    """Query head h moves the columns of head h; a key or value head those of all query heads that share it."""
    probe = probe_of(case)
    base = probe.base
    wanted, seen = {}, {}
    for _, slot in probe.slots.values():
        stack = probe.binding.base.stack(slot.stack)
        if slot.role in HEADS and stack is not None:
            heads, queries = getattr(stack, HEADS[slot.role]), stack.num_attention_heads
            assert queries is not None
            share = queries // heads
            for head, delta in enumerate(_deltas_by_head(slot, heads)):
                branch = place(slot, closing_role(slot.role))
                change = probe.run({place(slot): delta}, position=POSITION, until=branch)
                wanted[place(slot), head] = list(range(head * share, (head + 1) * share))
                seen[place(slot), head] = _moved_heads(change[branch] - base[branch], queries)
    assert seen == wanted


def _deltas_by_head(slot: Slot, heads: int) -> list[torch.Tensor]:
    """Return changes of a slot's rows, each of one head alone."""
    torch.manual_seed(0)
    rows = torch.randn(heads, slot.out_features // heads)
    return [(torch.eye(heads)[head, :, None] * rows).flatten() for head in range(heads)]


def _moved_heads(change: torch.Tensor, queries: int) -> list[int]:
    """Return the query heads whose columns of an attention result changed."""
    moved = change.unflatten(1, (queries, -1)).abs().amax((0, 2)) > 1e-5
    return moved.nonzero().flatten().tolist()


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_the_rows_of_a_value_head_are_the_columns_of_the_result(case: Case) -> None:
    """The result is a weighted sum of values, so that row j of a head moves column j and no other."""
    probe = probe_of(case)
    base = probe.base
    for _, slot in probe.slots.values():
        stack = probe.binding.base.stack(slot.stack)
        if slot.role in ("attention_value", "cross_attention_value", "latent_value_up") and stack is not None:
            heads, queries = stack.num_key_value_heads or 0, stack.num_attention_heads or 0
            torch.manual_seed(1)
            delta = torch.randn(slot.out_features)
            branch = place(slot, closing_role(slot.role))
            change = probe.run({place(slot): delta}, position=POSITION, until=branch)[branch] - base[branch]
            rows = delta.unflatten(0, (heads, -1)).repeat_interleave(queries // heads, 0)
            weights = (change.unflatten(1, (queries, -1)) * rows).sum(-1) / (rows * rows).sum(-1)
            got, want = change.unflatten(1, (queries, -1)), weights[..., None] * rows
            torch.testing.assert_close(got, want, rtol=0, atol=1e-4, msg=str(place(slot)))


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_the_rows_of_gate_and_up_are_the_columns_that_go_down(case: Case) -> None:
    probe = probe_of(case)
    base = probe.base
    idle = _idle_experts(probe, base)
    wanted, seen = {}, {}
    for _, slot in probe.slots.values():
        if slot.role in MLP and (slot.layer, slot.expert) not in idle:
            torch.manual_seed(2)
            chosen = torch.rand(slot.out_features) < 0.5
            branch = place(slot, closing_role(slot.role))
            change = probe.run({place(slot): 3.0 * chosen}, until=branch)[branch] - base[branch]
            wanted[place(slot)] = chosen.nonzero().flatten().tolist()
            seen[place(slot)] = (change.abs().amax(0) > 1e-5).nonzero().flatten().tolist()
    assert seen == wanted


@pytest.mark.parametrize("case", UNLIKE, ids=case_of)
def test_every_branch_is_closed(case: Case) -> None:
    probe = probe_of(case)
    closing = {key for key in probe.slots if key[2] in CLOSING and key[3] is None}
    assert closing - probe.base.keys() == set()
