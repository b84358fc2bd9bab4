"""The command line in this process, in an empty folder with a registry of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import Result, Ual
from tests.handmade import LLAMA_CONFIG, peft_config, peft_tensors, small_adapter, write_peft
from ual_registry.air.write import write
from ual_registry.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: an AIR file, a PEFT folder, a base model, a broken file and an empty folder."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UAL_TRACEBACK", raising=False)
    write(small_adapter(name="label", domain="medical", license="MIT"), place / "small.air")
    (place / "base").mkdir()
    (place / "base" / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "num_key_value_heads": 2}))
    (place / "wide").mkdir()
    (place / "wide" / "config.json").write_text(json.dumps({**LLAMA_CONFIG, "intermediate_size": 8}))
    write_peft(place / "peft", peft_tensors(), peft_config(base_model_name_or_path="org/tiny"))
    (place / "peft" / "README.md").write_text("a card")
    (place / "broken.air").write_bytes(b"\xff\x00 broken" * 9)
    (place / "empty").mkdir()
    return place


@pytest.fixture
def ual(folder: Path, capsys: pytest.CaptureFixture[str]) -> Ual:
    """Run one command."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        return Result(code, caught.out, caught.err)

    return call
