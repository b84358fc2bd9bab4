"""Base models with weights, adapters and text for the tests of ``ual transfer``, made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import Result, Ual
from tests.ground_truth.materials import LLAMA, save, sentences, strong_model
from tests.unit.transfers.test_run_predictions import gpt2, random_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.models.loaded import load_base_model
from ual_registry.tensors import from_torch, to_torch

__all__ = ["Scene", "make_scene", "scene", "ual"]

_NEAR = 0.02
_LOUD = 3e4


@dataclass(frozen=True)
class Scene:
    """A folder.

    It holds ``llama``, the base of ``own.air`` (which changes a lot), ``idle.air`` (which changes nothing) and
    ``native.air`` (the same adapter, named as trained on the cousin); ``cousin``, trained on from it as it were;
    ``gpt2``, of another family; ``mute``, the same without a tokenizer; ``loud``, whose activations leave half
    precision; ``text.txt``, ``few.txt`` and ``items.jsonl``.
    """

    folder: Path

    def copy_to(self, place: Path) -> Path:
        """Put everything into a folder of a test's own; what is large is linked."""
        for item in self.folder.iterdir():
            if item.is_dir():
                (place / item.name).symlink_to(item)
            else:
                shutil.copy(item, place / item.name)
        return place


def make_scene(folder: Path) -> Scene:
    """Make everything."""
    model = strong_model("LlamaForCausalLM", LLAMA)
    source = load_base_model(save(model, folder / "llama"))
    own = random_adapter(source)
    write(own, folder / "own.air")
    write(_idle(own), folder / "idle.air")
    save(_near(model), folder / "cousin")
    gpt2(folder)
    shutil.copytree(folder / "gpt2", folder / "mute")
    for file in (folder / "mute").glob("tokenizer*"):
        file.unlink()
    save(_loud(strong_model("LlamaForCausalLM", {**LLAMA, "num_hidden_layers": 3})), folder / "loud")
    (folder / "text.txt").write_text("\n".join(sentences(7, 3)) + "\n", encoding="utf-8")
    (folder / "few.txt").write_text("\n".join(text[:24] for text in sentences(8, 4)) + "\n", encoding="utf-8")
    documents = [{"text": text[:60]} for text in sentences(9, 24)]
    (folder / "items.jsonl").write_text("".join(json.dumps(own) + "\n" for own in documents), encoding="utf-8")
    return Scene(folder)


def _idle(adapter: Adapter) -> Adapter:
    tensors = {
        name: from_torch(torch.zeros_like(to_torch(tensor)), "F32") if name.endswith("lora_B") else tensor
        for name, tensor in adapter.tensors.items()
    }
    return Adapter(adapter.manifest, tensors)


def _near(model: Any) -> Any:
    """Change every weight a little, as further training does."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * _NEAR * parameter.std())
    return model


def _loud(model: Any) -> Any:
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(_LOUD)
        model.model.layers[0].mlp.up_proj.weight.mul_(_LOUD)
    return model


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def ual(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ual:
    """Run one command in a folder with everything, a registry and a cache of its own."""
    place = tmp_path / "work"
    place.mkdir()
    scene.copy_to(place)
    monkeypatch.chdir(place)
    for name in ("UAL_HOME", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    def call(command: str) -> Result:
        capsys.readouterr()
        code = run(command.split())
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        return Result(code, caught.out, caught.err)

    return call
