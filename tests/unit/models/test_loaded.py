"""Base models from local folders: what is loaded, and what is refused before anything of it runs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ground_truth.materials import GPT2, LLAMA, byte_tokenizer, save, strong_model
from ual_registry.digest import Digest
from ual_registry.errors import StorageError, TransferError, UnknownArchitectureError, UnresolvedModuleError
from ual_registry.models.loaded import load_base_model, weights_digest

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(strong_model("LlamaForCausalLM", LLAMA), tmp_path / "tiny")


def test_a_base_model_comes_with_tokenizer_binding_and_digests(folder: Path) -> None:
    loaded = load_base_model(folder, id="owner/tiny")
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert (loaded.model.training, loaded.model.dtype) == (False, torch.float32)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.text_tokenizer("ab")["input_ids"] == byte_tokenizer()("ab")["input_ids"]
    assert (loaded.base.id, loaded.base.model_class) == ("owner/tiny", "LlamaForCausalLM")
    assert loaded.base.config_digest == str(Digest.of_file(folder / "config.json"))
    assert loaded.base.weights_digest == str(Digest.of_file(folder / "model.safetensors"))
    assert loaded.binding.base == loaded.base
    assert all(loaded.module(path) is not None for path in loaded.binding.modules)


def test_weights_are_given_as_out_by_in_however_they_are_stored(tmp_path: Path) -> None:
    loaded = load_base_model(save(strong_model("GPT2LMHeadModel", GPT2), tmp_path / "gpt2"))
    module = loaded.binding.modules["transformer.h.1.mlp.c_fc"]
    weight, bias = loaded.linear(module)
    assert module.is_conv1d
    assert torch.equal(weight, loaded.model.transformer.h[1].mlp.c_fc.weight.T)
    assert bias is not None
    assert torch.equal(bias, loaded.model.transformer.h[1].mlp.c_fc.bias)


def test_sharded_weights_are_loaded_and_have_a_digest_of_their_own(folder: Path, tmp_path: Path) -> None:
    whole = load_base_model(folder)
    whole.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    sharded = load_base_model(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert sharded.base.weights_digest not in {None, whole.base.weights_digest}
    assert torch.equal(sharded.model.lm_head.weight, whole.model.lm_head.weight)


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UnresolvedModuleError) as caught:
        load_base_model(folder).module("model.layers.7.self_attn")
    assert caught.value.message == "model.layers.7.self_attn: LlamaForCausalLM of tiny has no such module"


def test_a_base_without_tokenizer_is_loaded_and_refuses_text(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    loaded = load_base_model(folder)
    assert loaded.tokenizer is None
    with pytest.raises(TransferError) as caught:
        _ = loaded.text_tokenizer
    assert caught.value.message == "base model tiny: it has no tokenizer, and text is needed"
    assert caught.value.problem_code == "no-tokenizer"


class _Trap:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("sprung"),)


def test_pickled_weights_are_never_loaded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(TransferError) as caught:
        load_base_model(folder)
    assert caught.value.message.startswith(
        f"{folder}: expected weights in model.safetensors or model.safetensors.index.json, got config.json"
    )
    assert not (tmp_path / "sprung").exists()


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_code_in_the_folder_never_runs(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('ran')")
    edit(folder, architectures=["OwnForCausalLM"], auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"})
    with pytest.raises(TransferError) as caught:
        load_base_model(folder)
    assert caught.value.problem_code == "no-model-class"
    assert caught.value.hint == "code that comes with a model is never run"


def test_names_in_transformers_that_are_no_models_are_refused(folder: Path) -> None:
    edit(folder, architectures=["pipeline"])
    with pytest.raises(TransferError, match="has no model class 'pipeline'"):
        load_base_model(folder)


def test_the_folder_of_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere/else"}')
    with pytest.raises(TransferError) as caught:
        load_base_model(folder)
    assert caught.value.message == (
        f"{folder}: expected a base model; it is the folder of an adapter (adapter_config.json)"
    )


def test_weights_elsewhere_are_refused(folder: Path) -> None:
    edit(folder, transformers_weights="other.safetensors")
    with pytest.raises(TransferError, match="its config names other weights"):
        load_base_model(folder)


def test_an_index_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TransferError) as caught:
        weights_digest(folder)
    assert caught.value.message == (
        f"{folder}/model.safetensors.index.json: expected a weight_map of safetensors files in the same folder"
    )


def test_weights_that_lack_a_parameter_are_refused(folder: Path) -> None:
    edit(folder, num_hidden_layers=3)
    with pytest.raises(TransferError) as caught:
        load_base_model(folder)
    assert caught.value.message.startswith(f"{folder}: its weights lack 9 of LlamaForCausalLM: model.layers.2.")


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), TransferError, "cannot load it"),
        (lambda folder: edit(folder, hidden_size=24), TransferError, "cannot load it"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), TransferError, "cannot load it"),
        (lambda folder: edit(folder, model_type="nobody-knows"), UnknownArchitectureError, "'nobody-knows'"),
        (lambda folder: (folder / "config.json").unlink(), StorageError, "config.json"),
    ],
)
def test_a_damaged_folder_is_refused(
    folder: Path, damage: Callable[[Path], Any], error: type[Exception], said: str
) -> None:
    damage(folder)
    with pytest.raises(error, match=said):
        load_base_model(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        load_base_model(tmp_path / "owner/name")
    assert caught.value.message == f"cannot read {tmp_path}/owner/name: no such folder"


@pytest.mark.parametrize("name", [["model-1.safetensors"], 5, None, "../model-1.safetensors", "model-1.bin"])
def test_an_index_of_other_files_is_refused(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-0.safetensors", "b": name}}), encoding="utf-8")
    with pytest.raises(TransferError) as caught:
        weights_digest(tmp_path)
    assert caught.value.message == f"{index}: expected a weight_map of safetensors files in the same folder"
