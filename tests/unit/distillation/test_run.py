"""Distillation as a whole: it recovers, goes on after an interruption, and says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.distillation.material import mean_loss, sentences
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.distillation.corpus import run_freely
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.run import DistillationResult, distill
from ual_registry.distillation.teacher import TextScores, score_texts
from ual_registry.distillation.texts import Rules, Text
from ual_registry.errors import FormatError, NumericalError, TrainingError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase
from ual_registry.tensors import to_torch


@dataclass(frozen=True)
class Taught:
    """Texts that source and adapter wrote, and what they say of them."""

    texts: Sequence[Text]
    scores: Sequence[TextScores]


@pytest.fixture(scope="module")
def taught(source: LoadedBase, adapter: Named, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    folder = tmp_path_factory.mktemp("taught")
    sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=40, batch_size=32)
    kept = run_freely(source, adapter, sampling, folder / "texts.jsonl", wanted=150, rules=Rules(is_each_once=False))
    scores = score_texts(source.model, source.tokenizer, adapter.adapter, kept.texts, material={})
    return Taught(kept.texts, scores)


BRIEF = Recipe(rank=2, alpha=4.0, steps=6, evaluate_every=2, learning_rate=5e-3)


def run(adapter: Named, target: LoadedBase, taught: Taught, recipe: Recipe = BRIEF, **more: Any) -> DistillationResult:
    return distill(adapter, target, taught.texts, taught.scores, recipe, **more)


def test_a_copy_of_the_base_recovers_what_the_adapter_gained(
    source: LoadedBase, adapter: Named, taught: Taught
) -> None:
    recipe = Recipe(rank=4, alpha=8.0, steps=80, evaluate_every=20, learning_rate=1e-2, batch_size=8, token_share=1.0)
    result = run(adapter, source, taught, recipe)
    test = sentences(60, seed=9)
    base = mean_loss(source.model, source.tokenizer, test)
    with attach(source.model, adapter.adapter):
        native = mean_loss(source.model, source.tokenizer, test)
    with attach(source.model, result.adapter):
        distilled = mean_loss(source.model, source.tokenizer, test)
    assert (base - distilled) / (base - native) >= 0.9


def test_a_target_of_another_tokenizer_and_width_gains(target: LoadedBase, adapter: Named, taught: Taught) -> None:
    recipe = Recipe(rank=4, alpha=8.0, steps=60, evaluate_every=20, learning_rate=1e-2, batch_size=8)
    result = run(adapter, target, taught, recipe)
    test = sentences(60, seed=9)
    base = mean_loss(target.model, target.tokenizer, test)
    with attach(target.model, result.adapter):
        assert mean_loss(target.model, target.tokenizer, test) < 0.6 * base


def test_the_result_is_a_legal_adapter_that_says_how_it_was_made(
    target: LoadedBase, adapter: Named, taught: Taught, tmp_path: Path
) -> None:
    looks: list[tuple[str, int]] = []
    result = run(adapter, target, taught, on_look=lambda name, step, _: looks.append((name, step)))
    write(result.adapter, tmp_path / "made.air")
    # a base model in a folder has no commit
    assert [problem.code for problem in validate_file(tmp_path / "made.air").problems] == ["unpinned-base"]
    manifest, (arm,) = result.adapter.manifest, result.report.arms
    assert (manifest.name, manifest.base_model, len(manifest.entries)) == ("toy language", target.base, 14)
    assert [(own.relation, own.digest) for own in manifest.parents] == [("distilled_from", str(adapter.digest))]
    (statement,) = manifest.provenance
    assert statement.parameters == {
        "method": "sequence-likelihood",
        "texts": 150,
        "steps": arm.best_step,
        "seed": 0,
        "settings": {
            **BRIEF.document(),
            "start": "cold",
            "held_out_texts": result.report.held_out,
            "starts": {
                "cold": {
                    "start_loss": pytest.approx(arm.start_loss, rel=1e-5),
                    "held_out_loss": pytest.approx(arm.held_out_loss, rel=1e-5),
                    "best_step": arm.best_step,
                    "steps": 6,
                }
            },
        },
    }
    assert [own["name"] for own in statement.materials] == [
        "source adapter",
        "source base config",
        "target base config",
        "target base weights",
        "generated texts",
    ]
    assert set(statement.byproducts) == {"held_out_loss", "cold_held_out_loss", "wall_time_s"}
    assert looks == [("cold", 2), ("cold", 4), ("cold", 6)]
    assert [step for step, _ in arm.curve] == [0, 2, 4, 6]
    assert arm.held_out_loss < arm.start_loss


def test_a_warm_and_a_cold_start_are_trained_alike_and_both_reported(
    source: LoadedBase, adapter: Named, taught: Taught, tmp_path: Path
) -> None:
    warm = Named(adapter=adapter.adapter, digest=Digest.of_bytes(b"warm"))
    result = run(adapter, source, taught, warm=warm)
    cold, started = result.report.arms
    assert (cold.name, started.name, result.report.chosen) == ("cold", "warm", "warm")
    assert started.start_loss < cold.held_out_loss
    assert cold.steps == started.steps == BRIEF.steps
    assert [step for step, _ in cold.curve] == [step for step, _ in started.curve]
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["warm_start"] == str(warm.digest)
    assert statement.byproducts["cold_held_out_loss"] == pytest.approx(cold.held_out_loss, rel=1e-5)
    assert {entry.rank for entry in result.adapter.entries} == {4}  # both arms have the ranks of the warm one
    write(result.adapter, tmp_path / "made.air")
    # a base model in a folder has no commit
    assert [problem.code for problem in validate_file(tmp_path / "made.air").problems] == ["unpinned-base"]


@pytest.mark.parametrize("is_contrastive", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_factors(
    target: LoadedBase, adapter: Named, taught: Taught, is_contrastive: bool, tmp_path: Path
) -> None:
    recipe = replace(BRIEF, is_contrastive=is_contrastive, alm_weight=1.0)
    whole = run(adapter, target, taught, recipe)

    def stop(_: str, step: int, loss: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(adapter, target, taught, recipe, folder=tmp_path, on_look=stop)
    again = run(adapter, target, taught, recipe, folder=tmp_path)
    assert [step for step, _ in again.report.arms[0].curve] == [0, 2, 4, 6]
    assert again.report.arms[0].curve == whole.report.arms[0].curve
    for name, tensor in whole.adapter.tensors.items():
        assert torch.equal(to_torch(tensor), to_torch(again.adapter.tensors[name]))
    finished = run(adapter, target, taught, recipe, folder=tmp_path, on_look=stop)  # nothing is left to do
    assert finished.report.arms[0].curve == whole.report.arms[0].curve


def test_a_folder_of_another_run_is_refused(target: LoadedBase, adapter: Named, taught: Taught, tmp_path: Path) -> None:
    run(adapter, target, taught, replace(BRIEF, steps=2), folder=tmp_path)
    with pytest.raises(FormatError) as caught:
        run(adapter, target, taught, replace(BRIEF, steps=2, seed=1), folder=tmp_path)
    file = tmp_path / "cold.safetensors"
    assert (caught.value.message, caught.value.problem_code) == (
        f"{file}: is the checkpoint of another run",
        "checkpoint",
    )
    file.write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"cold\.safetensors: is no checkpoint of a distillation"):
        run(adapter, target, taught, replace(BRIEF, steps=2), folder=tmp_path)


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best(
    source: LoadedBase, adapter: Named, taught: Taught
) -> None:
    recipe = replace(BRIEF, steps=60, evaluate_every=1, patience=2, learning_rate=3.0, max_gradient=1e9)
    (arm,) = run(adapter, source, taught, recipe).report.arms
    assert arm.steps < 60
    assert arm.held_out_loss == min(loss for _, loss in arm.curve)
    assert [loss for _, loss in arm.curve].index(arm.held_out_loss) == arm.best_step


def test_a_budget_in_seconds_ends_the_run(source: LoadedBase, adapter: Named, taught: Taught) -> None:
    (arm,) = run(adapter, source, taught, replace(BRIEF, steps=None, seconds=1e-3)).report.arms
    assert arm.steps <= 1


def test_too_few_texts_are_refused_with_the_numbers(target: LoadedBase, adapter: Named, taught: Taught) -> None:
    with pytest.raises(TrainingError) as caught:
        distill(adapter, target, taught.texts[:1], taught.scores[:1], BRIEF)
    assert caught.value.message == "1 of 1 texts can be trained on, expected 2 or more that differ"
    assert caught.value.problem_code == "too-few-texts"


def test_a_loss_that_is_not_finite_ends_the_run_by_name(source: LoadedBase, adapter: Named, taught: Taught) -> None:
    recipe = replace(BRIEF, steps=60, evaluate_every=60, learning_rate=1e30, max_gradient=1e30)
    with pytest.raises(NumericalError) as caught:
        run(adapter, source, taught, recipe)
    assert caught.value.message.endswith(": the loss is nan")
    assert caught.value.hint == "lower the learning rate"
    assert not any("lora" in name for name, _ in source.model.named_modules())
