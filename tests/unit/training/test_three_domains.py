"""The example of three domains, with a tiny base and tiny texts: what it trains, measures, and goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import three_domains
from examples.domains import DOMAINS
from tests.unit.training.tiny import texts
from ual_registry.air.read import read
from ual_registry.training.examples import write_examples


def test_every_domain_is_trained_once_and_measured_on_all(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(three_domains, "model_folder", lambda _: llama_folder)
    monkeypatch.setattr(three_domains, "SETTINGS", {**three_domains.SETTINGS, "steps": 4, "max_length": 64})
    for seed, name in enumerate(DOMAINS):
        folder = tmp_path / "texts" / name
        folder.mkdir(parents=True)
        write_examples(folder / "train.jsonl", texts(30, seed=seed))
        write_examples(folder / "test.jsonl", texts(4, seed=seed + 10))
    files = three_domains.train_all(tmp_path)
    assert files == {name: tmp_path / f"{name}.air" for name in DOMAINS}
    for name, file in files.items():
        with read(file) as adapter:
            manifest = adapter.manifest
        assert (manifest.name, manifest.domain, manifest.base_model.id) == (name, name, "SmolLM2-135M-Instruct")
    made = [file.stat().st_mtime_ns for file in files.values()]
    assert three_domains.train_all(tmp_path) == files
    assert [file.stat().st_mtime_ns for file in files.values()] == made
    scores = three_domains.measure(tmp_path, files)
    assert scores.keys() == {(row, name) for row in ("base", *DOMAINS) for name in DOMAINS}
    assert all(scores[name, name] < scores["base", name] for name in DOMAINS)
