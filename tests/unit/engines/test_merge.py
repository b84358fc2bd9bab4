"""Merged models: the logits of PEFT with the adapter, from a plain model without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.peft_folders import PeftFolder, PeftFolders, model_module, outputs
from ual_registry.errors import BaseMismatchError, ForeignFormatError, StorageError
from ual_registry.workflows.convert import convert_to_air
from ual_registry.workflows.engines import convert_to_merged

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT remarks while tiny models are made


def base_folder(folder: PeftFolder, place: Path, *, shard_bytes: int | None = None) -> Path:
    """Write the base model's weights beside the config that the adapter was made for."""
    more = {} if shard_bytes is None else {"max_shard_size": shard_bytes}
    folder.base_model().save_pretrained(place, **more)
    (place / "config.json").write_bytes((folder.base / "config.json").read_bytes())
    (place / "tokenizer.json").write_text("{}")
    (place / "pytorch_model.bin").write_bytes(b"not to be copied")
    return place


def air_file(folder: PeftFolder, place: Path) -> Path:
    convert_to_air(folder.path, place, base=folder.base)
    return place


def logits(folder: PeftFolder, merged: Path) -> Any:
    kind = getattr(model_module(folder.architecture), folder.class_name)
    model = kind.from_pretrained(merged).eval()
    model.get_base_model = lambda: model  # what ``outputs`` asks of a model with an adapter
    return outputs(model, folder.architecture)


@pytest.mark.parametrize(
    ("architecture", "option"),
    [
        ("llama", "plain"),
        ("llama", "patterns"),
        ("llama", "dora"),
        ("llama", "modules_to_save"),
        ("llama", "embeddings"),
        ("gpt2", "patterns"),
        ("gpt2", "dora"),
        ("gpt2", "lora_bias"),
        ("gpt2", "bias_all"),
        ("gpt_neox", "dora"),
    ],
)
def test_a_merged_model_computes_what_the_adapter_computes(
    peft_folders: PeftFolders, architecture: str, option: str, tmp_path: Path
) -> None:
    folder = peft_folders.get(architecture, option)
    base = base_folder(folder, tmp_path / "base")
    result = convert_to_merged(air_file(folder, tmp_path / "a.air"), tmp_path / "merged", base=base)

    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert result.size_bytes == (tmp_path / "merged" / "model.safetensors").stat().st_size
    # float32 weights, rounded once; logits are of size 1
    assert torch.allclose(logits(folder, tmp_path / "merged"), folder.logits, rtol=1e-4, atol=1e-5)


def test_a_base_model_in_several_files_stays_in_them(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("llama", "plain")
    base = base_folder(folder, tmp_path / "base", shard_bytes=6000)
    convert_to_merged(air_file(folder, tmp_path / "a.air"), tmp_path / "merged", base=base)

    index = "model.safetensors.index.json"
    assert (tmp_path / "merged" / index).read_text() == (base / index).read_text()
    files = set(json.loads((base / index).read_text())["weight_map"].values())
    assert len(files) > 1
    assert {path.name for path in (tmp_path / "merged").glob("*.safetensors")} == files
    assert torch.allclose(logits(folder, tmp_path / "merged"), folder.logits, rtol=1e-4, atol=1e-5)


def test_a_head_that_is_tied_to_the_embedding_is_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("gpt2", "modules_to_save")
    base = base_folder(folder, tmp_path / "base")
    with pytest.raises(BaseMismatchError) as caught:
        convert_to_merged(air_file(folder, tmp_path / "a.air"), tmp_path / "merged", base=base)
    assert caught.value.message == f"{base}: its weights hold no lm_head.weight"
    assert not (tmp_path / "merged").exists()


def test_an_embedding_that_a_head_is_tied_to_is_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("gpt2", "embeddings")
    base = base_folder(folder, tmp_path / "base")
    with pytest.raises(ForeignFormatError) as caught:
        convert_to_merged(air_file(folder, tmp_path / "a.air"), tmp_path / "merged", base=base)
    reason = "a head is tied to it, which the adapter leaves as it is"
    assert caught.value.message == f"cannot merge: token_embedding ({reason})"


def test_what_cannot_be_merged_is_refused_by_name(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("llama", "trainable_tokens")
    base = base_folder(folder, tmp_path / "base")
    with pytest.raises(ForeignFormatError) as caught:
        convert_to_merged(air_file(folder, tmp_path / "a.air"), tmp_path / "merged", base=base)
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    assert caught.value.problem_code == "not-mergeable"
    assert caught.value.message == f"cannot merge: {name} (trained tokens)"


def test_another_base_model_and_one_without_weights_are_refused(peft_folders: PeftFolders, tmp_path: Path) -> None:
    folder = peft_folders.get("llama", "plain")
    file = air_file(folder, tmp_path / "a.air")
    other = base_folder(peft_folders.get("gpt2", "plain"), tmp_path / "other")
    with pytest.raises(BaseMismatchError, match="its config has the digest sha256:"):
        convert_to_merged(file, tmp_path / "merged", base=other)
    with pytest.raises(StorageError, match=r"it holds no model\.safetensors"):
        convert_to_merged(file, tmp_path / "merged", base=folder.base)
