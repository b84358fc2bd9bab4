"""Commands from a cold start, against ``python -c pass``: ``ual validate FILE``, and those that look up binders.

Targets: validation at most 0.25 s more, the list of binders and the binding of a model of 126 blocks at most 0.2 s
more, and neither torch, numpy, transformers, peft nor sqlalchemy in ``sys.modules``. What people do instead, importing
peft to look at an adapter or transformers to look at a config, is shown beside.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.measure import in_turns, machine
from examples.tiny_adapter import make_tiny_models
from ual_registry.workflows.convert import convert_to_air

LARGE_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
"""The config of Llama 3.1 405B, as far as its modules follow from it."""

BIND = (
    "import pathlib; from ual_registry.binders.base import load_base; from ual_registry.binders.bind import bind; "
    "print(len(bind(load_base(pathlib.Path({path!r}))).modules))"
)
"""Code that binds a config and prints how many modules it has."""

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
        (folder / "large.json").write_text(json.dumps(LARGE_CONFIG), encoding="utf-8")
        large = str(folder / "large.json")
        commands = {
            "ual validate FILE": (["validate", str(air)], 0.25),
            "ual binder list": (["binder", "list"], 0.2),
            "ual binder show CONFIG": (["binder", "show", large], 0.2),
        }
        bare, bound, peft, transformers, *ours = in_turns(
            [
                lambda: _run("-c", "pass"),
                lambda: _run("-c", BIND.format(path=large)),
                lambda: _run("-c", "import peft"),
                lambda: _run("-c", "from transformers import LlamaConfig, LlamaForCausalLM"),
                *(functools.partial(_run, "-m", "ual_registry", *words) for words, _ in commands.values()),
            ],
            runs=runs,
        )
        listed = {name: ["-m", "ual_registry", *words] for name, (words, _) in commands.items()}
        bind = ["-c", BIND.format(path=large)]
        processor = list(_processor_text({"python -c pass": ["-c", "pass"], **listed, "bind(CONFIG)": bind}, runs))
        loaded = {name: _heavy(_CALL.format(words=words)) for name, (words, _) in commands.items()}
        loaded["bind(CONFIG)"] = _heavy(BIND.format(path=large))
    print(f"machine: {machine()}; seconds: median [least, most], above python -c pass")
    print(f"{'python -c pass':24} {bare.text()}")
    rows = [
        (name, times, f" (target +{aim:.3f})") for (name, (_, aim)), times in zip(commands.items(), ours, strict=True)
    ]
    rows += [("bind(CONFIG)", bound, " (target +0.200)"), ("import peft", peft, "")]
    rows += [("import LlamaForCausalLM", transformers, "")]
    for name, times, aim in rows:
        print(f"{name:24} {times.text()}  {times.median - bare.median:+.3f} s{aim}")
    print("processor time above python -c pass: median")
    print(*processor, sep="\n")
    for name, modules in loaded.items():
        print(f"heavy modules loaded by {name}: {', '.join(modules) or 'none'}")


def _processor_text(commands: Mapping[str, Sequence[str]], runs: int) -> Iterator[str]:
    """Yield the processor time of each command above an empty one; other work on the machine hardly changes it."""
    samples = [{name: _processor_seconds(words) for name, words in commands.items()} for _ in range(runs)]
    for name in commands:
        above = statistics.median(sample[name] - sample["python -c pass"] for sample in samples)
        yield f"{name:24} {above:+.3f} s"


def _processor_seconds(words: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


_CALL = "from ual_registry.cli.main import run; run({words!r})"


def _heavy(code: str) -> list[str]:
    """Run code in a new interpreter and return the heavy modules that it loaded."""
    return [module for module in _run("-c", f"{code}; import sys; print(*sys.modules)").split() if module in _HEAVY]


if __name__ == "__main__":
    main()
