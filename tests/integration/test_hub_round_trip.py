"""Train, push, begin anew on an empty machine, pull, load with PEFT: the same logits, and the same digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hub_server.fixtures import HubEnvironment
from ual_registry.cli.main import run
from ual_registry.digest import Digest

REPOSITORY = "team/trained"
TOKENS = torch.arange(48).reshape(2, 24) % 61


def base_model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=2, **sizes)).eval()


def train(folder: Path) -> torch.Tensor:
    """Train an adapter for a few steps, save it, and return its logits."""
    from peft import LoraConfig, get_peft_model

    base = base_model()
    base.config.save_pretrained(folder / "base")
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", revision="1" * 40)
    model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = "team/base"
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1  # it has learned something
    model.save_pretrained(folder / "adapter")
    return logits(model)


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=TOKENS).logits
    return found


def loaded(folder: Path) -> torch.Tensor:
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(base_model(), folder))


def test_what_was_trained_here_is_the_same_on_an_empty_machine(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import snapshot_download

    def ual(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        code = run([*words, "--json"])
        caught = capsys.readouterr()
        assert code == 0, caught.err
        document: dict[str, Any] = json.loads(caught.out)
        return document

    monkeypatch.setenv("UAL_HOME", str(tmp_path / "here"))
    trained = train(tmp_path)
    air = tmp_path / "trained.air"
    ual("convert", str(tmp_path / "adapter"), str(air), "--base", str(tmp_path / "base"))
    ual("add", str(air), "--name", "trained", "--alias", "production")
    pushed = ual("push", "trained@production", REPOSITORY, "--tag", "v1")

    for place in ("here", "adapter", "hf-home"):
        shutil.rmtree(tmp_path / place)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "there"))
    (adapter,) = ual("pull", f"{REPOSITORY}@v1")["adapters"]
    assert adapter["digest"] == pushed["digest"] == str(Digest.of_file(air))
    ual("get", "trained", "-o", str(tmp_path / "back.air"))
    assert (tmp_path / "back.air").read_bytes() == air.read_bytes()
    ual("convert", str(tmp_path / "back.air"), str(tmp_path / "again"))
    assert torch.equal(loaded(tmp_path / "again"), trained)

    plain = Path(snapshot_download(REPOSITORY, revision="v1", local_dir=tmp_path / "plain"))
    assert torch.equal(loaded(plain), trained)
    assert hub_env.site.repo(REPOSITORY).tip == pushed["commit"]
