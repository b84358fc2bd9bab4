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
from ual_registry.distillation.generate import Sampling
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.report import Named
from ual_registry.distillation.texts import Ended, Text
from ual_registry.errors import FormatError, StorageError, TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.workflows.distill import _Run, distill_adapter


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
        counts = {"generated": 8, "kept": 0, "short": 8, "repetitive": 0, "duplicate": 0}
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
    text = Text(batch=0, prompt="a", completion="b" * 999, ended=Ended.END, tokens=9)
    parts: Any = dict.fromkeys(("source", "source_base", "target", "seeds", "texts", "budget_s"))
    run = _Run(**parts, folder=Path(), sampling=Sampling(seed=3), is_any_base=False, say=print)
    chosen = run._recipe(None, Corpus(texts=(text,), counts={}, input_counts={}), arms=1)
    assert chosen == Recipe(batch_size=4, steps=60, seed=3)
