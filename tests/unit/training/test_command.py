"""``ual train`` from the command line: what it prints, what it keeps, and what it refuses before any work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ual_registry as ual
from tests.unit.training.test_resume import ROOT, wait_for_step
from tests.unit.training.tiny import save_base, texts
from ual_registry.air.schema import schema_problems
from ual_registry.cli.main import run
from ual_registry.errors import RegistryError, TrainingError
from ual_registry.registry.registry import Registry
from ual_registry.training.checkpoint import last_checkpoint
from ual_registry.training.log import read_log

READS = "rows hold 128 tokens at most, since the base model reads no more at once"
QUICK = "--set evaluate_every=3 --rank 4 --alpha 8 --learning-rate 5e-3 --steps 6 --batch-size 4 --device cpu"


@pytest.fixture
def place(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a base, data, and a registry of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    (tmp_path / "base").symlink_to(llama_folder)
    lines = [json.dumps(own.record()) for own in texts()]
    (tmp_path / "data.jsonl").write_text("\n".join([*lines, lines[0]]) + "\n")
    return tmp_path


def command(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command; return its code and what it says."""
    code = run(words.split())
    out, err = capsys.readouterr()
    return code, out, err


def problems(schema: str, text: str) -> list[str]:
    """Return what is wrong with a document."""
    return [str(own) for own in schema_problems(f"1.0/cli/{schema}.json", json.loads(text), root="document")]


def test_a_training_says_what_it_did_and_keeps_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"train --base base --data data.jsonl --name triage --domain toys --record {QUICK}"
    code, out, err = command(words, capsys)
    lines = out.splitlines()
    assert (code, err.splitlines()) == (
        0,
        ["loading base", READS, "3 examples left out: another one says the same", "training in triage.run"],
    )
    assert lines[0].startswith("trained on llama: 6 steps, ")
    assert lines[1].startswith("held-out loss 5.")
    assert lines[1].endswith("(step 6)")
    assert lines[2].startswith("the adapter changes logits by up to ")
    assert lines[-3:-1] == ["wrote triage.air", "recorded as triage@1"]
    assert sorted(path.name for path in place.iterdir()) == [
        "base", "data.jsonl", "registry", "triage.air", "triage.run",
    ]  # fmt: skip
    with ual.read("triage.air") as adapter:
        manifest = adapter.manifest
    assert (manifest.name, manifest.domain, manifest.base_model.id) == ("triage", "toys", "llama")
    assert str(Registry.open().resolve("triage@1")) == lines[-1] == str(ual.Digest.of_file(Path("triage.air")))
    assert str(place) not in repr(manifest.origin)


def test_the_documents_follow_their_schemas(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command(f"train --base base --data data.jsonl -o a.air {QUICK} -q --json", capsys)
    assert (code, err, problems("train", out)) == (0, "", [])
    code, out, err = command(f"train --base base --data data.jsonl {QUICK} --dry-run --json", capsys)
    assert (code, err, problems("train-estimate", out)) == (0, "", [])
    code, out, err = command("train --base base --explain --json", capsys)
    assert (code, err, problems("train-explain", out)) == (0, "", [])


def test_a_dry_run_says_what_it_takes_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.iterdir())
    code, out, err = command(f"train --base base --data data.jsonl {QUICK} --dry-run --json", capsys)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert sorted(place.iterdir()) == before
    code, out, _ = command(f"train --base base --data data.jsonl -o a.air {QUICK} -q --json", capsys)
    done = json.loads(out)
    assert code == 0
    assert (found["steps"], found["looks"], found["rows"]) == (6, 3, done["data"]["train"]["rows"])
    assert found["trainable"] == done["trainable"]
    assert found["tokens"] == pytest.approx(done["tokens"], rel=0.15)  # the rows of 6 of 7 steps
    assert found["weights_bytes"] == 4 * found["parameters"]
    assert found["factors_bytes"] == 16 * found["trainable"]
    assert found["memory_bytes"] == found["weights_bytes"] + found["factors_bytes"] + found["activations_bytes"]
    assert found["activations_bytes"] > 100_000
    code, out, err = command(f"train --base base --data data.jsonl {QUICK} --dry-run", capsys)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [
        "steps", "tokens", "trainable", "memory", "time", "note:",
    ]  # fmt: skip


def test_the_modules_are_explained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command("train --base base --explain --roles attention_query,mlp_up --layers 1", capsys)
    assert (code, err) == (0, "")
    trained = [line.split()[1] for line in out.splitlines() if line.startswith("train")]
    assert trained == ["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"]
    assert out.splitlines()[-1] == "2 modules carry factors, 14 do not"


