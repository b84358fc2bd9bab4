"""A tiny sentence encoder that knows words: texts that share words have embeddings that are near."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_encoder import WORDS, make_tiny_encoder, sentence_encoder, sentences
from tests.commands import Result, Ual
from tests.handmade import small_adapter
from ual_registry.air.write import write
from ual_registry.cli.main import run

__all__ = ["ENCODER", "WORDS", "sentences", "write_rows"]

ENCODER = ("--encoder", "tiny/encoder")
"""The options that name the encoder of the trained router."""


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sentence-transformers folder of a BERT with mean pooling."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny-encoder"
    sentence_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def desk_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an encoder, queries, a registry with two adapters, and a router that was trained there.

    ``trained.json`` is what the training printed.
    """
    place: Path = tmp_path_factory.mktemp("desk")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        _go_to(patch, place)
        make_tiny_encoder(Path("tiny"))
        for name in ("money", "trips"):
            write(small_adapter(name=name), f"{name}.air")
            assert run(["add", f"{name}.air", "--name", name, "-q"]) == 0
        printed.seek(0)
        printed.truncate()
        words = "router train --config tiny/router.yaml --data tiny/examples.jsonl --name desk -o desk.air -q --json"
        assert run(words.split()) == 0
    (place / "trained.json").write_text(printed.getvalue())
    return place


def _go_to(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.chdir(place)
    patch.setenv("UAL_HOME", str(place / "registry"))
    patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    patch.delenv("UAL_TRACEBACK", raising=False)


@pytest.fixture
def desk(desk_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the folder of the trained router, which is the working folder."""
    place = tmp_path / "desk"
    shutil.copytree(desk_folder, place)
    _go_to(monkeypatch, place)
    return place


@pytest.fixture
def ual(desk: Path, capsys: pytest.CaptureFixture[str]) -> Ual:
    """Run one command in that folder."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        caught = capsys.readouterr()
        assert "Traceback" not in caught.err
        return Result(code, caught.out, caught.err)

    return call


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
