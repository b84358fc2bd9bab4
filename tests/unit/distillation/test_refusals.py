"""What a distillation cannot go on from is refused, and said, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ual_registry.distillation.checkpoint import read_checkpoint
from ual_registry.distillation.corpus import Corpus
from ual_registry.distillation.draw import choose
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.errors import FormatError, NumericalError, StorageError, TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.workflows.distill import distill_adapter
from ual_registry.workflows.distill_budget import recipe_for, texts_within, within


@pytest.mark.parametrize(
    ("progress", "tensor"),
    [("5", "factors/a"), ("[]", "factors/a"), (json.dumps({"settings": "own", "curve": []}), "others/a")],
)
def test_a_file_of_another_form_is_no_checkpoint(tmp_path: Path, progress: str, tensor: str) -> None:
    path = tmp_path / "cold.safetensors"
    save_file({tensor: torch.zeros(1)}, path, metadata={"progress": progress})
    with pytest.raises(FormatError) as caught:
        read_checkpoint(path, "own")
    assert caught.value.message == f"{path}: is no checkpoint of a distillation"


def test_an_adapter_that_says_nothing_cannot_be_learnt_from(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any, **__: Any) -> Corpus:
        counts = {"generated": 8, "kept": 0, "short": 8, "cut": 0, "repetitive": 0, "duplicate": 0}
        return Corpus(texts=(), counts=counts, input_counts={})

    monkeypatch.setattr("ual_registry.distillation.corpus.make_corpus", silent)
    with pytest.raises(TrainingError) as caught:
        distill_adapter(adapter, source, target, folder=tmp_path, texts=8)
    assert caught.value.message == ("source and adapter wrote no text that can be trained on (8 generated, 8 short)")


def test_a_folder_that_cannot_be_made_is_named(
    adapter: Named, source: LoadedBase, target: LoadedBase, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        distill_adapter(adapter, source, target, folder=tmp_path / "file", texts=8)
    assert caught.value.message.startswith(f"cannot write {tmp_path / 'file'}/texts-")


def test_the_seed_of_the_texts_seeds_the_training_too() -> None:
    assert recipe_for([1000], seed=3) == Recipe(batch_size=4, steps=60, evaluate_every=6, is_soft=True, seed=3)


def test_many_texts_are_looked_at_seldom_and_few_of_them_held_out() -> None:
    found = recipe_for([100] * 2000, seed=0)
    expected = Recipe(batch_size=16, steps=250, evaluate_every=25, held_out_share=0.05, is_soft=True)
    assert found == expected


def test_a_budget_is_shared_out_in_fixed_parts() -> None:
    assert [texts_within(600.0, seconds) for seconds in (0.01, 0.6, 60.0)] == [2000, 300, 32]
    recipe = Recipe(steps=None, seconds=100.0)
    assert [within(recipe, 200.0, starts=starts).seconds for starts in (1, 2)] == [100.0, pytest.approx(55.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "sampling.temperature: got -0.1, which is out of range"),
        ({"temperature": float("nan")}, "sampling.temperature: got nan, which is out of range"),
        ({"top_p": 0.0}, "sampling.top_p: got 0.0, which is out of range"),
        ({"top_p": 1.1}, "sampling.top_p: got 1.1, which is out of range"),
        ({"max_tokens": 0}, "sampling.max_tokens: got 0, which is out of range"),
        ({"batch_size": 0}, "sampling.batch_size: got 0, which is out of range"),
        ({"stop": ("\n", "")}, "sampling.stop: got ('\\n', ''), which is out of range"),
    ],
)
def test_ways_of_drawing_without_a_meaning_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        Sampling(**change)
    assert (caught.value.problem_code, caught.value.message) == ("sampling", message)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("row", [[float("nan"), 0.0], [float("inf"), 0.0], [-float("inf"), -float("inf")]])
def test_nothing_is_drawn_from_logits_that_are_no_numbers(row: list[float], temperature: float) -> None:
    with pytest.raises(NumericalError) as caught:
        choose(torch.tensor([[0.0, 1.0], row], dtype=torch.float16), temperature=temperature, top_p=0.9)
    assert caught.value.message == "the model's logits are not finite in float16"
