"""Transfers by the residual stream: the record, warnings, what is refused, and the walk through the blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import GEMMA3, save, strong_model
from tests.unit.transfers.bases import TEXTS, gpt2, llama
from tests.unit.transfers.test_run_predictions import random_adapter
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import BaseMismatchError, NoCounterpartError, NumericalError, TransferError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.tensors import entry_factors
from ual_registry.transfers.blocks import BlockWalk, block_paths, updated
from ual_registry.transfers.effect_material import ResidualOptions
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.report import LEFT_OUT_KEY, MEASURES_KEY, WARNINGS_KEY
from ual_registry.transfers.run_residual import run_residual
from ual_registry.transfers.rungs import rung_of
from ual_registry.transfers.sites import Reader, Side, Site
from ual_registry.transfers.streams import Point, Stream
from ual_registry.transfers.whole_plan import make_whole_plan

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

SOURCE = Digest.of_bytes(b"source")
FAST = ResidualOptions(rank=4, gate=-1.0)
Bases = tuple[LoadedBase, LoadedBase]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    folder = tmp_path_factory.mktemp("bases")
    return llama(folder), gpt2(folder)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    return load_base_model(save(strong_model("Gemma3ForCausalLM", GEMMA3), tmp_path_factory.mktemp("gemma") / "gemma"))


def transfer(bases: Bases, texts: list[str] = TEXTS, options: ResidualOptions = FAST, **changes: Any) -> Any:
    adapter = changes.get("adapter") or random_adapter(bases[0])
    plan = make_plan(adapter.manifest, bases[1].config)
    return run_residual(adapter, plan, *bases, texts, source_digest=SOURCE, options=options)


def test_an_adapter_goes_to_another_architecture_with_its_record(bases: Bases, tmp_path: Path) -> None:
    target = bases[1]
    result = transfer(bases)

    assert [(entry.layer, entry.role, entry.source, entry.rank) for entry in result.adapter.entries] == [
        (layer, "mlp_down", f"transformer.h.{layer}.mlp.c_proj", 4) for layer in range(3)
    ]
    assert result.adapter.manifest.base_model == replace(target.base, model_class=None)
    assert result.report.plan.counts() == {"kept": 0, "projected": 3, "dropped": 0}
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["method"] == "residual"
    counts = [result.report.settings[name] for name in ("positions", "held_out_positions")]
    assert min(counts) > 100
    assert statement.parameters["settings"] == {
        "roles": ["mlp_down"],
        "target_layers": [0, 1, 2],
        "rank": 4,
        "penalties": [0.3, 0.1, 0.03, 0.01],
        "map_penalties": [0.1, 0.03, 0.01, 0.001],
        "reach": 0,
        "gate": -1.0,
        "positions": counts[0],
        "held_out_positions": counts[1],
        "skipped_tokens": 4,
        "seed": 0,
    }
    measures = statement.annotations[MEASURES_KEY]
    assert set(measures["layers.0.mlp_down"]) == {
        "source_layer",
        "stream_r2",
        "stream_penalty",
        "update_r2",
        "update_penalty",
        "stream_reached",
    }
    assert [measures[f"layers.{layer}.mlp_down"]["source_layer"] for layer in range(3)] == [0, 1, 1]
    assert [item["name"] for item in statement.materials[3:]] == [
        "source base weights",
        "target base weights",
        "calibration text",
    ]
    write(result.adapter, tmp_path / "made.air")
    assert [problem.code for problem in validate_file(tmp_path / "made.air").problems] == ["unpinned-base"]
    with attach(target.model, result.adapter) as attachment:
        assert attachment.modules == tuple(f"transformer.h.{layer}.mlp.c_proj" for layer in range(3))


def test_what_cannot_be_planned_entry_by_entry_is_fitted_on_its_own_base_too(bases: Bases) -> None:
    """An adapter with DoRA has a plan for the whole alone, which keeps no entry."""
    base = bases[0]
    adapter = random_adapter(base)
    plan = make_whole_plan(adapter.manifest, base.config, rung_of("residual"))
    result = run_residual(adapter, plan, base, base, TEXTS, source_digest=SOURCE, options=FAST)
    assert {entry.action for entry in result.report.entries} == {"projected"}
    kept = run_residual(
        adapter, make_plan(adapter.manifest, base.config), base, base, TEXTS, source_digest=SOURCE, options=FAST
    )
    assert {entry.action for entry in kept.report.entries} == {"kept"}


def test_attention_gets_an_update_too_where_that_is_asked_for(bases: Bases) -> None:
    result = transfer(bases, options=replace(FAST, roles=("mlp_down", "attention_output"), layers=(1, 2), reach=1))
    assert [entry.target for entry in result.report.entries] == [
        "layers.1.attention_output",
        "layers.1.mlp_down",
        "layers.2.attention_output",
        "layers.2.mlp_down",
    ]
    assert result.report.settings["roles"] == ["mlp_down", "attention_output"]


def test_a_plan_of_the_whole_adapter_maps_layers_by_their_depth(bases: Bases) -> None:
    adapter = random_adapter(bases[0])
    plan = replace(make_plan(adapter.manifest, bases[1].config), layers={})
    result = run_residual(adapter, plan, *bases, TEXTS, source_digest=SOURCE, options=FAST)
    assert [entry.measures["source_layer"] for entry in result.report.entries] == [0, 1, 1]


def test_the_same_text_and_seed_give_the_same_numbers(bases: Bases) -> None:
    one, other = (transfer(bases, options=replace(FAST, max_rows=150)) for _ in range(2))
    assert one.report.settings["positions"] + one.report.settings["held_out_positions"] == 150
    assert {name: tensor.to_bytes() for name, tensor in one.adapter.tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in other.adapter.tensors.items()
    }


def test_layers_below_the_gate_get_nothing_and_it_is_said_why(bases: Bases) -> None:
    scores = [entry.measures["stream_r2"] for entry in transfer(bases).report.entries]
    gate = sorted(scores)[1]
    result = transfer(bases, options=replace(FAST, gate=gate))
    lowest = scores.index(min(scores))
    reason = f"its stream is not predictable from the source's: held-out R2 {min(scores):.2f}, under {gate:g}"
    assert result.report.left_out == {f"layers.{lowest}.mlp_down": reason}
    assert result.adapter.manifest.provenance[0].annotations[LEFT_OUT_KEY] == result.report.left_out
    assert len(result.adapter.entries) == 2


def test_where_no_stream_passes_the_gate_there_is_no_result(bases: Bases) -> None:
    with pytest.raises(NoCounterpartError, match="nothing of the adapter's effect can be carried to gpt2: its stream"):
        transfer(bases, options=replace(FAST, gate=1.0))


def test_few_positions_are_warned_of(bases: Bases) -> None:
    result = transfer(bases, options=replace(FAST, max_rows=60))
    count = result.report.settings["positions"]
    few = (
        f"{count} aligned positions for updates that read up to 96 features: in some directions the penalty alone "
        "decides; give more text"
    )
    assert result.report.warnings[0] == few
    assert result.adapter.manifest.provenance[0].annotations[WARNINGS_KEY][0] == few


def test_an_adapter_without_effect_is_refused(bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        transfer(bases, adapter=random_adapter(bases[0], size=0.0))
    assert caught.value.problem_code == "no-effect"


def test_another_base_model_is_refused_unless_any_will_do(bases: Bases, tmp_path: Path) -> None:
    other = llama(tmp_path, rms_norm_eps=1e-3)
    adapter = random_adapter(bases[0])
    with pytest.raises(BaseMismatchError):
        transfer((other, bases[1]), adapter=adapter)
    result = transfer((other, bases[1]), adapter=adapter, options=replace(FAST, any_base=True))
    assert len(result.adapter.entries) == 3


@pytest.mark.parametrize(
    ("options", "where"), [({"layers": (1, 7)}, " in layers [7]"), ({"layers": ()}, "")], ids=["a layer", "no layer"]
)
def test_a_target_without_the_modules_is_refused(options: dict[str, Any], where: str, bases: Bases) -> None:
    with pytest.raises(NoCounterpartError) as caught:
        transfer(bases, options=replace(FAST, **options))
    assert str(caught.value) == f"base model gpt2 has no mlp_down{where} that could get an update"


@pytest.mark.parametrize("texts", [TEXTS[:1], ["ab", "cd"]])
def test_too_little_text_is_refused(texts: list[str], bases: Bases) -> None:
    with pytest.raises(TransferError) as caught:
        transfer(bases, texts)
    assert caught.value.problem_code == "too-little-text"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank: got 0, which is out of range"),
        ({"reach": -1}, "reach: got -1, which is out of range"),
        ({"gate": 1.5}, "gate: got 1.5, which is out of range"),
        ({"max_rows": 3}, "max_rows: got 3, which is out of range"),
        ({"penalties": ()}, "penalties: expected at least one number above 0"),
        ({"map_penalties": (0.0,)}, "map_penalties: expected at least one number above 0"),
        ({"roles": ()}, "roles (none): expected some of attention_output, mlp_down"),
        ({"roles": ("mlp_up",)}, "roles mlp_up: expected some of attention_output, mlp_down"),
    ],
)
def test_settings_without_a_meaning_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        ResidualOptions(**change)
    assert (caught.value.problem_code, str(caught.value)) == ("bad-option", message)


def test_blocks_are_found_by_what_their_modules_have_in_common(bases: Bases, gemma: LoadedBase) -> None:
    assert block_paths(bases[0]) == ("model.layers.0", "model.layers.1")
    assert block_paths(bases[1]) == ("transformer.h.0", "transformer.h.1", "transformer.h.2")
    assert block_paths(gemma) == ("model.layers.0", "model.layers.1")


def texts_of(base: LoadedBase) -> list[tuple[list[int], list[int]]]:
    return [(base.tokenizer(text)["input_ids"], [5, 8, 13]) for text in TEXTS[:3]]


@pytest.mark.parametrize("which", ["llama", "gpt2", "gemma"])
def test_a_walk_computes_what_the_model_computes_with_updates_and_without(
    which: str, bases: Bases, gemma: LoadedBase
) -> None:
    base = {"llama": bases[0], "gpt2": bases[1], "gemma": gemma}[which]
    texts, paths = texts_of(base), block_paths(base)
    adapter = random_adapter(base)
    updates = {entry.source: entry_factors(adapter, entry) for entry in adapter.entries if entry.role == "mlp_down"}
    only = replace(adapter.manifest, entries=tuple(e for e in adapter.entries if e.role == "mlp_down"))
    sites = [Site(path, Side.OUTPUT) for path in paths]
    with attach(base.model, replace(adapter, manifest=only)):
        expected = [Reader(base).rows(*text, sites) for text in texts]
    walk = BlockWalk(base, texts)
    for layer, site in enumerate(sites):
        plain = walk.rows([site])[site]
        own = {path: factors for path, factors in updates.items() if path and path.startswith(f"{paths[layer]}.")}
        with updated(base, own):
            found = walk.rows([site])[site]
            walk.advance()
        torch.testing.assert_close(found, torch.cat([rows[site] for rows in expected]), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(found, plain)
    assert walk.layer == len(paths)


def test_behind_attention_the_stream_is_what_the_block_reads_and_what_attention_adds(gemma: LoadedBase) -> None:
    """Gemma has a norm there whose output is what is added."""
    point = Point(1, "attention_output")
    stream = Stream.of(gemma, [point], texts_of(gemma)[0][0])
    norm = Site("model.layers.1.post_attention_layernorm", Side.OUTPUT)
    block = Site("model.layers.1", Side.INPUT)
    rows = Reader(gemma).rows(*texts_of(gemma)[0], {*stream.sites(point), norm, block})
    torch.testing.assert_close(stream.rows(point, rows), rows[block] + rows[norm], rtol=1e-4, atol=1e-4)


def test_blocks_that_form_no_chain_are_refused(bases: Bases) -> None:
    base = bases[0]
    second: Any = base.module("model.layers.1")
    handle = second.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:]))
    try:
        with pytest.raises(TransferError) as caught:
            BlockWalk(base, texts_of(base))
    finally:
        handle.remove()
    assert caught.value.problem_code == "no-chain"
    assert str(caught.value) == (
        "base model llama: the blocks of LlamaForCausalLM do not hand one state from each to the next"
    )


def test_a_module_that_the_block_does_not_run_is_named(bases: Bases) -> None:
    walk = BlockWalk(bases[0], texts_of(bases[0]))
    with pytest.raises(TransferError) as caught:
        walk.rows([Site("model.layers.1.mlp", Side.OUTPUT)])
    assert str(caught.value) == ("model.layers.1.mlp: block model.layers.0 of llama runs it 0 times, expected one")


def test_numbers_that_are_not_finite_are_refused_with_their_module(bases: Bases) -> None:
    walk = BlockWalk(bases[0], texts_of(bases[0]))
    module: Any = bases[0].module("model.layers.0.mlp")
    handle = module.register_forward_hook(lambda _, __, output: output * float("nan"))
    try:
        with pytest.raises(NumericalError) as caught:
            walk.rows([Site("model.layers.0.mlp.down_proj", Side.INPUT), Site("model.layers.0", Side.OUTPUT)])
    finally:
        handle.remove()
    assert str(caught.value) == "model.layers.0: its output is not finite (base model llama)"
