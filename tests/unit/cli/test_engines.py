"""``ual doctor`` and the forms of ``ual convert`` that engines read, at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.tiny_adapter import make_tiny_models
from ual_registry.cli.main import run


@pytest.fixture
def tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    make_tiny_models(Path("tour"))
    assert run(["convert", "tour/adapter", "tour/t.air", "--base", "tour/base"]) == 0
    capsys.readouterr()
    return tmp_path / "tour"


def change(folder: Path, **fields: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_folder_for_vllm_is_clean_under_the_name_of_the_server(
    tour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", "tour/t.air", "tour/served", "--to", "vllm", "--served-name", "my-model"]) == 0
    capsys.readouterr()
    assert run(["doctor", "tour/served", "--for", "vllm", "--served-name", "my-model"]) == 0
    assert capsys.readouterr().out == "tour/served for vllm (0.32.0), 28 modules: ok\n"
    config = json.loads((tour / "served" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("my-model", None)
    assert (config["r"], config["lora_alpha"]) == (8, 16)


def test_doctor_says_what_would_be_silently_ignored_and_exits_with_3(
    tour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(tour / "adapter", use_rslora=True, alpha_pattern={"q_proj": 32})
    assert run(["doctor", "tour/adapter", "--for", "sglang"]) == 3
    assert capsys.readouterr().out == (
        "tour/adapter for sglang (0.5.23), 28 modules: not as the adapter says\n"
        "  ignored  use_rslora: SGLang scales by lora_alpha / r whatever it says "
        "[python/sglang/srt/lora/lora.py]\n"
        "  ignored  alpha_pattern: SGLang 0.5.23 scales every module by lora_alpha / r "
        "[python/sglang/srt/lora/lora_config.py]\n"
        "hint: 'ual convert REF DIR --to vllm' writes plain LoRA with one rank and one alpha, --to merged a whole "
        "model\n"
    )


def test_doctor_reads_what_air_itself_would_refuse(tour: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(tour / "adapter", layer_replication=[[0, 2]], init_lora_weights="pissa")
    assert run(["doctor", "tour/adapter", "--for", "vllm", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {
        "path": "tour/adapter",
        "engine": "vllm",
        "version": "0.32.0",
        "modules": 28,
        "is_clean": False,
        "findings": [
            {
                "verdict": "rejected",
                "where": "init_lora_weights",
                "says": "vLLM does not take adapters whose initialisation changed the base model",
                "source": "vllm/lora/peft_helper.py",
            },
            {
                "verdict": "rejected",
                "where": "layer_replication",
                "says": "vLLM does not repeat blocks",
                "source": "vllm/lora/peft_helper.py",
            },
        ],
        "recorded": None,
    }


def test_doctor_finds_modules_that_the_base_model_does_not_have(tour: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((tour / "base" / "config.json").read_text())
    (tour / "small.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert run(["doctor", "tour/t.air", "--for", "peft", "--base", "tour/small.json"]) == 3
    inner = (
        "mlp.down_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "self_attn.k_proj",
        "self_attn.o_proj",
        "self_attn.q_proj",
    )
    names = ", ".join(f"model.layers.3.{name}" for name in inner)
    assert capsys.readouterr().out == (
        "tour/t.air for peft (0.21.2), 28 modules: not as the adapter says\n"
        f"  no effect  {names} and 1 more: tour/small.json has no such module, so that the factors reach nothing\n"
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "convert tour/t.air x --to merged",
            "--to merged needs --base: the folder of the base model, with its weights",
        ),
        (
            "convert tour/t.air x --to gguf --base tour/base",
            "--base belongs to --to merged; --to gguf needs no base model",
        ),
        ("convert tour/t.air x --to gguf --served-name n", "--served-name belongs to --to vllm"),
        ("convert tour/t.air x --to peft --served-name n", "--served-name belongs to --to vllm"),
        ("convert tour/t.air x --to vllm --name n", "--name belongs to converting a PEFT folder to AIR"),
        (
            "convert tour/t.air x --to vllm --edition transformers-5",
            "--edition belongs to converting an AIR file to a PEFT folder",
        ),
        ("doctor tour/t.air --for gguf --served-name n", "--served-name belongs to --for vllm"),
    ],
)
@pytest.mark.usefixtures("tour")
def test_options_of_other_forms_are_wrong_usage(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.split()) == 2
    assert message in capsys.readouterr().err
    assert not Path("x").exists()


@pytest.mark.usefixtures("tour")
def test_a_base_model_without_weights_cannot_be_merged_into(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "tour/t.air", "x", "--to", "merged", "--base", "tour/base"]) == 11
    assert "cannot read tour/base: it holds no model.safetensors" in capsys.readouterr().err
    assert not Path("x").exists()


@pytest.mark.usefixtures("tour")
def test_a_gguf_file_is_not_replaced_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "tour/t.air", "t.gguf", "--to", "gguf"]) == 0
    assert run(["convert", "tour/t.air", "t.gguf", "--to", "gguf"]) == 11
    assert run(["convert", "tour/t.air", "t.gguf", "--to", "gguf", "--force"]) == 0
    assert "cannot write t.gguf: it exists already" in capsys.readouterr().err
