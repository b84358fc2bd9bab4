"""``ual validate FILE`` from a cold start, against ``python -c pass``.

Target: at most 0.25 s more, and neither torch, numpy, transformers, peft nor sqlalchemy in ``sys.modules``. What people
do instead, importing peft to look at an adapter, is shown beside.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.measure import in_turns, machine
from examples.tiny_adapter import make_tiny_models
from ual_registry.workflows.convert import convert_to_air

_HEAVY = ("torch", "numpy", "transformers", "peft", "sqlalchemy", "safetensors")


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


@click.command()
@click.option("--runs", default=15, show_default=True)
def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tiny_models(folder)
        air = folder / "triage.air"
        convert_to_air(folder / "adapter", air, base=folder / "base")
        bare, ours, theirs = in_turns(
            [
                lambda: _run("-c", "pass"),
                lambda: _run("-m", "ual_registry", "validate", str(air)),
                lambda: _run("-c", "import peft"),
            ],
            runs=runs,
        )
        code = (
            f"import sys; from ual_registry.cli.main import run; run(['validate', {str(air)!r}]); print(*sys.modules)"
        )
        loaded = [module for module in _run("-c", code).split() if module in _HEAVY]
    print(f"machine: {machine()}; seconds: median [least, most]")
    print(f"python -c pass          {bare.text()}")
    print(f"ual validate FILE       {ours.text()}  {ours.median - bare.median:+.3f} s (target +0.250)")
    print(f"python -c 'import peft' {theirs.text()}  {theirs.median - bare.median:+.3f} s")
    print(f"heavy modules loaded by ual validate: {', '.join(loaded) or 'none'}")


if __name__ == "__main__":
    main()
