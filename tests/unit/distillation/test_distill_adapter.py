"""The workflow as a whole: from an adapter and two base models to an adapter of the other, resumable at any point."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.distillation.material import mean_loss, sentences
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.distillation.examples import make_examples
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.material import model_settings
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.run import DistillationResult
from ual_registry.distillation.seeds import SeedPrompts, seeds_of
from ual_registry.errors import BaseMismatchError, FormatError, StorageError, TransferError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase
from ual_registry.tensors import to_torch
from ual_registry.workflows.distill import distill_adapter, set_seeds

SAMPLING = Sampling(temperature=1.0, max_tokens=32, batch_size=16)
RECIPE = Recipe(rank=2, alpha=4.0, steps=4, evaluate_every=2, learning_rate=5e-3, batch_size=4)
SEEDS = ("the cat", "a friend", "a dog")


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def run(adapter: Named, source: LoadedBase, target: LoadedBase, folder: Path, **more: Any) -> DistillationResult:
    settings: dict[str, Any] = {"sampling": SAMPLING, "recipe": RECIPE, "texts": 24, "warm": None}
    return distill_adapter(adapter, source, target, folder=folder, **settings | more)


def values(adapter: Adapter) -> dict[str, list[float]]:
    return {name: to_torch(tensor).flatten().tolist() for name, tensor in adapter.tensors.items()}


@pytest.mark.parametrize("is_soft", [False, True])
def test_what_source_and_adapter_say_is_learnt_without_seeds_or_data(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, *, is_soft: bool
) -> None:
    recipe = Recipe(rank=4, alpha=8.0, steps=60, evaluate_every=20, learning_rate=1e-2, batch_size=8, is_soft=is_soft)
    result = run(adapter, source, target, tmp_path, texts=120, recipe=recipe)
    test = sentences(60, seed=9)
    base = mean_loss(target.model, target.tokenizer, test)
    with attach(target.model, result.adapter):
        assert mean_loss(target.model, target.tokenizer, test) < 0.6 * base
    assert [arm.name for arm in result.report.arms] == ["cold"]
    assert [(own.relation, own.digest) for own in result.adapter.manifest.parents] == [
        ("distilled_from", str(adapter.digest))
    ]


def test_a_run_says_what_it_does_and_keeps_what_it_makes(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    said: list[str] = []
    result = run(adapter, source, target, tmp_path, seeds=SEEDS, texts=16, on_progress=said.append)
    (cold,) = result.report.arms
    losses = dict(cold.curve)
    assert [line for line in said if "kept of" not in line] == [
        "generating 16 texts",
        f"{result.report.texts} texts to train on",
        "scoring the texts with the source",
        f"cold start, step 2: held-out loss {losses[2]:.4f}",
        f"cold start, step 4: held-out loss {losses[4]:.4f}",
    ]
    kinds = {place.name.split("-")[0]: sorted(own.name for own in place.iterdir()) for place in tmp_path.iterdir()}
    assert kinds == {
        "texts": ["inputs.jsonl", "lock", "scores-adapted", "texts-2.jsonl", "texts.jsonl"],
        "run": ["cold.safetensors", "lock"],
    }


WHOLE: dict[str, Any] = {"warm": "auto", "seeds": None}


@pytest.fixture(scope="module")
def whole(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path_factory: pytest.TempPathFactory
) -> DistillationResult:
    """A run that nothing interrupted."""
    return run(adapter, source, target, tmp_path_factory.mktemp("whole"), **WHOLE)


@pytest.mark.parametrize("point", ["kept of", "scoring", "fitting", "cold start, step 2", "warm start, step 2"])
def test_an_interrupted_run_goes_on_to_the_same_adapter(
    adapter: Named, source: LoadedBase, target: LoadedBase, *, whole: DistillationResult, point: str, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if point in line:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(adapter, source, target, tmp_path / "parts", on_progress=stop, **WHOLE)
    again = run(adapter, source, target, tmp_path / "parts", **WHOLE)
    assert values(again.adapter) == values(whole.adapter)
    assert [(arm.name, arm.curve) for arm in again.report.arms] == [(arm.name, arm.curve) for arm in whole.report.arms]
    assert [arm.name for arm in whole.report.arms] == ["cold", "warm"]


def test_texts_serve_another_recipe_and_are_not_made_again(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    run(adapter, source, target, tmp_path)
    said: list[str] = []
    run(adapter, source, target, tmp_path, recipe=replace(RECIPE, seed=1), on_progress=said.append)
    assert not any("kept of" in line for line in said)
    assert sorted(place.name.split("-")[0] for place in tmp_path.iterdir()) == ["run", "run", "texts"]


def test_kept_runs_and_texts_are_those_of_one_dtype_and_one_tokenizer(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    def kinds() -> list[str]:
        return sorted(place.name.split("-")[0] for place in tmp_path.iterdir())

    run(adapter, source, target, tmp_path, texts=8)
    run(adapter, source, half(target), tmp_path, texts=8)
    assert kinds() == ["run", "run", "texts"]
    run(adapter, half(source), target, tmp_path, texts=8)
    assert kinds() == ["run", "run", "run", "texts", "texts"]
    others = [target, half(target), replace(target, tokenizer=source.tokenizer), source]
    assert len({tuple(model_settings(own)) for own in others}) == 4


def half(base: LoadedBase) -> LoadedBase:
    """Return a base model that computes in half precision."""
    return replace(base, model=copy.deepcopy(base.model).to(torch.bfloat16))


def test_seeds_come_from_the_artifact_unless_others_are_given(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    set_seeds(adapter.adapter, tmp_path / "seeded.air", SEEDS)
    given = run(adapter, source, target, tmp_path / "given", seeds=SEEDS, warm="auto")
    with read(tmp_path / "seeded.air") as carried:
        assert seeds_of(carried.manifest) == SeedPrompts(inputs=SEEDS)
    own = distill_adapter(
        tmp_path / "seeded.air", source, target, folder=tmp_path / "own", sampling=SAMPLING, recipe=RECIPE, texts=24
    )
    assert [arm.name for arm in own.report.arms] == ["cold", "warm"]  # where nothing else is said
    assert values(own.adapter) == values(given.adapter)


def test_seeds_take_the_place_of_those_that_were_there_and_leave_the_rest(adapter: Named, tmp_path: Path) -> None:
    first = set_seeds(adapter.adapter, tmp_path / "one.air", SEEDS)
    set_seeds(tmp_path / "one.air", tmp_path / "two.air", SeedPrompts(inputs=("a bird",), answer_tokens=3))
    again = set_seeds(tmp_path / "two.air", tmp_path / "three.air", SEEDS)
    assert again == first
    with read(tmp_path / "two.air") as made:
        assert seeds_of(made.manifest) == SeedPrompts(inputs=("a bird",), answer_tokens=3)
        assert values(made) == values(adapter.adapter)
    with pytest.raises(FormatError, match="seed prompts: inputs: expected 1 to 5 texts, each once, got 0"):
        set_seeds(adapter.adapter, tmp_path / "none.air", ())


def test_what_is_opened_is_closed_again(adapter: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_seeds(adapter.adapter, tmp_path / "one.air", SEEDS)
    opened: list[Adapter] = []

    def recorded(path: Path) -> Adapter:
        opened.append(read(path))
        return opened[-1]

    monkeypatch.setattr("ual_registry.workflows.distill.read", recorded)
    set_seeds(tmp_path / "one.air", tmp_path / "two.air", SEEDS)
    (own,) = opened
    with pytest.raises(StorageError, match="it was closed"):
        next(iter(own.tensors.values())).to_bytes()


def test_a_budget_bounds_texts_and_gives_every_start_the_same_time(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"texts": None, "recipe": None, "budget_s": 0.02, "warm": adapter.adapter}
    result = run(adapter, source, source, tmp_path, **settings)
    assert [arm.name for arm in result.report.arms] == ["cold", "warm"]
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["settings"]["seconds"] == pytest.approx(0.55 * 0.02 / 2)
    (place,) = tmp_path.glob("texts-*")
    assert (place / "wanted.json").read_text() == '{"wanted":32}'
    again = run(adapter, source, source, tmp_path, **settings)
    assert values(again.adapter) == values(result.adapter)


def test_without_a_recipe_every_text_is_passed_over_twice(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    result = run(adapter, source, target, tmp_path, recipe=None, texts=16)
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["settings"]["steps"] == 60  # two passes are fewer, and this is the least


def test_an_adapter_without_effect_is_refused_before_anything_is_generated(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    tensors = {
        name: type(tensor).of_bytes(tensor.dtype, tensor.shape, bytes(len(tensor.to_bytes())))
        for name, tensor in adapter.adapter.tensors.items()
    }
    idle = Adapter(adapter.adapter.manifest, tensors)
    write(idle, tmp_path / "idle.air")
    with pytest.raises(TransferError, match="the adapter 'toy language' has no effect"):
        distill_adapter(tmp_path / "idle.air", source, target, folder=tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_another_source_base_is_refused_unless_that_is_wanted(
    adapter: Named, target: LoadedBase, tmp_path: Path
) -> None:
    with pytest.raises(BaseMismatchError, match="the adapter is for source with"):
        run(adapter, target, target, tmp_path)


def test_a_base_model_without_tokenizer_is_refused(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match="it has no tokenizer, and text is needed"):
        run(adapter, source, replace(target, tokenizer=None), tmp_path)


def test_a_warm_start_is_not_fitted_to_the_texts_that_judge_it(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []
    sides: list[set[str]] = []

    def fit(*given: Any, **__: Any) -> None:
        fitted.extend(given[4])
        raise TransferError("seen", code="seen")

    def make(*given: Any, **more: Any) -> Any:
        examples = make_examples(*given, **more)
        decode = target.text_tokenizer.decode
        both = (examples.train, examples.held_out)
        sides.extend({decode(own.ids, skip_special_tokens=True) for own in side} for side in both)
        return examples

    monkeypatch.setattr("ual_registry.transfers.run_predictions.run_predictions", fit)
    monkeypatch.setattr("ual_registry.distillation.run.make_examples", make)
    run(adapter, source, target, tmp_path, texts=60, warm="auto", recipe=replace(RECIPE, held_out_share=0.3))
    train, held_out = sides
    assert set(fitted) == train
    assert held_out
    assert held_out.isdisjoint(fitted)


def test_a_warm_start_that_cannot_be_fitted_leaves_the_cold_one(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TransferError("no token is shared", code="no-shared-tokens")

    monkeypatch.setattr("ual_registry.transfers.run_predictions.run_predictions", refuse)
    monkeypatch.setattr("ual_registry.transfers.run_residual.run_residual", refuse)
    said: list[str] = []
    result = run(adapter, source, target, tmp_path, warm="auto", on_progress=said.append)
    assert [arm.name for arm in result.report.arms] == ["cold"]
    assert "no warm start: no token is shared" in said
    assert result.report.no_warm_because == "no token is shared"
    (statement,) = result.adapter.manifest.provenance
    assert statement.parameters["settings"]["no_warm_start"] == "no token is shared"


def test_where_predictions_refuses_the_next_best_rung_makes_the_warm_start(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TransferError("no token is shared", code="no-shared-tokens")

    monkeypatch.setattr("ual_registry.transfers.run_predictions.run_predictions", refuse)
    said: list[str] = []
    result = run(adapter, source, target, tmp_path, warm="auto", on_progress=said.append)
    assert [arm.name for arm in result.report.arms] == ["cold", "warm"]
    assert "no warm start by predictions: no token is shared" in said
    (file,) = tmp_path.glob("texts-*/warm-*.air")
    with read(file) as start:
        (statement,) = start.manifest.provenance
        assert statement.parameters["method"] == "residual"
        assert statement.parameters["settings"]["seed"] == 0


def test_no_warm_start_is_told_for_a_disk_that_is_full(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("ual_registry.workflows.distill_steps.write", full)
    with pytest.raises(StorageError, match="no space left"):
        run(adapter, source, target, tmp_path, warm="auto")


def test_a_run_that_was_cut_off_while_it_measured_its_first_batch_measures_it_anew(
    adapter: Named, source: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run had written takes no time to read: a budget would be thought to allow any number of texts."""
    from ual_registry.workflows.distill_steps import DistillSteps

    class CutOffError(Exception):
        pass

    settings: dict[str, Any] = {"seeds": SEEDS, "texts": None, "recipe": None, "budget_s": 0.02, "warm": None}
    first_batch = DistillSteps._first_batch
    seen: list[int] = []

    def cut(self: DistillSteps, place: Path) -> int:
        first_batch(self, place)
        raise CutOffError

    def counted(self: DistillSteps, place: Path) -> int:
        seen.append(len(list(place.glob("*.jsonl"))))
        return first_batch(self, place)

    monkeypatch.setattr(DistillSteps, "_first_batch", cut)
    with pytest.raises(CutOffError):
        run(adapter, source, source, tmp_path, **settings)
    (place,) = tmp_path.glob("texts-*")
    lines = {file.name: len(file.read_text().splitlines()) - 1 for file in place.glob("*.jsonl")}
    assert set(lines) == {"inputs.jsonl", "timed.jsonl"}
    assert 1 < lines["timed.jsonl"] <= lines["inputs.jsonl"]  # each input that can be used is answered
    monkeypatch.setattr(DistillSteps, "_first_batch", counted)
    run(adapter, source, source, tmp_path, **settings)
    assert seen == [0]


def test_a_base_model_is_named_by_its_folder_as_well(
    adapter: Named, source: LoadedBase, places: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    run(adapter, source, places / "target", tmp_path, on_progress=said.append)  # type: ignore[arg-type]
    assert said[0] == f"loading {places / 'target'}"
    assert torch.is_grad_enabled()
