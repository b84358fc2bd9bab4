"""Transfers by activations: the gate, the record, warnings, and what is refused before any text is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import RANK, adapter_of
from tests.unit.transfers.bases import TEXTS, gpt2, llama
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import BaseMismatchError, NoCounterpartError, TransferError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.projection.aligned import Norm, fit_aligned
from ual_registry.projection.contexts import MapKind
from ual_registry.projection.difference import relative_difference
from ual_registry.projection.maps import Direction, best_ridge, read_directions
from ual_registry.tensors import entry_factors, from_torch
from ual_registry.transfers.collect import CollectOptions, collect
from ual_registry.transfers.layer_similarity import layer_similarity
from ual_registry.transfers.layers import layer_pools, monotone_map
from ual_registry.transfers.module_fit import ActivationOptions, WriteKind
from ual_registry.transfers.outputs import slot_weight, through_linear
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.report import LOST_ROLES_KEY, MEASURES_KEY, WARNINGS_KEY
from ual_registry.transfers.run_activations import run_activations
from ual_registry.transfers.sites import Site, SitePair

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

SOURCE = Digest.of_bytes(b"source")
OPEN = ActivationOptions(gate=-10.0)
FEW = (
    "{count} aligned positions for maps from up to 96 features: in some directions the penalty alone decides; "
    "give more text"
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedBase, LoadedBase]:
    folder = tmp_path_factory.mktemp("bases")
    return llama(folder), gpt2(folder)


def random_adapter(base: LoadedBase, *, size: float = 1.0) -> Adapter:
    torch.manual_seed(9)
    modules = [module for module in base.binding.modules.values() if module.slots[0].layer is not None]
    shapes = {module.path: module.matrix_shape for module in modules}
    factors = {
        path: (torch.randn(RANK, width), torch.randn(height, RANK) * size) for path, (height, width) in shapes.items()
    }
    return adapter_of(base, modules, factors)


def carried(bases: tuple[LoadedBase, LoadedBase], options: ActivationOptions = OPEN, **changes: Any) -> Any:
    adapter = changes.pop("adapter", None) or random_adapter(bases[0])
    plan = make_plan(adapter.manifest, bases[1].config, target_revision="0" * 40)
    return run_activations(adapter, plan, *bases, TEXTS, source_digest=SOURCE, options=options, **changes)


def test_the_record_says_what_was_asked_for_what_went_in_and_what_was_measured(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    found = carried(bases)
    write(found.adapter, tmp_path / "out.air")
    assert validate_file(tmp_path / "out.air").problems == ()
    with read(tmp_path / "out.air") as stored:
        (statement,) = stored.manifest.provenance
        assert stored.manifest.base_model.weights_digest == bases[1].base.weights_digest
    positions = collect(
        *bases, [SitePair(Site("model.layers.0.mlp.down_proj"), Site("transformer.h.0.mlp.c_proj"))], TEXTS
    )
    assert statement.parameters == {
        "method": "activations",
        "layer_map": "proportional",
        "layers": {"single": (0, 1, 1)},
        "rotary": "drop",
        "settings": {
            "maps": "ridge",
            "write": "outputs",
            "penalties": (0.0001, 0.001, 0.01, 0.03, 0.1),
            "gate": -10.0,
            "norm": "functional",
            "positions": positions.positions,
            "held_out_positions": positions.held_out_positions,
            "skipped_tokens": 4,
        },
    }
    assert [material["name"] for material in statement.materials] == [
        "source adapter",
        "source base config",
        "target base config",
        "source base weights",
        "target base weights",
        "calibration text",
    ]
    assert statement.byproducts["projected"] == 12
    assert statement.byproducts["dropped_because"] == {
        "rotary position embedding differs between the bases": 4,
        "the target's MLP has no gate": 2,
    }
    assert set(statement.annotations) == {MEASURES_KEY, LOST_ROLES_KEY}
    assert statement.annotations[LOST_ROLES_KEY] == ("attention_key", "attention_query", "mlp_gate")
    assert set(statement.annotations[MEASURES_KEY]["layers.2.mlp_down"]) == {
        "read_r2",
        "write_r2",
        "read_penalty",
        "write_penalty",
    }
    with attach(bases[1].model, found.adapter) as attached:
        bases[1].model(input_ids=torch.tensor([[1, 2, 3]]))
    assert attached.used == set(attached.modules)


def test_every_update_is_the_source_s_through_both_maps(bases: tuple[LoadedBase, LoadedBase]) -> None:
    options = replace(OPEN, norm=Norm.KEEP, penalties=(0.03, 0.1))
    adapter = random_adapter(bases[0])
    found = carried(bases, options, adapter=adapter)
    source, target = (base.binding.slots() for base in bases)
    for layer, role in ((0, "attention_value"), (2, "mlp_down"), (1, "attention_output")):
        own = source[None, (0, 1, 1)[layer], role, None]
        place = target[None, layer, role, None]
        pair = SitePair(Site(own[0].path), Site(place[0].path))
        inputs = collect(*bases, [pair], TEXTS).of(pair)
        outputs = through_linear(inputs, slot_weight(bases[0], *own), slot_weight(bases[1], *place))
        entry = next(e for e in adapter.entries if (e.layer, e.role) == (own[1].layer, role))
        update = entry_factors(adapter, entry)
        maps = [
            best_ridge(parts.fit, parts.held_out, penalties=(0.03, 0.1), direction=direction, directions=seen)[0]
            for parts, direction, seen in (
                (inputs, Direction.Y_TO_X, read_directions(update)),
                (outputs, Direction.X_TO_Y, None),
            )
        ]
        made = next(e for e in found.adapter.entries if (e.layer, e.role) == (layer, role))
        expected = fit_aligned(update, *maps, norm=Norm.KEEP)
        apart = relative_difference(expected, entry_factors(found.adapter, made))
        assert apart is not None
        assert apart < 1e-6  # the result is stored in float32


def test_modules_under_the_gate_are_left_out_with_the_reason(bases: tuple[LoadedBase, LoadedBase]) -> None:
    r2 = {entry.target: entry.measures["read_r2"] for entry in carried(bases).report.entries}
    gate = sorted(r2.values())[len(r2) // 2]
    found = carried(bases, ActivationOptions(gate=gate))
    assert {entry.target for entry in found.report.entries} == {target for target, value in r2.items() if value >= gate}
    assert found.report.left_out == {
        target: f"what it reads is not predictable there: held-out R2 {value:.2f}, under {gate:g}"
        for target, value in r2.items()
        if value < gate
    }
    moved = {move.source for move in found.report.plan.moves if move.target}
    assert moved.isdisjoint({move.source for move in found.report.plan.moves if not move.target})


def test_layers_can_be_found_by_likeness_and_pooled(bases: tuple[LoadedBase, LoadedBase]) -> None:
    found = carried(bases, replace(OPEN, layer_map="cka", policy="pool"))
    expected = monotone_map(layer_similarity(*bases, TEXTS))
    assert found.report.plan.layers == {None: expected}
    assert found.report.plan.pools == {None: layer_pools(expected, 2)}
    (statement,) = found.adapter.manifest.provenance
    assert statement.parameters["layer_map"] == "cka, pooled"
    assert statement.parameters["settings"]["layer_pools"] == {"single": [list(p) for p in layer_pools(expected, 2)]}
    pooled = carried(bases, replace(OPEN, policy="pool")).report.plan
    assert (pooled.layers, pooled.pools) == ({None: (0, 1, 1)}, {None: ((0,), (1,), (1,))})
    assert pooled.target.revision == "0" * 40
    shared = {(move.source, move.weight) for move in pooled.moves if move.target == "layers.2.mlp_down"}
    assert shared == {("layers.1.mlp_down", 0.5)}


def test_likeness_is_that_of_what_blocks_give(bases: tuple[LoadedBase, LoadedBase]) -> None:
    found = layer_similarity(bases[0], bases[0], TEXTS)
    assert found[0][0] == pytest.approx(1.0, abs=1e-9)
    assert found[1][1] == pytest.approx(1.0, abs=1e-9)
    assert found[0][1] == pytest.approx(found[1][0], rel=1e-9)
    assert found[0][1] < 0.99
    few = layer_similarity(*bases, TEXTS, limit=5)
    assert (len(few), {len(row) for row in few}) == (2, {3})
    assert few != layer_similarity(*bases, TEXTS, limit=50)


def test_too_little_text_to_compare_layers_is_refused(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        layer_similarity(*bases, ["abcde", "fghij"], options=CollectOptions(skip=4))
    assert caught.value.problem_code == "too-little-text"
    assert caught.value.message.endswith("expected at least 4 to compare layers")


def test_nothing_left_is_an_error_with_the_reasons(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(NoCounterpartError, match=r"^no entry of the adapter can be carried to gpt2: what it reads is"):
        carried(bases, ActivationOptions(gate=1.1))


def test_fewer_positions_than_features_are_said(bases: tuple[LoadedBase, LoadedBase]) -> None:
    adapter = random_adapter(bases[0])
    plan = make_plan(adapter.manifest, bases[1].config)
    found = run_activations(adapter, plan, *bases, TEXTS[:2], source_digest=SOURCE, options=OPEN)
    count = found.report.settings["positions"]
    assert count < 96
    assert found.report.warnings == (FEW.format(count=count),)
    assert found.adapter.manifest.provenance[0].annotations[WARNINGS_KEY] == [FEW.format(count=count)]


@pytest.mark.parametrize(
    "options",
    [
        replace(OPEN, kind=MapKind.PROCRUSTES),
        replace(OPEN, kind=MapKind.PROCRUSTES, whitening=0.25),
        replace(OPEN, write=WriteKind.JOINT),
        replace(OPEN, text=CollectOptions(clip=2.0)),
        *(replace(OPEN, norm=norm) for norm in Norm),
    ],
)
def test_every_way_of_fitting_gives_a_legal_adapter_of_finite_numbers(
    options: ActivationOptions, bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    found = carried(bases, options)
    write(found.adapter, tmp_path / "out.air")
    assert validate_file(tmp_path / "out.air").problems == ()
    assert found.report.plan.counts() == {"kept": 0, "projected": 12, "dropped": 6}


def test_an_adapter_without_effect_is_refused_and_named(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        carried(bases, adapter=random_adapter(bases[0], size=0.0))
    assert caught.value.message == (
        "the adapter 'trained here' has no effect: every update is zero, so there is nothing to carry"
    )
    assert caught.value.problem_code == "no-effect"


def test_single_updates_of_zero_are_left_out(bases: tuple[LoadedBase, LoadedBase]) -> None:
    adapter = random_adapter(bases[0])
    entry = next(entry for entry in adapter.entries if (entry.layer, entry.role) == (0, "mlp_down"))
    zero = from_torch(torch.zeros(entry.out_features, entry.rank), "F32")
    found = carried(bases, adapter=Adapter(adapter.manifest, {**adapter.tensors, entry.lora_B: zero}))
    assert found.report.left_out == {"layers.0.mlp_down": "its update is zero"}
    assert found.report.plan.drop_reasons()["its update is zero"] == 1


def test_another_base_than_the_adapter_s_is_refused_unless_that_is_asked_for(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    other = llama(tmp_path, rms_norm_eps=1e-5)
    adapter = random_adapter(bases[0])
    plan = make_plan(adapter.manifest, bases[1].config)
    with pytest.raises(BaseMismatchError) as caught:
        run_activations(adapter, plan, other, bases[1], TEXTS, source_digest=SOURCE)
    assert caught.value.message == (
        f"base model llama: digest of its config is {other.base.config_digest}, the adapter is for llama with "
        f"{bases[0].base.config_digest}"
    )
    options = replace(OPEN, any_base=True)
    found = run_activations(adapter, plan, other, bases[1], TEXTS, source_digest=SOURCE, options=options)
    assert found.report.plan.counts()["projected"] == 12


def test_a_target_without_tokenizer_is_refused(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        carried((bases[0], replace(bases[1], tokenizer=None)))
    assert caught.value.message == "base model gpt2: it has no tokenizer, and text is needed"


def test_a_base_that_predicts_no_next_token_has_no_gradients(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    bases[1].model.transformer.save_pretrained(tmp_path / "body")
    bases[1].tokenizer.save_pretrained(tmp_path / "body")
    body = load_base_model(tmp_path / "body")
    assert carried((bases[0], body)).report.plan.counts()["projected"] == 12
    with pytest.raises(TransferError) as caught:
        carried((bases[0], body), replace(OPEN, write=WriteKind.JOINT))
    assert caught.value.message == (
        "base model body: GPT2Model predicts no next token, so its outputs have no gradient"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "spline"}, "kind 'spline': expected one of ridge, procrustes"),
        ({"write": "inputs"}, "write 'inputs': expected one of outputs, joint"),
        ({"layer_map": "random"}, "layer_map 'random': expected one of proportional, cka"),
        ({"policy": "mix"}, "policy 'mix': expected one of pick, pool"),
        ({"norm": "twice"}, "norm 'twice': expected one of keep, restore, functional, effect"),
        ({"penalties": ()}, "penalties: expected at least one number from 0"),
        ({"penalties": (-1.0,)}, "penalties: expected at least one number from 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        ActivationOptions(**changes)
    assert caught.value.message == message
