"""``ual doctor`` on a base model with weights: the adapter is tried, compared with its record, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.commands import Result
from tests.unit.dispatch.answering.stage import Stage, random_adapter, silent_adapter
from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import effect_of, with_effect
from ual_registry.air.read import read
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.dispatch.acting import AdapterLoader
from ual_registry.interop.to_peft import to_peft
from ual_registry.registry.registry import Registry

pytestmark = pytest.mark.filterwarnings("ignore")

Doctor = Callable[..., Result]


@pytest.fixture
def doctor(
    stage: Stage,
    loader: AdapterLoader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    """Run ``ual doctor`` in a folder with ``own.air``, which records its effect, and ``bare.air``, which does not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "home"))
    adapter = random_adapter(stage.base, 1)
    write(adapter, "bare.air")
    effect = loader.measure(adapter, "own")
    write(Adapter(with_effect(adapter.manifest, effect), adapter.tensors), "own.air")

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = run(["doctor", *(str(word) for word in words)])
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        return Result(code, caught.out, caught.err)

    return call


def moved(path: str = "own.air") -> tuple[int, float]:
    with read(path) as adapter:
        effect = effect_of(adapter.manifest)
    assert effect is not None
    return effect.changes[0].token, effect.largest_change


def test_an_adapter_is_tried_where_the_base_has_weights(doctor: Doctor, stage: Stage) -> None:
    token, change = moved()
    found = doctor("own.air", "--base", stage.folder)
    says = f"it moves the logit of token {token} by {change:.4g}"
    lines = [f"own.air on {stage.folder}, 14 modules: ok", f"  note  effect: as recorded: {says}"]
    assert (found.code, found.out.splitlines()) == (0, lines)
    document = doctor("bare.air", "--base", stage.folder, "--for", "peft", "--json").document
    assert list(schema_problems("1.0/cli/doctor.json", document, root="document")) == []
    assert document == {
        "path": "bare.air",
        "engine": "peft",
        "version": "0.21.2",
        "modules": 14,
        "is_clean": True,
        "findings": [
            {
                "verdict": "note",
                "where": "effect",
                "says": "not recorded; 'ual doctor REF --base FOLDER -o FILE.air' records it",
                "source": None,
            }
        ],
        "recorded": None,
    }


def test_an_adapter_that_does_otherwise_than_recorded_is_found(doctor: Doctor, stage: Stage) -> None:
    with read("own.air") as own:
        entries = tuple(replace(entry, scaling=entry.scaling * entry.rank**0.5) for entry in own.entries)
        write(Adapter(replace(own.manifest, entries=entries), own.tensors), "flipped.air")
        write(Adapter(own.manifest, silent_adapter(stage.base).tensors), "silent.air")
    found = doctor("flipped.air", "--base", stage.folder)
    assert found.code == 3
    first, second = found.out.splitlines()
    assert first == f"flipped.air on {stage.folder}, 14 modules: not as the adapter says"
    assert second.startswith("  other effect  effect: does otherwise than recorded: it moves the logit of token ")
    assert second.endswith("; it is 1.73 times too strong, which fits alpha/sqrt(r) where alpha/r was meant")
    silent = doctor("silent.air", "--base", stage.folder)
    assert silent.code == 3
    assert silent.out.splitlines()[-1] == "  no effect  effect: does nothing, every lora_B is zero"


def test_a_peft_folder_is_tried_as_it_would_be_loaded(doctor: Doctor, stage: Stage) -> None:
    with read("own.air") as own:
        to_peft(own, Path("peft"))
    found = doctor("peft", "--base", stage.folder, "--for", "peft")
    note = "not recorded; 'ual doctor REF --base FOLDER -o FILE.air' records it"
    assert (found.code, found.out.splitlines()[1:]) == (0, [f"  note  effect: {note}"])
    config = json.loads(Path("peft/adapter_config.json").read_text())
    Path("peft/adapter_config.json").write_text(json.dumps({**config, "layer_replication": [[0, 2]]}))
    odd = doctor("peft", "--base", stage.folder, "--for", "peft")
    assert (odd.code, odd.out.splitlines()[1][:27]) == (0, "  note  effect: not tried: ")


def test_an_effect_is_recorded_in_a_file_or_as_the_next_revision(doctor: Doctor, stage: Stage, tmp_path: Path) -> None:
    made = doctor("bare.air", "--base", stage.folder, "-o", "made.air")
    assert (made.code, moved("made.air")) == (0, moved())
    registry = Registry.open(tmp_path / "home")
    digest = str(Digest.of_file(Path("made.air")))
    assert made.out.splitlines()[-1] == f"wrote made.air ({digest})"
    assert doctor("bare.air", "--base", stage.folder, "-o", "made.air").code == 11
    assert doctor("bare.air", "--base", stage.folder, "-o", "made.air", "--force").code == 0
    registry.add("bare.air", name="own")
    document = doctor("own", "--base", stage.folder, "--record", "--json").document
    assert list(schema_problems("1.0/cli/doctor.json", document, root="document")) == []
    assert document["recorded"] == {"path": None, "digest": digest, "revision": "own@2"}
    assert str(registry.resolve("own")) == digest


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("bare.air", 2, "give --for ENGINE, --base BASE, or both"),
        ("bare.air --for vllm --record", 2, "what the adapter does is seen on --base"),
        ("bare.air --base {base} --record", 8, "cannot record the effect of bare.air: it is no name in the registry"),
        ("silent.air --base {base} -o x.air", 7, "adapter silent.air: does nothing, every lora_B is zero"),
        ("foreign.air --base {base} -o x.air", 4, "foreign.air: made for owner/other with weights_digest"),
        ("bare.air --base {base}/config.json -o x.air", 11, "is a file, expected a folder"),
    ],
)
def test_what_cannot_be_recorded_is_told(words: str, code: int, message: str, doctor: Doctor, stage: Stage) -> None:
    write(silent_adapter(stage.base), "silent.air")
    with read("bare.air") as own:
        other = replace(own.manifest.base_model, id="owner/other", weights_digest="sha256:" + "9" * 64)
        write(Adapter(replace(own.manifest, base_model=other), own.tensors), "foreign.air")
    found = doctor(*words.format(base=stage.folder).split())
    assert (found.code, message in found.err) == (code, True)
    assert not Path("x.air").exists()