def test_settings_come_from_a_file_and_from_options(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "settings.toml").write_text("rank = 2\nalpha = 4\nsteps = 2\nbatch_size = 4\nseed = 7\n")
    words = "train --base base --data data.jsonl -o a.air --config settings.toml --set seed=8 --steps 3 -q --json"
    code, out, _ = command(words, capsys)
    settings = json.loads(out)["settings"]
    assert code == 0
    assert [settings[name] for name in ("rank", "alpha", "steps", "batch_size", "seed")] == [2, 4, 3, 4, 8]


def test_the_record_is_shown_and_drawn(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert command(f"train --base base --data data.jsonl -o a.air {QUICK} -q", capsys)[0] == 0
    code, out, err = command("show a.air --plot loss.svg", capsys)
    assert (code, err) == (0, "drew loss.svg\n")
    shown = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert shown["verdict"] == "  verdict better"
    assert shown["eval_curve"].endswith("at step 6 (3 points)")
    assert shown["environment"].startswith("  environment accelerate ")
    drawn = (place / "loss.svg").read_text()
    assert [word in drawn for word in ("training", "held out", "result", "loss, nats")] == [True] * 4
    assert command("show a.air --plot loss.svg", capsys)[0] == 11
    assert command("show a.air --plot loss.svg --force -q", capsys)[0] == 0
    assert (place / "loss.svg").read_text() == drawn
    code, _, err = command("show a.air --plot loss.jpg", capsys)
    assert (code, err) == (11, "error [storage]: cannot draw loss.jpg: a picture is a file that ends in .png or .svg\n")


def test_what_was_not_trained_here_has_no_curve(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.handmade import small_adapter

    ual.write(small_adapter(), "small.air")
    code, _, err = command("show small.air --plot loss.svg", capsys)
    assert (code, err) == (3, "error [no-curve]: small.air: holds no record of a training with a curve\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            "--explain --roles nothing",
            6,
            "error [setting]: setting roles: expected roles such as attention_query and mlp_up, ",
        ),
        ("--data data.jsonl", 2, "Error: give --name NAME, or -o PATH"),
        ("--name a", 2, "Error: give --data FILE, or --explain to see which modules would be trained"),
        ("--data data.jsonl -o a.air --record", 2, "Error: --record needs --name NAME"),
        ("--data data.jsonl -o a.air --set rank", 2, "Error: Invalid value for '--set': 'rank': expected NAME=VALUE"),
        ("--data data.jsonl -o a.air --set rank=[", 2, "Error: Invalid value for '--set': 'rank=[': the value is no"),
        ("--data data.jsonl -o a.air --set rnk=1", 6, "error [setting]: setting rnk: there is no such setting"),
        ("--data none.jsonl -o a.air", 11, "error [storage]: cannot read none.jsonl"),
        ("--data broken.jsonl -o a.air", 3, "error [training-data]: broken.jsonl, line 2"),
        ("--data one.jsonl -o a.air", 6, "error [too-few-examples]: 1 document to train on"),
        ("--data empty.jsonl -o a.air", 3, "error [training-data]: empty.jsonl: holds no examples"),
        ("--data data.jsonl -o a.air --head masked", 6, "error [no-head]: base model "),
        ("--data data.jsonl -o base", 11, "error [exists]: cannot write base: it exists already"),
        ("--data data.jsonl -o none/a.air", 11, "error [storage]: cannot write none/a.air: there is no folder none"),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(
    words: str, code: int, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (place / "one.jsonl").write_text('{"text": "the cat sees the mouse."}\n')
    (place / "empty.jsonl").write_text("\n")
    before = sorted(place.iterdir())
    found, out, err = command(f"train --base base {words}", capsys)
    assert (found, out) == (code, "")
    assert next(line for line in err.splitlines() if line.startswith(("error", "Error"))).startswith(said)
    assert sorted(place.iterdir()) == before


def test_sigterm_ends_with_143_and_resume_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"train --base base --data data.jsonl --name t {QUICK} --steps 40 --set checkpoint_every=40"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    line = [sys.executable, "-m", "ual_registry", *words.split()]
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_step(process, place / "t.run", 3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    kept = last_checkpoint(place / "t.run" / "checkpoints")
    assert kept is not None
    step = int(kept.name.removeprefix("step-"))
    assert process.returncode == 143
    assert err.splitlines()[-2:] == [
        f"error [interrupted]: asked to end after step {step}; a checkpoint is kept",
        "hint: the same command with --resume goes on from there",
    ]
    code, out, _ = command(f"{words} --resume -q --json", capsys)
    assert (code, json.loads(out)["steps"]) == (0, 40)
    steps = [own["step"] for own in read_log(place / "t.run" / "log.jsonl") if own["event"] == "step"]
    assert steps == [*range(1, 41)]


def test_two_processes_train_like_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under gloo on the CPU, as ``accelerate launch`` starts them; 54 rows are no multiple of 16."""
    words = "train --base base --data data.jsonl --rank 4 --alpha 8 --learning-rate 1e-3 --epochs 2 --device cpu -q"
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    port = str(20000 + os.getpid() % 20000)
    started = f"{launch} --dynamo_backend no --main_process_port {port} -m ual_registry {words} -o two.air"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, *started.split(), "--batch-size", "4", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)
    code, out, _ = command(f"{words} -o one.air --batch-size 8 --json", capsys)
    one = json.loads(out)
    assert code == 0
    for name in ("steps", "tokens", "trained_tokens", "best_step"):
        assert one[name] == two[name]
    assert one["proof"]["loss_after"] == pytest.approx(two["proof"]["loss_after"], abs=1e-6)
    assert largest_difference("one.air", "two.air") < 1e-6
    with ual.read("two.air") as adapter:
        assert adapter.manifest.provenance[0].parameters["settings"]["processes"] == 2


def largest_difference(one: str, other: str) -> float:
    """Return the largest difference of a number of two files."""
    from ual_registry.tensors import to_torch

    with ual.read(one) as first, ual.read(other) as second:
        pairs = [(to_torch(own), to_torch(second.tensors[name])) for name, own in first.tensors.items()]
        return max(float((left - right).abs().max()) for left, right in pairs)


def test_python_trains_on_dicts(place: Path) -> None:
    examples: list[dict[str, Any]] = [own.record() for own in texts(30)]
    result = ual.train("base", examples, output="a.air", config={"steps": 2, "batch_size": 4}, name="a", record=True)
    with result.adapter:
        assert (result.revision, result.adapter.manifest.name, result.record.steps) == ("a@1", "a", 2)
    with pytest.raises(RegistryError) as caught:
        ual.train("base", examples, output="b.air", record=True)
    assert caught.value.problem_code == "not-recordable"
    with pytest.raises(TrainingError) as told:
        ual.train("base", examples, output="b.air", config={"stepz": 2})
    assert told.value.hint == "did you mean steps?"


def test_labels_are_counted_before_the_head_is_made(place: Path) -> None:
    save_base(place / "bert", "bert")
    examples = [{"text": f"the {index % 10}", "label": index % 10 + 2} for index in range(60)]
    config = {"steps": 2, "head": "classification", "batch_size": 4}
    result = ual.train("bert", examples, output="a.air", config=config)
    with result.adapter:
        labels = result.adapter.manifest.provenance[0].parameters["settings"]["labels"]
    assert labels == tuple(str(number) for number in range(2, 12))


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_texts_that_are_longer_than_the_context_go_on_in_further_rows(kind: str, place: Path) -> None:
    save_base(place / kind, kind)
    examples = [{"text": "the cat sees the mouse " * 60 + str(number)} for number in range(4)]
    config = {"steps": 1, "head": "masked" if kind == "bert" else "causal", "batch_size": 2}
    result = ual.train(kind, examples, output="a.air", config=config)
    with result.adapter:
        data = result.record.data
    assert (data["train"]["longest"], data["train"]["examples"]) == (128, 3)


def test_a_model_that_begins_behind_its_padding_reads_fewer_tokens() -> None:
    from types import SimpleNamespace

    from transformers import RobertaConfig, RobertaForMaskedLM

    from ual_registry.training.heads import context_of

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = RobertaForMaskedLM(RobertaConfig(vocab_size=9, max_position_embeddings=66, pad_token_id=1, **sizes))
    base: Any = SimpleNamespace(model=model)
    assert context_of(base) == 64


def test_an_architecture_that_no_binder_knows_is_inferred(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ual_registry.binders import load

    index = load._index()
    monkeypatch.setattr(load, "_index", lambda: {name: own for name, own in index.items() if name != "llama"})
    code, _, err = command(f"train --base base --data data.jsonl -o a.air {QUICK} --steps 2", capsys)
    assert (code, err.splitlines()[0]) == (
        0,
        "inferred the binder of this architecture: a.binder.json; set UAL_BINDERS to it wherever the adapter is used",
    )
    assert json.loads((place / "a.binder.json").read_text())["model_types"].keys() == {"llama"}
    assert "UAL_BINDERS" not in os.environ
