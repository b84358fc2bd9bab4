"""The parts of the benchmark of training: every way trains on the same rows, and comes to the same losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import training_gpu
from benchmarks.training import table
from benchmarks.training_arms import bare, ours, plain, ratio_text, run_in_turns, state_bytes
from benchmarks.training_material import Material, config_of, examples_of, material_of
from tests.unit.distillation.material import sentences
from tests.unit.training.tiny import save_base

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks of tiny models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of CLINC150."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clinc150").mkdir()
    rows = [[f"{text} {number}" * (1 + number % 3), "a_wish"] for number, text in enumerate(sentences(60, seed=2))]
    (folder / "clinc150" / "data_full.json").write_text(json.dumps({"train": rows}))
    return folder


@pytest.fixture
def material(data: Path, tmp_path: Path) -> Material:
    base = save_base(tmp_path / "base", "llama")
    return material_of(examples_of(data, "completion", 24), config_of(3, (4, 2)), base, tmp_path)


def test_all_ways_come_to_the_same_losses_in_turns(material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [
        plain("padded to the longest", material),
        plain("padded to 60", material, width=60),
        bare("bare Trainer", material, batching="packed"),
        ours("grouped", material, batching="grouped"),
        ours("packed", material, batching="packed"),
    ]
    table(material, arms)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:26].strip() for line in lines] == ["", *(arm.name for arm in arms)]
    assert [len(arm.times_s) for arm in arms] == [3] * 5
    for arm in arms[1:]:
        assert arm.losses() == pytest.approx(arms[0].losses(), abs=1e-5)
    assert sum(material.tokens()) == sum(len(row.input_ids) for row in material.prepared.train)


def test_full_fine_tuning_keeps_two_numbers_for_every_weight(material: Material) -> None:
    arms = [plain("all weights", material, is_full=True), plain("LoRA", material)]
    run_in_turns(arms)
    counts = [sum(own.numel() for own in arm.trainer.model.parameters() if own.requires_grad) for arm in arms]
    assert counts[0] > 2 * counts[1]
    for arm, count in zip(arms, counts, strict=True):
        assert 8 * count <= state_bytes(arm.trainer.optimizer) < 8 * count + 4096


def test_what_ends_an_arm_is_raised(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    arm, other = plain("one", material), plain("other", material)
    monkeypatch.setattr(arm.trainer, "compute_loss", lambda *_, **__: torch.zeros(1) / 0 + 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_in_turns([arm, other])
    assert len(other.times_s) == 3


def test_ratios_are_paired() -> None:
    assert ratio_text([2.0, 40.0, 6.0], [1.0, 20.0, 3.0]) == "2.00 [2.00, 2.00]"


def test_the_part_for_a_gpu_runs_on_a_cpu_in_small(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training_gpu.measure(data, tmp_path, steps=2, device="cpu", is_tiny=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if ":" in line] == ["CPU", "short texts", "long texts"]
    rows = [line[:26].strip() for line in lines if line.endswith("-")]
    assert rows == ["padded to the longest", "grouped", "packed"] * 2
