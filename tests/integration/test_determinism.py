"""The same adapter gives the same bytes in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

_CODE = """
import sys
from pathlib import Path
from examples.tiny_adapter import make_tiny_models
import ual_registry as ual

folder = Path(sys.argv[1])
make_tiny_models(folder)
adapter = ual.from_peft(folder / "adapter", base=folder / "base")
print(ual.write(adapter, folder / "out.air"))
"""


def test_twenty_processes_with_different_hash_seeds_write_one_digest(tmp_path: Path) -> None:
    digests = set()
    for seed in range(20):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(_ROOT)}
        command = [sys.executable, "-c", _CODE, str(tmp_path / str(seed))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert digests == {"sha256:35bad24feb5bad51ad38dd43fa0ffcefc2b44eaae82cb8ec384b937e9de3b053\n"}
