"""Transfers by predictions: the record, warnings, what is refused, and the parts that read the two models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import decoders

from tests.ground_truth.materials import GEMMA3, RANK, adapter_of, byte_tokenizer, save, strong_model
from tests.unit.transfers.bases import GPT2, TEXTS, llama, merging_tokenizer
from ual_registry.air.adapter import Adapter
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.errors import BaseMismatchError, NoCounterpartError, TransferError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase, load_base_model
from ual_registry.transfers.collect import CollectOptions
from ual_registry.transfers.final_state import find_final_state, find_norms_behind, norm_shape
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.prediction_fit import PredictionOptions, choose_rows
from ual_registry.transfers.report import MEASURES_KEY, WARNINGS_KEY
from ual_registry.transfers.run_predictions import run_predictions
from ual_registry.transfers.shared_tokens import shared_tokens
from ual_registry.transfers.source_change import TokenRows, log_probabilities

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

SOURCE = Digest.of_bytes(b"source")
FAST = PredictionOptions(rank=4, tokens=16, max_rows=200)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedBase, LoadedBase]:
    folder = tmp_path_factory.mktemp("bases")
    return llama(folder), gpt2(folder)


def gpt2(folder: Path) -> LoadedBase:
    """Return a GPT-2 of three blocks, 24 wide, that reads joined bytes and can write them."""
    place = save(strong_model("GPT2LMHeadModel", GPT2), folder / "gpt2")
    writing_tokenizer().save_pretrained(place)
    return load_base_model(place)


def writing_tokenizer() -> Any:
    found = merging_tokenizer()
    found.backend_tokenizer.decoder = decoders.ByteLevel()
    return found


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> LoadedBase:
    return load_base_model(save(strong_model("Gemma3ForCausalLM", GEMMA3), tmp_path_factory.mktemp("gemma") / "gemma"))


def random_adapter(base: LoadedBase, *, size: float = 0.3, roles: tuple[str, ...] = ()) -> Adapter:
    torch.manual_seed(9)
    every = (module for module in base.binding.modules.values() if module.slots[0].layer is not None)
    modules = [module for module in every if not roles or module.slots[0].role in roles]
    shapes = {module.path: module.matrix_shape for module in modules}
    factors = {
        path: (torch.randn(RANK, width) * width**-0.5, torch.randn(height, RANK) * size)
        for path, (height, width) in shapes.items()
    }
    return adapter_of(base, modules, factors)


def transfer(
    adapter: Adapter, source: LoadedBase, target: LoadedBase, texts: list[str], options: PredictionOptions = FAST
) -> Any:
    plan = make_plan(adapter.manifest, target.config)
    return run_predictions(adapter, plan, source, target, texts, source_digest=SOURCE, options=options)


def test_an_adapter_goes_to_another_architecture_with_its_record(
    bases: tuple[LoadedBase, LoadedBase], tmp_path: Path
) -> None:
    source, target = bases
    adapter = random_adapter(source)
    result = transfer(adapter, source, target, TEXTS)

    (entry,) = result.adapter.entries  # the last third of three layers
    assert (entry.layer, entry.role, entry.source, entry.rank) == (2, "mlp_down", "transformer.h.2.mlp.c_proj", 4)
    assert result.adapter.manifest.base_model == replace(target.base, model_class=None)
    assert result.report.plan.counts() == {"kept": 0, "projected": 1, "dropped": 0}
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["method"] == "predictions"
    assert statement.parameters["settings"] == {
        "roles": ["mlp_down"],
        "target_layers": [2],
        "rank": 4,
        "sweeps": 2,
        "penalties": [0.3, 0.1, 0.03, 0.01],
        "state_penalty": 0.05,
        "tokens": 16,
        "token_groups": 256,  # every byte begins some of the target's tokens; the beginning of text has no group
        "teacher_weight": 0.5,
        "positions": 200,
        "held_out_positions": 50,
        "skipped_tokens": 4,
        "top_share": 0.5,
        "seed": 0,
    }
    measures = statement.annotations[MEASURES_KEY]["layers.2.mlp_down"]
    assert set(measures) == {
        "divergence_before",
        "divergence_after",
        "sweep_1_r2",
        "sweep_1_penalty",
    }  # the second sweep does harm to held-out text, so it is left out
    reached = 1 - measures["divergence_after"] / measures["divergence_before"]
    assert result.report.entries[0].energy_kept == pytest.approx(max(reached, 0.0), abs=1e-5)
    assert [item["name"] for item in statement.materials[3:]] == [
        "source base weights",
        "target base weights",
        "calibration text",
    ]
    write(result.adapter, tmp_path / "made.air")
    assert [problem.code for problem in validate_file(tmp_path / "made.air").problems] == ["unpinned-base"]
    with attach(target.model, result.adapter) as attachment:
        assert attachment.modules == ("transformer.h.2.mlp.c_proj",)


def test_no_sweep_is_kept_that_does_harm_to_held_out_text(bases: tuple[LoadedBase, LoadedBase]) -> None:
    adapter = random_adapter(bases[0])
    results = [transfer(adapter, *bases, TEXTS, replace(FAST, sweeps=sweeps)) for sweeps in (1, 2, 4)]
    measures = [result.report.entries[0].measures for result in results]
    assert [own["divergence_after"] for own in measures] == [measures[0]["divergence_after"]] * 3
    assert [list(own)[-1] for own in measures] == ["sweep_1_penalty"] * 3
    first, *others = [{name: tensor.to_bytes() for name, tensor in own.adapter.tensors.items()} for own in results]
    assert others == [first, first]


def test_the_same_text_and_seed_give_the_same_numbers(bases: tuple[LoadedBase, LoadedBase]) -> None:
    adapter = random_adapter(bases[0])
    one, other = (transfer(adapter, *bases, TEXTS, replace(FAST, sweeps=1)).adapter for _ in range(2))
    assert {name: tensor.to_bytes() for name, tensor in one.tensors.items()} == {
        name: tensor.to_bytes() for name, tensor in other.tensors.items()
    }


def test_few_positions_are_warned_of(bases: tuple[LoadedBase, LoadedBase]) -> None:
    result = transfer(random_adapter(bases[0]), *bases, TEXTS[:3], replace(FAST, sweeps=1, max_rows=60))
    few = (
        "60 aligned positions for updates that read up to 96 features: in some directions the penalty alone decides; "
        "give more text"
    )
    assert result.report.warnings[0] == few
    assert result.adapter.manifest.provenance[0].annotations[WARNINGS_KEY][0] == few


def test_an_adapter_without_effect_is_refused(bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        transfer(random_adapter(bases[0], size=0.0), *bases, TEXTS)
    assert caught.value.problem_code == "no-effect"


def test_another_base_model_is_refused_unless_any_will_do(bases: tuple[LoadedBase, LoadedBase], tmp_path: Path) -> None:
    source, target = bases
    other = llama(tmp_path, rms_norm_eps=1e-3)
    adapter = random_adapter(source)
    with pytest.raises(BaseMismatchError):
        transfer(adapter, other, target, TEXTS)
    result = transfer(adapter, other, target, TEXTS, replace(FAST, sweeps=1, any_base=True))
    assert [entry.layer for entry in result.adapter.entries] == [2]


@pytest.mark.parametrize("options", [PredictionOptions(roles=("mlp_gate",)), PredictionOptions(layers=(1, 7))])
def test_a_target_without_the_modules_is_refused(
    options: PredictionOptions, bases: tuple[LoadedBase, LoadedBase]
) -> None:
    with pytest.raises(NoCounterpartError) as caught:
        transfer(random_adapter(bases[0]), *bases, TEXTS, options)
    where = "mlp_down in layers [7]" if options.layers else "mlp_gate"
    assert str(caught.value) == f"base model gpt2 has no {where} that could get an update"


@pytest.mark.parametrize("texts", [TEXTS[:1], ["ab", "cd"]])
def test_too_little_text_is_refused(texts: list[str], bases: tuple[LoadedBase, LoadedBase]) -> None:
    with pytest.raises(TransferError) as caught:
        transfer(random_adapter(bases[0]), *bases, texts)
    assert caught.value.problem_code == "too-little-text"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roles": ()}, "roles: got (), which is out of range"),
        ({"rank": 0}, "rank: got 0, which is out of range"),
        ({"sweeps": 0}, "sweeps: got 0, which is out of range"),
        ({"state_penalty": 0.0}, "state_penalty: got 0.0, which is out of range"),
        ({"tokens": 0}, "tokens: got 0, which is out of range"),
        ({"teacher_weight": 1.1}, "teacher_weight: got 1.1, which is out of range"),
        ({"max_rows": 1}, "max_rows: got 1, which is out of range"),
        ({"top_share": 1.5}, "top_share: got 1.5, which is out of range"),
        ({"penalties": ()}, "penalties: expected at least one number above 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TransferError) as caught:
        PredictionOptions(**change)
    assert (caught.value.problem_code, str(caught.value)) == ("bad-option", message)


def test_tokens_are_shared_that_stand_for_the_same_text() -> None:
    source, target = byte_tokenizer(), writing_tokenizer()
    found = shared_tokens(source, target, sizes=(257, 400), bases=("a", "b"))
    names = [source.convert_ids_to_tokens(found.source.tolist()), target.convert_ids_to_tokens(found.target.tolist())]
    assert names[0] == names[1]
    assert len(found) == 256  # all bytes, and not the beginning of text
    assert len(shared_tokens(source, target, sizes=(100, 400), bases=("a", "b"))) == 100


def test_the_final_state_gives_the_logits(bases: tuple[LoadedBase, LoadedBase], gemma: LoadedBase) -> None:
    for base, path in ((bases[0], "model.norm"), (bases[1], "transformer.ln_f"), (gemma, "model.norm")):
        ids = base.tokenizer(TEXTS[0])["input_ids"][:20]
        final = find_final_state(base, ids)
        assert final.path == path
        with torch.no_grad():
            states = base.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        logs = torch.log_softmax(final.logits(states), dim=1)
        np.testing.assert_allclose(logs, log_probabilities(base, ids, range(20)), rtol=0, atol=1e-4)  # float32


def test_norms_are_what_probes_say(bases: tuple[LoadedBase, LoadedBase], gemma: LoadedBase) -> None:
    rows = torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) + 0.5
    for base, path in ((bases[0], "model.norm"), (gemma, "model.norm")):
        module: Any = base.module(path)
        found = norm_shape(module, 32)
        assert not found.is_centred
        with torch.no_grad():
            np.testing.assert_allclose(rows.double() / found.size(rows) * found.gain, module(rows), atol=1e-4)
    layer_norm: Any = bases[1].module("transformer.ln_f")
    found = norm_shape(layer_norm, 24)
    assert found.is_centred
    np.testing.assert_allclose(found.gain, layer_norm.weight, atol=1e-4)


def test_only_gemma_has_norms_behind_its_modules(bases: tuple[LoadedBase, LoadedBase], gemma: LoadedBase) -> None:
    path = "model.layers.1.mlp.down_proj"
    found = find_norms_behind(gemma, [path], list(range(9)))
    assert list(found) == [path]
    norm: Any = gemma.module("model.layers.1.post_feedforward_layernorm")
    np.testing.assert_allclose(found[path].gain, 1 + norm.weight, atol=1e-4)
    assert find_norms_behind(bases[0], [path], list(range(9))) == {}
    assert find_norms_behind(bases[1], ["transformer.h.1.mlp.c_proj"], list(range(9))) == {}


def test_logits_that_are_no_linear_function_of_the_state_are_refused(tmp_path: Path) -> None:
    settings = {**GEMMA3, "final_logit_softcapping": 0.5}
    capped = load_base_model(save(strong_model("Gemma2ForCausalLM", settings), tmp_path / "capped"))
    with pytest.raises(TransferError) as caught:
        find_final_state(capped, list(range(12)))
    assert caught.value.problem_code == "not-linear"
    assert str(caught.value) == (
        "base model capped: its logits are no linear function of its last state, so what it predicts cannot be turned "
        "into a wanted state"
    )


def test_passages_can_be_held_out_more_often(bases: tuple[LoadedBase, LoadedBase]) -> None:
    options = replace(FAST, sweeps=1, max_rows=80, text=CollectOptions(held_out_every=2))
    settings = transfer(random_adapter(bases[0]), *bases, TEXTS[:4], options).report.settings
    assert (settings["positions"], settings["held_out_positions"]) == (80, 20)


def test_the_top_share_of_the_positions_is_where_the_adapter_changes_most() -> None:
    count = 100
    nothing = torch.zeros(count, 1)
    rows = TokenRows(
        passages=torch.zeros(count, dtype=torch.long),
        positions=torch.arange(count),
        groups=nothing.long(),
        before=nothing,
        after=nothing,
        divergence=torch.arange(count).double(),
        covered=torch.ones(count),
    )
    is_held_out = torch.arange(count) < 20
    fitted = {}
    for share in (0.0, 0.5, 1.0):
        found = choose_rows(rows, is_held_out, PredictionOptions(max_rows=40, top_share=share)).tolist()
        fitted[share] = [row for row in found if row >= 20]
    assert [len(own) for own in fitted.values()] == [40, 40, 40]
    assert fitted[1.0] == list(range(60, 100))
    assert fitted[0.5][-20:] == list(range(80, 100))
    assert sum(row >= 60 for row in fitted[0.0]) < 30  # a half would be 20; the same seed draws the same ones
