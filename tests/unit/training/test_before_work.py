"""What is refused before any work: nothing large is loaded, nothing is written, and the message says what to do."""

from __future__ import annotations

import json
import os
import signal as signals
from pathlib import Path
from typing import Any

import pytest
import torch

import ual_registry as ual
from tests.unit.training.test_command import QUICK, command
from tests.unit.training.tiny import save_base, texts
from ual_registry.errors import RegistryError, StorageError, TrainingError
from ual_registry.registry.registry import Registry
from ual_registry.training import heads
from ual_registry.training.config import TrainingConfig
from ual_registry.training.place import Place
from ual_registry.training.trainer import AdapterTrainer
from ual_registry.workflows.train import run_training
from ual_registry.workflows.train_order import TrainOrder

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def place(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a base, data, and a registry of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    (tmp_path / "base").symlink_to(llama_folder)
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(own.record())}\n" for own in texts()))
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU, and no base model can be loaded."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the base model is loaded")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(heads, "load_for_training", refuse)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            "--name My!Adapter -o a.air --record",
            8,
            "error [name]: adapter name 'My!Adapter': expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first",
        ),
        ("-o a.air --folder notes", 3, "error [checkpoint]: notes: is no folder of a training run"),
        ("-o a.air --folder old", 11, "error [exists]: cannot write old: there is a training run already"),
        ("-o a.air --device cuda", 6, "error [setting]: setting device: expected a device that is there, got cuda"),
        ("-o a.air --layers 7", 6, "error [targets]: layer 7: llama has layers 0 to 1"),
        ("-o a.air --exclude nothing", 6, "error [targets]: exclude 'nothing': llama has neither such a role nor a"),
        ("-o a.air --roles moe_router", 6, "error [targets]: role 'moe_router': llama has no module with it"),
        ("-o a.air --head seq2seq", 6, "error [no-head]: base model llama: model_type 'llama' has no head that"),
    ],
)
def test_a_mistake_is_told_before_the_base_is_loaded(
    words: str, code: int, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "notes").mkdir()
    (place / "notes" / "notes.txt").write_text("mine")
    (place / "old").mkdir()
    (place / "old" / "run.json").write_text("{}")
    before = sorted(place.iterdir())
    found, out, err = command(f"train --base base --data data.jsonl {words}", capsys)
    assert (found, out) == (code, "")
    assert next(line for line in err.splitlines() if line.startswith("error")).startswith(said)
    assert sorted(own for own in place.iterdir() if own.name != "registry") == before


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("name", ["", "-"])
def test_an_empty_name_cannot_be_recorded(name: str, place: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        ual.train("base", "data.jsonl", output="a.air", name=name, record=True)
    assert caught.value.problem_code == "name"


@pytest.mark.usefixtures("unloaded")
def test_a_registry_that_cannot_be_written_is_told(place: Path) -> None:
    Registry.open().database.engine.dispose()
    (place / "registry" / "blobs").write_text("a file where the folder of the blobs should be")
    with pytest.raises(StorageError) as caught:
        ual.train("base", "data.jsonl", output="a.air", name="a", record=True)
    assert str(caught.value).startswith(f"cannot write {place / 'registry' / 'blobs'}")


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("base", "message", "hint"),
    [
        (
            "none/here",
            "base model none/here: expected its folder; no such folder",
            "ual train fetches nothing; fetch it first: hf download OWNER/NAME --local-dir FOLDER",
        ),
        ("base/config.json", "base model base/config.json: expected its folder; it is a file", "give the folder, base"),
        (
            "adapter",
            "base model adapter: expected its folder; it is an adapter",
            "give the folder of its base model; train on top of it after merging it",
        ),
        (
            "empty",
            "base model empty: expected its folder; it has no config.json",
            "fetch a base model into a folder: hf download OWNER/NAME --local-dir FOLDER",
        ),
    ],
)
def test_a_base_that_is_no_folder_of_a_model_is_told(
    base: str, message: str, hint: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "adapter").mkdir()
    (place / "adapter" / "adapter_config.json").write_text("{}")
    (place / "empty").mkdir()
    for further in ("", " --dry-run"):
        code, out, err = command(f"train --base {base} --data data.jsonl -o a.air{further}", capsys)
        assert (code, out, err.splitlines()) == (11, "", [f"error [storage]: {message}", f"hint: {hint}"])


