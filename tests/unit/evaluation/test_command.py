"""``ual evaluate`` from the command line: what it prints, what it keeps, and what it refuses before any work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluation.conftest import Scene, label_lines, write_jsonl
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.read import read
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry


@pytest.fixture
def place(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the adapters, the base, data, and a registry of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    (tmp_path / "base").symlink_to(scene.base)
    for name in ("native", "wrong", "weak"):
        shutil.copy(scene.path(name), tmp_path / f"{name}.air")
    write_jsonl(tmp_path / "test.jsonl", label_lines(range(12)))
    write_jsonl(tmp_path / "dev.jsonl", label_lines(range(12, 18)))
    write_jsonl(tmp_path / "generic.jsonl", [{"text": "the dark"}, {"text": "light of the thing1"}])
    return tmp_path


EVERYTHING = (
    "evaluate weak.air --on base --data test.jsonl --baselines native=native.air --baselines wrong-task=wrong.air "
    "--source-base base --source native.air --dev dev.jsonl --dose --generic generic.jsonl"
)


def ual(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(command.split())
    out, err = capsys.readouterr()
    return code, out, err


def test_the_document_follows_its_schema(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for command in (
        f"{EVERYTHING} --plot arms.svg -o judged.air --json",
        "evaluate weak.air --on base --data test.jsonl --json",
    ):
        code, out, err = ual(command, capsys)
        assert (code, err) == (0, "")
        assert list(schema_problems("1.0/cli/evaluate.json", json.loads(out), root="document")) == []


def test_the_document_says_what_was_measured_and_where_it_is_kept(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = ual(f"{EVERYTHING} -o judged.air --json", capsys)
    document = json.loads(out)
    metrics = document.pop("metrics")
    assert [own["metric"] for own in metrics] == ["gold_nll", "accuracy"]
    assert [arm["arm"] for arm in metrics[0]["arms"]][:2] == ["base", "adapter"]
    assert [own["metric"] for own in document.pop("source")] == ["gold_nll", "accuracy"]
    dose, effects, notes = (document.pop(key) for key in ("dose", "side_effects", "notes"))
    assert dose["data_digest"] == str(Digest.of_file(place / "dev.jsonl"))
    assert effects["documents"] == 2
    assert notes[0] == "6 items of dev are too few to choose a dose: expected at least 10"
    assert all(note.startswith("accuracy: no recovered gain, no headroom: ") for note in notes[1:])
    for key in ("label", "labels", "dosed_labels"):
        document.pop(key)
    assert document == {
        "digest": str(Digest.of_file(place / "weak.air")),
        "base": "base",
        "task": "labels",
        "items": 12,
        "data_digest": str(Digest.of_file(place / "test.jsonl")),
        "prompts": "chat",
        "seed": 0,
        "resamples": 10_000,
        "identity_error": 0.0,
        "path": "judged.air",
        "path_digest": str(Digest.of_file(place / "judged.air")),
        "revision": None,
        "plot": None,
    }


def test_the_report_card_is_in_the_file_beside_the_same_tensors(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ual(f"{EVERYTHING} -o judged.air -q", capsys)[0] == 0
    with read(place / "weak.air") as before, read(place / "judged.air") as after:
        assert after.manifest.tensor_digest == before.manifest.tensor_digest
        assert after.manifest.provenance[:-1] == before.manifest.provenance
        statement = after.manifest.provenance[-1]
    assert statement.type == "evaluation"
    assert [material["name"] for material in statement.materials] == [
        "adapter",
        "native adapter",
        "wrong-task adapter",
        "source adapter",
        "base config",
        "base weights",
        "source base config",
        "source base weights",
        "test data",
        "dev data",
        "generic data",
    ]
    assert statement.materials[0]["digest"] == str(Digest.of_file(place / "weak.air"))


def test_a_registered_adapter_gets_a_revision_with_its_report_card(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ual("add native.air --name topics", capsys)[0] == 0
    code, out, err = ual(
        "evaluate topics --on base --data test.jsonl --baselines native=topics@1 --record --json", capsys
    )
    assert (code, err, json.loads(out)["revision"]) == (0, "", "topics@2")
    (found,) = Registry.open().search("recovered>=0.99").items
    assert (found.name, found.number) == ("topics", 2)
    shown = ual("show topics", capsys)[1]
    table = shown[shown.index("  label partial") :].splitlines()
    assert table[1] == "  task labels, chat prompts, gold_nll works"
    assert table[2] == f"  on 12 items of {Digest.of_file(place / 'test.jsonl')}"
    assert table[3].split() == ["arm", "gold_nll", "R", "accuracy"]
    assert [line.split()[0] for line in table[4:11]] == [
        "base",
        "adapter",
        "native",
        "random-1",
        "random-2",
        "random-3",
        "sign-flipped",
    ]


def test_the_report_card_is_shown_with_its_dose_curve_and_notes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ual(f"{EVERYTHING} -o judged.air -q", capsys)[0] == 0
    lines = ual("show ./judged.air", capsys)[1].splitlines()
    with read(place / "judged.air") as judged:
        settings = judged.manifest.provenance[-1].parameters["settings"]
    start = next(index for index, line in enumerate(lines) if line.split() == ["dose", "accuracy", "gold_nll"])
    points = [
        [f"{point[name]:.4g}" for name in ("gamma", "accuracy", "gold_nll")] for point in settings["dose"]["points"]
    ]
    assert [line.split() for line in lines[start + 1 : start + 1 + len(points)]] == points
    assert lines[start + 1 + len(points)] == (
        f"    chosen on dev by gold_nll: {settings['dose']['chosen']}; on the test items gold_nll works"
    )
    assert [line for line in lines if line.startswith("  note: ")] == [f"  note: {note}" for note in settings["notes"]]
    assert settings["notes"]


def test_a_source_that_the_lineage_does_not_name_is_noted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with read(place / "weak.air") as weak:
        parent = Parent(digest=str(Digest.of_file(place / "wrong.air")), relation="projected_from")
        write(Adapter(replace(weak.manifest, lineage=Lineage(parents=(parent,))), weak.tensors), place / "carried.air")
    notes = {}
    for source in ("wrong.air", "native.air"):
        command = f"evaluate carried.air --on base --data test.jsonl --source-base base --source {source} --json"
        notes[source] = json.loads(ual(command, capsys)[1])["notes"]
    said = f"the adapter was carried from {parent.digest}, and native.air is another one"
    assert said in notes["native.air"]
    assert said not in notes["wrong.air"]


@pytest.mark.parametrize(
    ("base", "message", "hint"),
    [
        ("base/config.json", "is a file, expected a folder with config.json and weights", "give the folder: base"),
        (
            "org/base",
            "no such folder",
            "check the path; weights on the Hub are never fetched: download them, and give their folder",
        ),
    ],
)
def test_a_base_model_that_is_no_folder_is_told_what_to_give(
    place: Path, capsys: pytest.CaptureFixture[str], base: str, message: str, hint: str
) -> None:
    code, _, err = ual(f"evaluate weak.air --on {base} --data test.jsonl", capsys)
    assert (code, err) == (11, f"error [storage]: cannot read {base}: {message}\nhint: {hint}\n")


NATIVE = (
    "evaluate weak.air --on base --data test.jsonl --train-native train.jsonl --native-config quick.json "
    "--native-run run -o judged.air --force --json"
)


@pytest.fixture
def trainable(place: Path) -> Path:
    """The working folder with items to train on, and settings of a training that takes a moment."""
    pytest.importorskip("accelerate")
    write_jsonl(place / "train.jsonl", label_lines(range(10, 18)))
    settings = {"rank": 2, "steps": 3, "batch_size": 6, "accumulation": 1, "held_out_share": 0.2}
    (place / "quick.json").write_text(json.dumps({**settings, "learning_rate": 0.01}))
    return place


def test_a_native_adapter_is_trained_on_request_and_kept(trainable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ual(NATIVE, capsys)
    first = json.loads(out)
    assert (code, [arm["arm"] for arm in first["metrics"][0]["arms"]][:3]) == (0, ["base", "adapter", "native"])
    with read(trainable / "run" / "adapter.air") as native, read(trainable / "judged.air") as judged:
        assert native.manifest.base_model.id == "base"
        materials = {own["name"]: own["digest"] for own in judged.manifest.provenance[-1].materials}
    assert materials == {
        "adapter": str(Digest.of_file(trainable / "weak.air")),
        "base config": str(Digest.of_file(trainable / "base" / "config.json")),
        "base weights": str(Digest.of_file(trainable / "base" / "model.safetensors")),
        "native training data": str(Digest.of_file(trainable / "train.jsonl")),
        "native adapter": str(Digest.of_file(trainable / "run" / "adapter.air")),
        "test data": str(Digest.of_file(trainable / "test.jsonl")),
    }
    assert first["notes"][0] == "2 items that the native adapter was trained on are test items too"
    again = json.loads(ual(NATIVE, capsys)[1])
    assert again["metrics"] == first["metrics"]


def test_people_read_a_table_the_curve_and_a_verdict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ual(f"{EVERYTHING} -v", capsys)
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "weak.air on base: labels, 12 items, seed 0")
    assert lines[2].split() == ["arm", "gold_nll", "R", "accuracy", "R"]
    assert [line.split()[0] for line in lines if line.startswith("random-")] == ["random-1", "random-2", "random-3"]
    assert any(line.startswith("chosen on dev by gold_nll: ") for line in lines)
    assert any(line.startswith("generic text (2 documents): ") for line in lines)
    assert lines[-1].startswith("verdict: ")
    assert err.splitlines()[0] == "loading base"
    assert "base: 12 items" in err.splitlines()


BASE = "evaluate native.air --on base --data test.jsonl"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (f"{BASE} --dose", 2, "--dose and --dev need each other: the dose is never chosen on the test items"),
        (f"{BASE} --dev dev.jsonl", 2, "--dose and --dev need each other: the dose is never chosen on the test items"),
        (f"{BASE} --source native.air", 2, "--source and --source-base need each other"),
        (f"{BASE} --baselines best=x.air", 2, "'best=x.air': expected native=REF or wrong-task=REF"),
        (f"{BASE} --baselines native=a.air --baselines native=b.air", 2, "native is given twice"),
        (f"{BASE} --native-run run", 2, "--native-config and --native-run need --train-native"),
        (
            f"{BASE} --train-native dev.jsonl --baselines native=a.air",
            2,
            "--train-native and --baselines native=REF exclude each other",
        ),
        (
            f"{BASE} --train-native test.jsonl",
            3,
            "test.jsonl: is the test file too, so the native adapter would have seen what it is tested on",
        ),
        (f"{BASE} --plot arms.pdf", 11, "cannot draw arms.pdf: a picture is a file that ends in .png or .svg"),
        (f"{BASE} --plot x.svg -o ./x.svg", 11, "cannot write ./x.svg: the picture goes there too"),
        (f"{BASE} --source-base none --source native.air", 11, "cannot read none"),
        (f"{BASE} -o native.air", 11, "cannot write native.air"),
        (f"{BASE} --record", 8, "cannot record the report card of native.air: it is no name in the registry"),
        (f"{BASE} --dev test.jsonl --dose", 3, "test.jsonl: is the test file too"),
        ("evaluate native.air --on base --data none.jsonl", 11, "cannot read none.jsonl"),
        ("evaluate native.air --on base --data generic.jsonl", 3, "generic.jsonl, line 1: unknown property 'text'"),
        ("evaluate native.air --on none --data test.jsonl", 11, "cannot read none: no such folder"),
        ("evaluate none.air --on base --data test.jsonl", 11, "cannot read none.air"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_tried(
    place: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, message: str
) -> None:
    got, out, err = ual(command, capsys)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_another_base_than_the_recorded_one_needs_a_word(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree((place / "base").resolve(), place / "other")
    config: dict[str, Any] = json.loads((place / "other" / "config.json").read_text())
    (place / "other" / "config.json").write_text(json.dumps({**config, "note": 1}))
    command = "evaluate native.air --on other --data test.jsonl"
    code, _, err = ual(command, capsys)
    digests = [Digest.of_file(place / name / "config.json") for name in ("other", "base")]
    expected = f"error [other-base]: other: its config has the digest {digests[0]}, but the adapter was made for base "
    assert (code, err.splitlines()[0]) == (4, f"{expected}with {digests[1]}")
    assert ual(f"{command} --any-base", capsys)[0] == 0


@pytest.mark.parametrize(("relation", "what"), [("projected_from", "carried over"), ("distilled_from", "distilled")])
def test_an_adapter_that_was_carried_there_is_no_native_one(
    place: Path, capsys: pytest.CaptureFixture[str], relation: str, what: str
) -> None:
    parent = f"sha256:{'1' * 64}"
    with read(place / "native.air") as adapter:
        lineage = Lineage(parents=(Parent(digest=parent, relation=relation),))
        write(Adapter(replace(adapter.manifest, lineage=lineage), adapter.tensors), place / "carried.air")
    code, out, err = ual(f"{BASE} --baselines native=carried.air", capsys)
    assert (code, out) == (5, "")
    assert err.splitlines()[0] == (
        f"error [not-native]: carried.air: was {what} from {parent}, so it is no native adapter"
    )
    assert ual(f"{BASE} --baselines native=native.air", capsys)[0] == 0


def with_weights(path: Path, digest: str) -> None:
    """Let an adapter record the digest of its base model's weights, as trained and carried ones do."""
    with read(path) as adapter:
        base = replace(adapter.manifest.base_model, weights_digest=digest)
        write(Adapter(replace(adapter.manifest, base_model=base), adapter.tensors), path)


