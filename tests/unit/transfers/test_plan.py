"""Plans: what becomes of every entry and why, before any number is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ual_registry as ual
from tests.handmade import llama_base, small_adapter
from tests.peft_folders import PeftFolders
from ual_registry.air.model import Manifest
from ual_registry.air.roles import ROLES
from ual_registry.binders.base import BaseConfig
from ual_registry.digest import Digest
from ual_registry.errors import NoCounterpartError, StorageError, TransferError, UnknownArchitectureError
from ual_registry.transfers.layers import LayerChoice, layer_map
from ual_registry.transfers.plan import Action, Move, RotaryPolicy, TransferPlan, make_plan, slot_label

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made

ROTARY = "rotary position embedding differs between the bases"
LAYERS = "the layer map picks other layers"
EXTRA = "a tensor without a role cannot be projected"
ROWS = "the rows of two vocabularies do not correspond"


def manifest_of(peft_folders: PeftFolders, architecture: str, option: str = "plain") -> Manifest:
    folder = peft_folders.get(architecture, option)
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        return adapter.manifest


def check_covers(plan: TransferPlan, manifest: Manifest) -> None:
    """Kept, projected and dropped are all entries; a drop has a reason and no place, all others have a place."""
    moved = {move.source for move in plan.moves if move.action is not Action.DROPPED}
    dropped = [move.source for move in plan.moves if move.action is Action.DROPPED]
    assert len(dropped) == len(set(dropped))
    assert moved.isdisjoint(dropped)
    assert moved | set(dropped) == {e.label for e in manifest.entries} | {extra.name for extra in manifest.extra}
    targets = [move.target for move in plan.moves if move.action is not Action.DROPPED]
    assert len(targets) == len(set(targets))
    assert all(move.reason for move in plan.moves)
    for move in plan.moves:
        places = (move.target, move.module, move.slot)
        assert (places == (None, None, None)) is (move.action is Action.DROPPED)
        assert move.slot is None or slot_label(move.slot) == move.target
    assert sum(plan.counts().values()) == len(plan.moves)


PLANS: dict[str, tuple[str, str, str, dict[str, Any], dict[str, int], dict[str, int]]] = {
    "llama to gemma3 of the same shape": (
        "llama",
        "plain",
        "gemma3_text",
        {},
        {"kept": 14, "projected": 0, "dropped": 0},
        {},
    ),
    "llama to wider and deeper gemma3": (
        "llama",
        "plain",
        "gemma3_text",
        {"hidden_size": 24, "num_hidden_layers": 3},
        {"kept": 0, "projected": 21, "dropped": 0},
        {},
    ),
    "llama to gemma3 of other heads": (
        "llama",
        "plain",
        "gemma3_text",
        {"head_dim": 4},
        {"kept": 6, "projected": 4, "dropped": 4},
        {ROTARY: 4},
    ),
    "llama to fused gpt2": (
        "llama",
        "plain",
        "gpt2",
        {},
        {"kept": 2, "projected": 6, "dropped": 6},
        {ROTARY: 4, "the target's MLP has no gate": 2},
    ),
    "gpt2 to llama": ("gpt2", "plain", "llama", {}, {"kept": 2, "projected": 6, "dropped": 4}, {ROTARY: 4}),
    "gpt2 to larger gpt2": (
        "gpt2",
        "plain",
        "gpt2",
        {"n_embd": 24, "n_layer": 3},
        {"kept": 0, "projected": 18, "dropped": 0},
        {},
    ),
    "llama to one layer": (
        "llama",
        "plain",
        "llama",
        {"num_hidden_layers": 1},
        {"kept": 7, "projected": 0, "dropped": 7},
        {LAYERS: 7},
    ),
    "t5 to t5": ("t5", "plain", "t5", {}, {"kept": 42, "projected": 0, "dropped": 0}, {}),
    "t5 to wider t5": ("t5", "plain", "t5", {"d_model": 24}, {"kept": 0, "projected": 42, "dropped": 0}, {}),
    "bert to roberta": ("bert", "patterns", "roberta", {}, {"kept": 12, "projected": 0, "dropped": 0}, {}),
    "bert to roberta of other heads, which nothing rotates": (
        "bert",
        "patterns",
        "roberta",
        {"num_attention_heads": 2},
        {"kept": 12, "projected": 0, "dropped": 0},
        {},
    ),
    "bert with heads to roberta": (
        "bert",
        "plain",
        "roberta",
        {},
        {"kept": 12, "projected": 0, "dropped": 2},
        {EXTRA: 2},
    ),
    "embeddings to another vocabulary": (
        "llama",
        "embeddings",
        "gemma3_text",
        {},
        {"kept": 4, "projected": 0, "dropped": 4},
        {ROWS: 2, EXTRA: 2},
    ),
    "a saved module": (
        "llama",
        "modules_to_save",
        "gemma3_text",
        {},
        {"kept": 4, "projected": 0, "dropped": 1},
        {EXTRA: 1},
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_covers_every_entry_and_gives_reasons(
    peft_folders: PeftFolders, target: Callable[..., Any], case: str
) -> None:
    source, option, architecture, changes, counts, reasons = PLANS[case]
    manifest = manifest_of(peft_folders, source, option)
    with ual.from_peft(peft_folders.get(source, option).path, base=peft_folders.get(source, option).base) as adapter:
        plan = ual.plan_transfer(adapter, target(architecture, **changes).folder)

    check_covers(plan, manifest)
    assert (plan.counts(), plan.drop_reasons()) == (counts, reasons)
    assert plan.source == manifest.base_model
    assert (plan.target.id, plan.target.model_type) == (f"target-{architecture}", architecture.removesuffix("_gated"))
    assert plan.rotary is RotaryPolicy.DROP


def test_moves_come_in_the_order_of_the_target_then_the_drops_in_that_of_the_source() -> None:
    """The small adapter by hand: GPT-NeoX of one layer touched, to a Llama of two layers; 4 features, 2 heads."""
    manifest = small_adapter().manifest
    key, query, up = manifest.entries
    plan = make_plan(manifest, llama_base(num_key_value_heads=2, intermediate_size=8), rotary=RotaryPolicy.PROJECT)
    rows = [(str(m.action), m.source, m.target, m.reason, m.entry, m.module and m.module.path) for m in plan.moves]
    assert rows == [
        ("kept", query.label, "layers.0.attention_query", "same shape", query, "model.layers.0.self_attn.q_proj"),
        ("kept", key.label, "layers.0.attention_key", "same shape", key, "model.layers.0.self_attn.k_proj"),
        ("projected", up.label, "layers.0.mlp_up", "(6, 4) to (8, 4)", up, "model.layers.0.mlp.up_proj"),
        ("dropped", "base_model.model.score.weight", None, EXTRA, None, None),
    ]
    assert plan.layers == {None: (0, 1)}


def test_query_and_key_are_dropped_or_projected_as_asked(peft_folders: PeftFolders, target: Callable[..., Any]) -> None:
    manifest = manifest_of(peft_folders, "llama")
    from ual_registry.binders.base import load_base

    base = load_base(target("gpt2").folder)
    dropped = make_plan(manifest, base, rotary="drop")
    projected = make_plan(manifest, base, rotary="project")
    assert dropped.counts() == {"kept": 2, "projected": 6, "dropped": 6}
    assert projected.counts() == {"kept": 4, "projected": 8, "dropped": 2}
    check_covers(projected, manifest)
    rotated = {role.name for role in ROLES.values() if role.is_rotated}
    assert {m.entry.role for m in dropped.moves if m.reason == ROTARY and m.entry} == rotated & {
        entry.role for entry in manifest.entries
    }


def test_how_much_of_a_head_the_source_rotates_is_read_where_its_config_is_at_hand() -> None:
    """A gpt_neox usually rotates a quarter of each head, and this one the whole of it, as a llama does."""
    manifest = small_adapter().manifest
    target = llama_base(num_key_value_heads=2, intermediate_size=8)
    document = {"model_type": "gpt_neox", "rotary_pct": 1.0}
    source = BaseConfig(label="tiny", document=document, digest=Digest.parse(manifest.base_model.config_digest))
    assert make_plan(manifest, target).drop_reasons() == {ROTARY: 2, EXTRA: 1}
    assert make_plan(manifest, target, source=source).drop_reasons() == {EXTRA: 1}


def test_the_same_base_is_recognised_by_its_config_and_keeps_everything(peft_folders: PeftFolders) -> None:
    """Whatever its vocabulary and rotary embedding: the digest of the config says that nothing differs."""
    folder = peft_folders.get("llama", "embeddings")
    with ual.from_peft(folder.path, base=folder.base) as adapter:
        plan = ual.plan_transfer(adapter, folder.base, target_id="org/base")
    assert plan.drop_reasons() == {EXTRA: 2}
    assert {move.target for move in plan.moves if move.action is Action.KEPT} == {
        entry.label for entry in adapter.entries
    }
    assert plan.target.id == "org/base"


@pytest.mark.parametrize(
    ("source", "architecture", "message"),
    [
        (
            "t5",
            "llama",
            "target-llama: the target has no stack 'decoder'; the target has no stack 'encoder'",
        ),
        ("llama", "t5", "target-t5: the target has two stacks"),
    ],
)
def test_a_target_without_any_counterpart_is_refused(
    peft_folders: PeftFolders, target: Callable[..., Any], source: str, architecture: str, message: str
) -> None:
    folder = peft_folders.get(source)
    with ual.from_peft(folder.path, base=folder.base) as adapter, pytest.raises(NoCounterpartError) as caught:
        ual.plan_transfer(adapter, target(architecture).folder)
    assert caught.value.message == f"no entry of the adapter has a place in {message}"
    assert caught.value.context == {"source": source, "target": architecture}
    assert (caught.value.problem_code, caught.value.exit_code) == ("no-counterpart", 5)


@pytest.mark.parametrize(
    ("option", "message", "feature"),
    [
        ("dora", "the adapter holds DoRA magnitudes, which cannot be projected", "dora"),
        ("lora_bias", "the adapter holds biases of lora_B, which cannot be projected", "lora-bias"),
    ],
)
def test_what_a_projection_would_change_the_meaning_of_is_refused(
    peft_folders: PeftFolders, target: Callable[..., Any], option: str, message: str, feature: str
) -> None:
    folder = peft_folders.get("llama", option)
    with ual.from_peft(folder.path, base=folder.base) as adapter, pytest.raises(TransferError) as caught:
        ual.transfer(adapter, target("gemma3_text").folder)
    assert (caught.value.message, caught.value.problem_code) == (message, "unsupported-feature")
    assert caught.value.context == {"feature": feature}
    assert caught.value.hint == "convert it to plain LoRA first (peft: save_as_lora)"


def test_a_rotary_policy_that_is_none_is_refused() -> None:
    with pytest.raises(TransferError) as caught:
        make_plan(small_adapter().manifest, llama_base(), rotary="perhaps")
    assert caught.value.message == "rotary policy 'perhaps': expected one of drop, project"
    assert caught.value.problem_code == "unknown-rotary"


def test_a_target_that_is_not_there_or_unknown_is_told_of(air_file: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as missing:
        ual.plan_transfer(air_file, tmp_path / "none")
    assert missing.value.message == f"cannot read {tmp_path / 'none'}: no such file or folder"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba9"}))
    with pytest.raises(UnknownArchitectureError, match="no binder for model_type 'mamba9'"):
        ual.plan_transfer(air_file, tmp_path / "config.json")


def test_a_plan_of_a_file_is_that_of_its_adapter(air_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_base().document))
    with ual.read(air_file) as adapter:
        assert ual.plan_transfer(air_file, tmp_path / "config.json") == ual.plan_transfer(
            adapter, tmp_path / "config.json"
        )


def test_reasons_are_counted_the_most_frequent_first() -> None:
    base = small_adapter().manifest.base_model
    moves = [Move(source=str(i), target=None, action=Action.DROPPED, reason="ab"[i > 0]) for i in range(3)]
    plan = TransferPlan(source=base, target=base, layers={}, rotary=RotaryPolicy.DROP, moves=tuple(moves))
    assert list(plan.drop_reasons().items()) == [("b", 2), ("a", 1)]
    assert plan.counts() == {"kept": 0, "projected": 0, "dropped": 3}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("pick", ("kept", "same shape", 1.0)), ("pool", ("projected", "same shape, shared out", 0.5))],
)
def test_a_source_layer_of_several_target_layers_is_shared_out_where_layers_are_pooled(
    policy: str, expected: tuple[str, str, float]
) -> None:
    manifest = small_adapter().manifest
    source = replace(
        manifest.base_model, stacks=tuple(replace(stack, num_layers=2) for stack in manifest.base_model.stacks)
    )
    up = next(entry for entry in manifest.entries if entry.role == "mlp_up")
    manifest = replace(manifest, base_model=source, entries=(replace(up, layer=1, out_features=8),), extra=())
    base = llama_base(num_key_value_heads=2, intermediate_size=8)
    choice = LayerChoice(rule="cka", policy=policy, found={None: (1, 1)})
    plan = make_plan(manifest, base, layers=choice)
    assert [(move.target, str(move.action), move.reason, move.weight) for move in plan.moves] == [
        (f"layers.{layer}.mlp_up", *expected) for layer in (0, 1)
    ]
    assert (plan.layers, plan.rule) == ({None: (1, 1)}, "cka")
    assert plan.pools == ({None: ((0, 1), (1,))} if policy == "pool" else {})


@given(st.integers(1, 100), st.integers(1, 100))
def test_the_layer_map_is_monotone_and_ends_on_the_ends(source: int, target: int) -> None:
    found = layer_map(source, target)
    assert len(found) == target
    assert list(found) == sorted(found)
    assert found[0] == 0
    assert target == 1 or found[-1] == source - 1
    # Proportional: no layer is further than half a step from its place.
    steps = max(target - 1, 1)
    assert all(abs(layer - index * (source - 1) / steps) <= 0.5 for index, layer in enumerate(found))
    if source == target:
        assert found == tuple(range(source))
    if target <= source:
        assert len(set(found)) == target
    else:
        assert set(found) == set(range(source))


def test_the_layer_map_of_known_depths() -> None:
    assert layer_map(2, 3) == (0, 1, 1)
    assert layer_map(12, 6) == (0, 2, 4, 7, 9, 11)
    assert layer_map(1, 3) == (0, 0, 0)
    assert layer_map(5, 1) == (0,)


def test_a_stack_that_only_the_target_has_asks_for_no_layer(peft_folders: PeftFolders) -> None:
    """Both bases have two stacks here, so that an entry of one stack never goes to the other."""
    manifest = manifest_of(peft_folders, "t5")
    only_encoder = replace(manifest, entries=tuple(e for e in manifest.entries if e.stack == "encoder"))
    folder = peft_folders.get("t5")
    from ual_registry.binders.base import load_base

    plan = make_plan(only_encoder, load_base(folder.base))
    check_covers(plan, only_encoder)
    assert {move.target.split(".")[0] for move in plan.moves if move.target} == {"encoder"}