@pytest.mark.parametrize("data", [None, 5, b"bytes", {"text": "a"}])
def test_data_of_another_kind_is_told(data: Any, place: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        ual.train("base", data, output="a.air")
    assert str(caught.value) == f"data: expected a path or examples as dicts, got a {type(data).__name__}"


def test_memory_that_runs_out_while_the_base_is_loaded_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(TrainingError) as caught:
        ual.train("base", "data.jsonl", output="a.air")
    assert caught.value.problem_code == "out-of-memory"


def test_the_base_is_loaded_onto_the_gpu_of_the_process(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ual_registry.training import place as places

    asked: list[str] = []

    def load(*_: Any, device: str, **__: Any) -> Any:
        asked.append(device)
        raise TrainingError("enough")

    monkeypatch.setattr(places, "place_of", lambda _: Place(device="cuda", precision="bfloat16", index=3))
    monkeypatch.setattr(heads, "load_for_training", load)
    with pytest.raises(TrainingError, match="enough"):
        ual.train("base", "data.jsonl", output="a.air")
    assert asked == ["cuda:3"]


def test_a_finished_run_is_begun_anew_by_force_and_named_otherwise(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train --base base --data data.jsonl --name t {QUICK} --steps 1 -q"
    assert command(words, capsys)[0] == 0
    (place / "t.air").unlink()
    code, _, err = command(words, capsys)
    assert (code, err.splitlines()) == (
        11,
        [
            "error [exists]: cannot write t.run: there is a training run already",
            "hint: go on with it (--resume), begin it anew (--force), or give another folder (--folder)",
        ],
    )
    assert command(f"{words} --force --seed 1", capsys)[0] == 0
    settings = json.loads((place / "t.run" / "run.json").read_text())["settings"]
    assert settings["setting_seed"] == 1


def test_a_run_that_is_not_there_is_said_to_begin_anew(place: Path) -> None:
    said: list[str] = []
    order = TrainOrder(
        base="base",
        data="data.jsonl",
        output="a.air",
        folder="mistyped",
        is_resumed=True,
        config=TrainingConfig(steps=1, batch_size=4, device="cpu"),
    )
    run_training(order, say=said.append).adapter.close()
    assert said[0] == "no run in mistyped: begun anew"
    said.clear()
    run_training(TrainOrder(**{**_fields(order), "is_forced": True}), say=said.append).adapter.close()
    assert said[0] == "loading base"


def _fields(order: TrainOrder) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__dataclass_fields__}


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_with_its_own_code_and_the_same_hint(
    signal: str, code: int, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def asked(own: Any) -> bool:
        if own.state.global_step == 2 and not sent:
            sent.append(1)
            os.kill(os.getpid(), getattr(signals, signal))
        return bool(own.work.is_stopped())

    before = signals.signal(signals.SIGINT, signals.default_int_handler)
    try:
        monkeypatch.setattr(AdapterTrainer, "is_asked_to_end", asked)
        found, _, err = command(f"train --base base --data data.jsonl --name t {QUICK}", capsys)
    finally:
        signals.signal(signals.SIGINT, before)
    assert (found, err.splitlines()[-2:]) == (
        code,
        [
            "error [interrupted]: asked to end after step 2; a checkpoint is kept",
            "hint: the same command with --resume goes on from there",
        ],
    )
    assert [own.name for own in (place / "t.run" / "checkpoints").iterdir()] == ["step-00000002"]


def test_the_record_says_how_long_rows_were_where_the_base_reads_less(place: Path) -> None:
    result = ual.train("base", "data.jsonl", output="a.air", config={"steps": 1, "batch_size": 4})
    with result.adapter as adapter:
        assert adapter.manifest.provenance[0].parameters["max_length"] == 128
    assert result.record.config.max_length == 128


@pytest.mark.parametrize("is_dry", [True, False])
def test_packed_lines_are_no_longer_than_the_base_reads(
    is_dry: bool, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    save_base(place / "neo", "gpt2")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64, "window_size": 16}
    vocab = json.loads((place / "neo" / "config.json").read_text())["vocab_size"]
    kinds = [[["global", "local"], 1]]
    GPTNeoForCausalLM(GPTNeoConfig(vocab_size=vocab, attention_types=kinds, **sizes)).save_pretrained(place / "neo")
    further = "--dry-run" if is_dry else "-o a.air"
    words = f"train --base neo --data data.jsonl --batching packed --batch-size 16 --steps 1 --device cpu {further} -q"
    assert command(words, capsys)[0] == 0


def test_a_rank_above_what_a_module_can_use_is_noted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --base base --data data.jsonl -o a.air --rank 40 --steps 1 --batch-size 4 --device cpu"
    code, _, err = command(words, capsys)
    note = "rank 40 is above what 14 of 14 modules can use: 16 says as much for the smallest, and takes less"
    assert (code, note in err.splitlines()) == (0, True)


def test_a_training_that_made_nothing_better_says_so_on_a_terminal(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = "--set learning_rate=1e-30 --schedule constant --steps 1 --batch-size 4 --device cpu"
    code, out, _ = command(f"train --base base --data data.jsonl -o a.air {still} -q", capsys)
    assert code == 0
    assert out.splitlines()[2:4] == [
        "the training made nothing better: on what was held out the base model alone is as good",
        f"the adapter changes no logit; {out.splitlines()[3].partition('; ')[2]}",
    ]
