"""A run that was interrupted ends as one that was not: killed, asked to end, out of disk, or without a loss."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open

from tests.unit.training.tiny import config, prepared, run, texts
from ual_registry.errors import FormatError, StorageError, TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.training import checkpoint
from ual_registry.training.checkpoint import STATE_FILE, TRAINER_FILE, last_checkpoint
from ual_registry.training.log import read_log
from ual_registry.training.run import train
from ual_registry.training.trainer import AdapterTrainer

ROOT = Path(__file__).resolve().parents[3]
LONG = {"steps": 16, "checkpoint_every": 3, "dropout": 0.1, "evaluate_every": 4, "batch_size": 3}
"""More than two epochs of 18 rows a step; a run is killed in the second."""

SCRIPT = """
import json, sys
from pathlib import Path
from tests.unit.training.tiny import run
from ual_registry.errors import TrainingError
from ual_registry.training.heads import load_for_training

base, folder, changes = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
try:
    run(load_for_training(base, "causal"), folder, **changes)
except TrainingError as error:
    sys.exit(error.problem_code)
"""


def begin(base: Path, folder: Path, changes: dict[str, Any]) -> subprocess.Popen[str]:
    """Train in another process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    words = [sys.executable, "-c", SCRIPT, str(base), str(folder), json.dumps(changes)]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """Wait until a run has logged a step."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        log = folder / "log.jsonl"
        if log.exists() and any(line["step"] >= step for line in read_log(log)):
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


def state(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the numbers of the last checkpoint, without those of the clock."""
    place = last_checkpoint(folder / "checkpoints")
    assert place is not None
    with safe_open(place / STATE_FILE, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        numbers = json.loads(stream.metadata()["progress"])
    del numbers["progress"]["elapsed_s"]
    return tensors, numbers


def assert_same(one: Path, other: Path) -> None:
    """Assert that two runs ended alike, bit for bit: factors, the best ones, optimiser, schedule, numbers, log."""
    tensors, numbers = state(one)
    others, other_numbers = state(other)
    assert tensors.keys() == others.keys()
    assert [name for name, own in tensors.items() if not torch.equal(own, others[name])] == []
    assert numbers == other_numbers
    logs = [[line for line in read_log(place / "log.jsonl") if line["event"] != "resumed"] for place in (one, other)]
    timeless = [[{**line, "elapsed_s": 0, "tokens_per_s": 0} for line in lines] for lines in logs]
    assert timeless[0] == timeless[1]


@pytest.fixture(scope="module")
def whole(llama: LoadedBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("resume") / "whole"
    run(llama, folder, **LONG)
    return folder


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    whole: Path, llama: LoadedBase, llama_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    process = begin(llama_folder, folder, LONG)
    wait_for_step(process, folder, 8)
    process.kill()
    process.communicate()
    place = last_checkpoint(folder / "checkpoints")
    assert place is not None
    done = int(place.name.removeprefix("step-"))
    assert 0 < done < 16
    assert not (folder / "adapter.air").exists()
    result = run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)
    resumed = [line for line in read_log(folder / "log.jsonl") if line["event"] == "resumed"]
    assert [line["step"] for line in resumed] == [done]
    assert result.record.steps == 16


@pytest.mark.parametrize("step", [6, 12])
def test_a_run_goes_on_from_any_checkpoint(step: int, whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    """Step 6 ends the first epoch of 54 rows, 12 the second."""
    folder = tmp_path / "cut"
    with pytest.raises(TrainingError):
        _stopped(llama, folder, step)
    run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)


def _stopped(base: LoadedBase, folder: Path, step: int) -> None:
    """Run until a checkpoint is kept, then be asked to end."""
    kept = checkpoint.write_checkpoint

    def write(place: Path, own: Any) -> Path:
        if own.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return kept(place, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ual_registry.training.trainer.write_checkpoint", write)
        run(base, folder, **LONG)


def test_sigterm_keeps_a_checkpoint_and_the_run_goes_on(
    whole: Path, llama: LoadedBase, llama_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "asked"
    process = begin(llama_folder, folder, LONG)
    wait_for_step(process, folder, 4)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert said.splitlines()[-1] == "interrupted"
    place = last_checkpoint(folder / "checkpoints")
    assert place is not None
    last = [line["step"] for line in read_log(folder / "log.jsonl") if line["event"] == "step"][-1]
    assert place.name == f"step-{last:08d}"
    run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)


def test_a_finished_run_that_is_resumed_gives_its_result_again(whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(whole, folder)
    result = run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)
    assert result.record.steps == 16
    assert result.record.proof is not None
    assert result.record.proof.verdict == "better"


def test_a_full_disk_leaves_the_last_checkpoint(
    whole: Path, llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "full", os.fsync
    calls: list[int] = []

    def full(stream: int) -> None:
        calls.append(stream)
        if len(calls) > 6:  # two files for each checkpoint: the fourth one does not fit
            raise OSError(errno.ENOSPC, "No space left on device")
        write(stream)

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        run(llama, folder, **LONG)
    monkeypatch.undo()
    assert caught.value.message.endswith("step-00000012: No space left on device")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000006", "step-00000009"]
    run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)


def test_a_loss_that_is_no_number_stops_the_run_and_the_last_good_checkpoint_stays(
    llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    from ual_registry.training import trainer

    plain = trainer.batch_loss

    def broken(model: Any, *further: Any) -> Any:
        found = plain(model, *further)
        done = max((line["step"] for line in read_log(folder / "log.jsonl")), default=0)
        return trainer.Loss(found.total * float("nan"), found.positions) if done == 4 and model.training else found

    monkeypatch.setattr(trainer, "batch_loss", broken)
    with pytest.raises(TrainingError) as caught:
        run(llama, folder, checkpoint_every=2, steps=8)
    assert caught.value.problem_code == "not-finite"
    assert str(caught.value) == "step 5: the loss is nan"
    kept = last_checkpoint(folder / "checkpoints")
    assert kept == folder / "checkpoints" / "step-00000004"
    assert caught.value.hint == (
        f"the last good checkpoint stays in {kept}; lower the learning rate, or look for odd examples"
    )


def test_a_loss_that_is_no_number_before_a_checkpoint_names_none(
    llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ual_registry.training import trainer

    plain = trainer.batch_loss

    def broken(model: Any, *further: Any) -> Any:
        found = plain(model, *further)
        return trainer.Loss(found.total * float("nan"), found.positions)

    monkeypatch.setattr(trainer, "batch_loss", broken)
    with pytest.raises(TrainingError) as caught:
        run(llama, tmp_path / "run", held_out_share=0.0)
    assert (str(caught.value), caught.value.hint) == (
        "step 1: the loss is nan",
        "there was no checkpoint yet; lower the learning rate, or look for odd examples",
    )


def test_a_full_disk_at_the_end_leaves_the_last_checkpoint(
    whole: Path, llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("peft.PeftModel.save_pretrained", full)
    with pytest.raises(StorageError) as caught:
        run(llama, folder, resume=True, **LONG)
    assert str(caught.value) == (
        f"cannot write {folder / 'adapter.air'}: I/O error: No space left on device (os error 28)"
    )
    monkeypatch.undo()
    assert run(llama, folder, resume=True, **LONG).record.steps == 16


def test_a_run_is_not_resumed_with_another_tokenizer(whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    own = config(**LONG)
    rows = prepared(llama, own)
    first, *others = rows.train
    other = array("i", [*first.input_ids[:-1], first.input_ids[-1] + 1])
    changed = replace(rows, train=(replace(first, input_ids=other), *others))
    with pytest.raises(FormatError) as caught:
        train(llama, changed, own, folder=folder, resume=True)
    assert str(caught.value).startswith(f"{folder}: is a run with another tokenization (there sha256:")


@pytest.mark.parametrize(
    "changes",
    [
        {"lora_plus_ratio": 8.0, "schedule": "warmup-stable-decay"},
        {"batching": "packed", "max_length": 64, "gradient_checkpointing": True},
    ],
)
def test_other_kinds_of_runs_go_on_as_if_nothing_had_happened(
    changes: dict[str, Any], llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**LONG, "steps": 5, "checkpoint_every": 2, **changes}
    run(llama, tmp_path / "whole", **settings)
    ended_at(3, monkeypatch)
    with pytest.raises(TrainingError):
        run(llama, tmp_path / "ended", **settings)
    monkeypatch.undo()
    run(llama, tmp_path / "ended", resume=True, **settings)
    assert_same(tmp_path / "whole", tmp_path / "ended")


def test_a_run_of_labels_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.training.test_heads import labelled, loaded

    base = loaded("llama", "classification", tmp_path)
    settings = {**LONG, "head": "classification", "steps": 5, "checkpoint_every": 2}
    run(base, tmp_path / "whole", labelled(), **settings)
    ended_at(3, monkeypatch)
    with pytest.raises(TrainingError):
        run(base, tmp_path / "ended", labelled(), **settings)
    monkeypatch.undo()
    run(base, tmp_path / "ended", labelled(), resume=True, **settings)
    assert_same(tmp_path / "whole", tmp_path / "ended")


def ended_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next run be asked to end after a step."""
    monkeypatch.setattr(AdapterTrainer, "is_asked_to_end", lambda own: own.state.global_step == step)


def test_factors_that_are_no_numbers_are_never_kept(
    llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    step = torch.optim.AdamW.step

    def spoiled(self: Any, *further: Any, **named: Any) -> Any:
        found = step(self, *further, **named)
        if int(self.state[self.param_groups[0]["params"][0]]["step"]) == 4:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", spoiled)
    with pytest.raises(TrainingError) as caught:
        run(llama, folder, checkpoint_every=2, held_out_share=0.0)
    assert str(caught.value) == "step 4: the factors are not finite any more"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000002"]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"learning_rate": 1e-3}, "setting learning rate"),
        ({"examples": texts(seed=9)}, "data"),
    ],
)
def test_a_run_is_not_resumed_with_something_else(
    changes: dict[str, Any], differs: str, whole: Path, llama: LoadedBase, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    with pytest.raises(FormatError) as caught:
        run(llama, folder, resume=True, **{**LONG, **changes})
    assert str(caught.value).startswith(f"{folder}: is a run with another {differs} (there ")
    assert caught.value.problem_code == "checkpoint"


def test_a_run_is_not_resumed_on_another_base(whole: Path, tmp_path: Path) -> None:
    from tests.unit.training.tiny import save_base
    from ual_registry.training.heads import load_for_training

    other = load_for_training(save_base(tmp_path / "llama", "llama", seed=1), "causal")
    with pytest.raises(FormatError) as caught:
        run(other, whole, resume=True, **LONG)
    assert str(caught.value).startswith(f"{whole}: is a run with another base model (there [")


def test_where_the_log_goes_may_change(whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    assert run(llama, folder, resume=True, **{**LONG, "checkpoint_every": 1}).record.steps == 16


def test_a_run_is_not_begun_over_another(whole: Path, llama: LoadedBase) -> None:
    with pytest.raises(StorageError) as caught:
        run(llama, whole, **LONG)
    assert str(caught.value) == f"cannot write {whole}: there is a training run already"
    assert caught.value.hint == "go on with it (--resume), begin it anew (--force), or give another folder (--folder)"


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_foreign_folder_is_refused(is_resumed: bool, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FormatError) as caught:
        run(llama, folder, resume=is_resumed)
    assert str(caught.value) == f"{folder}: is no folder of a training run"
    assert [path.name for path in folder.iterdir()] == ["pytorch_model.bin"]


@pytest.mark.parametrize("data", [b"", b"nothing", b'{"kind": 1}', b"[]"])
def test_a_folder_with_a_broken_mark_is_refused(data: bytes, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        run(llama, folder, resume=True)
    assert str(caught.value) == f"{folder}: is no folder of a training run"


def test_a_broken_checkpoint_is_refused(whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    place = last_checkpoint(folder / "checkpoints")
    assert place is not None
    (place / STATE_FILE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(FormatError) as caught:
        run(llama, folder, resume=True, **LONG)
    assert str(caught.value) == f"{place}: is no checkpoint of a training run"
    assert (place / TRAINER_FILE).exists()


def test_a_run_without_a_checkpoint_begins_anew(whole: Path, llama: LoadedBase, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    run(llama, folder, resume=True, **LONG)
    assert_same(whole, folder)


def test_memory_that_runs_out_says_what_to_lower(
    llama: LoadedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ual_registry.training.trainer.batch_loss", full)
    with pytest.raises(TrainingError) as caught:
        run(llama, tmp_path / "run")
    assert caught.value.problem_code == "out-of-memory"
    assert str(caught.value) == "out of memory with 4 rows of at most 1024 tokens"
    assert caught.value.hint == (
        "lower one: batch_size 2 with accumulation 4 (the same steps), gradient_checkpointing, max_length 512"
    )
    assert prepared(llama, config()).train
