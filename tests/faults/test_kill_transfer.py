"""A transfer that is killed goes on where it was: with the text it had generated, and the statistics it had taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ground_truth.materials import sentences
from tests.unit.cli.transfer_scene import make_scene

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made

_ROOT = Path(__file__).resolve().parents[2]
_TEXTS = 160
_LIMIT_S = 600.0
_COMMAND = (
    "transfer ./own.air --to cousin --source-base llama --method activations --calibrate many.txt --continue 2 --force"
)


def start(place: Path, folder: str, path: str) -> subprocess.Popen[str]:
    words = [*_COMMAND.split(), "--folder", folder, "-o", path]
    return subprocess.Popen(
        [sys.executable, "-m", "ual_registry", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> None:
    """Kill a process, which cannot do anything about it, as soon as it has come so far."""
    end = time.monotonic() + _LIMIT_S
    while not is_reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, said


def texts_in(folder: Path) -> list[bytes]:
    """Return the whole lines of the generated text, the settings first."""
    return [line for file in folder.glob("continued/*.jsonl") for line in file.read_bytes().split(b"\n")[:-1]]


def progress_in(folder: Path) -> list[int]:
    """Return how many passages are in the statistics that are not finished yet."""
    files = folder.glob("statistics/*/part-*/progress.json")
    return [json.loads(file.read_text(encoding="utf-8"))["passages"] for file in files]


def test_a_killed_transfer_goes_on_to_the_same_adapter(tmp_path: Path) -> None:
    make_scene(tmp_path)
    (tmp_path / "many.txt").write_text("\n".join(sentences(17, _TEXTS)) + "\n", encoding="utf-8")
    folder = tmp_path / "kept"

    kill_when(start(tmp_path, "kept", "out.air"), lambda: len(texts_in(folder)) > 1 + 16)
    before = texts_in(folder)
    assert 1 + 16 < len(before) < 1 + _TEXTS

    kill_when(start(tmp_path, "kept", "out.air"), lambda: bool(progress_in(folder)))
    assert texts_in(folder)[: len(before)] == before
    assert len(texts_in(folder)) == 1 + _TEXTS
    assert [0 < passages < _TEXTS for passages in progress_in(folder)] == [True]
    assert not (tmp_path / "out.air").exists()

    finish(start(tmp_path, "kept", "out.air"))
    assert progress_in(folder) == []
    finish(start(tmp_path, "fresh", "whole.air"))
    assert texts_in(tmp_path / "fresh") == texts_in(folder)
    assert (tmp_path / "out.air").read_bytes() == (tmp_path / "whole.air").read_bytes()