@pytest.mark.parametrize(
    ("recorded", "options", "whose"),
    [
        ("native", "", "the adapter"),
        ("weak", "--baselines native=weak.air", "the native adapter"),
        ("weak", "--baselines wrong-task=weak.air", "the wrong-task adapter"),
        ("weak", "--source-base base --source weak.air", "the adapter"),
    ],
)
def test_a_base_of_other_weights_than_the_recorded_ones_needs_a_word(
    place: Path, capsys: pytest.CaptureFixture[str], recorded: str, options: str, whose: str
) -> None:
    wanted = f"sha256:{'0' * 64}"
    with_weights(place / f"{recorded}.air", wanted)
    own = Digest.of_file(place / "base" / "model.safetensors")
    message = f"base: its weights have the digest {own}, but {whose} was made for base with {wanted}"
    code, _, err = ual(f"{BASE} {options}", capsys)
    assert (code, err.splitlines()[0]) == (4, f"error [other-base]: {message}")
    assert ual(f"{BASE} {options} --any-base", capsys)[0] == 0


def test_a_source_base_of_another_config_is_refused_before_anything_is_measured(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "other").mkdir()  # no weights are there that could be loaded
    config = json.loads((place / "base" / "config.json").read_text())
    (place / "other" / "config.json").write_text(json.dumps({**config, "note": 1}))
    code, _, err = ual(f"{BASE} --source-base other --source native.air -v", capsys)
    assert (code, [line for line in err.splitlines() if "items" in line]) == (4, [])
    assert err.splitlines()[0].startswith("error [other-base]: other: its config has the digest ")


def test_a_base_without_a_tokenizer_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(place / "base" / name, place / "bare" / name)
    code, _, err = ual("evaluate native.air --on bare --data test.jsonl", capsys)
    assert (code, err.splitlines()[0][:22]) == (5, "error [no-tokenizer]: ")


def test_help_loads_no_framework() -> None:
    code = (
        "import sys; from ual_registry.cli.main import run; run(['evaluate', '--help']); "
        "heavy = {'torch', 'numpy', 'transformers', 'peft', 'matplotlib'} & {*sys.modules}; "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
