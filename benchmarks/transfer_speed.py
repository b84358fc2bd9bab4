"""Classic transfers of a 7B-shaped adapter against copying its file.

Targets: the transfer itself at most twice the time of copying the file, peak memory above the interpreter's at most
1.2 times the file. 32 layers, seven modules each, rank 16, random float32 factors; from the shapes of Llama-2-7B to
those of Mistral-7B. All is measured in the same run, in turns: the copy is ``shutil.copyfile``, with and without
``fsync``; what is timed of the transfer is shown part by part.

The floor is the same file read whole and then written as it is, with its digests and without any transfer: what a file
costs whose every byte can be verified. It is above the first target: the digest of a file can be begun only when the
digests of its tensors, which stand in its header, are known.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch

from benchmarks.measure import Times, machine
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest, Method
from ual_registry.air.read import read
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.binders.bind import bind
from ual_registry.binders.describe import describe_base
from ual_registry.digest import Digest
from ual_registry.tensors import from_torch, to_torch
from ual_registry.transfers.plan import make_plan
from ual_registry.transfers.run import run_transfer

_LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
_MISTRAL = {
    **_LLAMA,
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
}
METHODS = ("svd", "truncate", "interpolate")


def config_folder(place: Path, document: dict[str, object]) -> Path:
    """Write a config into a folder of its own."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps(document))
    return place


def random_adapter(folder: Path, rank: int, layers: int | None) -> Adapter:
    """Return an adapter of every module in the blocks."""
    config = load_base(folder)
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    entries = []
    for module, slot in bind(config).slots().values():
        if slot.layer is None or (layers is not None and slot.layer >= layers):
            continue
        shapes = {"lora_A": (rank, slot.in_features), "lora_B": (slot.out_features, rank)}
        names = {factor: slot.tensor_name(factor) for factor in shapes}
        for factor, shape in shapes.items():
            tensors[names[factor]] = from_torch(torch.randn(*shape, generator=generator) * 0.02, "F32")
        entries.append(slot.entry(source=module.path, rank=rank, scaling=2.0, **names))
    method = Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=rank,
        alpha=2.0 * rank,
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=describe_base(config),
        method=method,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        name="random",
    )
    return Adapter(manifest, tensors)


def transfer(file: Path, target: Path, method: str, out: Path) -> Iterator[float]:
    """Carry a file over, and yield the time after each part: reading, planning, projecting, writing."""
    yield time.perf_counter()
    with read(file) as adapter:
        yield time.perf_counter()
        plan = make_plan(adapter.manifest, load_base(target))
        yield time.perf_counter()
        result = run_transfer(adapter, plan, method=method, source_digest=Digest("0" * 64))
        yield time.perf_counter()
        write(result.adapter, out)
        yield time.perf_counter()


def copy(file: Path, out: Path, *, is_synced: bool) -> float:
    """Copy a file and return the seconds that it took."""
    start = time.perf_counter()
    shutil.copyfile(file, out)
    if is_synced:
        with out.open("rb") as stream:
            os.fsync(stream.fileno())
    return time.perf_counter() - start


def rewrite(file: Path, out: Path) -> float:
    """Read a file whole and write its tensors as they are, with new digests; return the seconds that it took."""
    start = time.perf_counter()
    with read(file) as adapter:
        tensors = {name: from_torch(to_torch(own), own.dtype, is_own=True) for name, own in adapter.tensors.items()}
        write(Adapter(adapter.manifest, tensors), out)
    return time.perf_counter() - start


def peak_growth(few: Path, file: Path, target: Path, method: str, out: Path) -> int:
    """Return by how much one transfer raises the resident memory of an interpreter of its own, at its peak, in bytes.

    Args:
        few: A file of a few layers, which is carried over before: what is loaded once is loaded by it.
        file: The file.
        target: Folder of the target's config.
        method: The method.
        out: What to write.
    """
    arguments = [str(few), str(file), str(target), method, str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer_speed_memory", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.split()[-1])


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--layers", default=None, type=int, help="Fewer layers, for a quick look.")
def main(runs: int, rank: int, layers: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        source, target = config_folder(home / "source", _LLAMA), config_folder(home / "target", _MISTRAL)
        few, file, out = home / "few.air", home / "adapter.air", home / "out.air"
        write(random_adapter(source, rank, 2), few)
        write(random_adapter(source, rank, layers), file)
        size = file.stat().st_size
        print(f"machine: {machine()}")
        print(f"adapter: {size / 2**20:.0f} MiB")
        for method in METHODS:
            _report(method, runs, (few, file, target, out))


def _report(method: str, runs: int, paths: tuple[Path, Path, Path, Path]) -> None:
    few, file, target, out = paths
    others: list[list[float]] = [[], [], []]
    parts: list[list[float]] = []
    for run in range(runs + 1):
        taken = [*(copy(file, out, is_synced=is_synced) for is_synced in (False, True)), rewrite(file, out)]
        stamps = list(transfer(file, target, method, out))
        if run:  # the first round warms up
            for own, seconds in zip(others, taken, strict=True):
                own.append(seconds)
            parts.append([after - before for before, after in itertools.pairwise(stamps)])
    plain, synced, floor = (Times(tuple(own)) for own in others)
    whole = Times(tuple(sum(part) for part in parts))
    work = Times(tuple(part[2] for part in parts))
    medians = [Times(column).median for column in zip(*parts, strict=True)]
    named = zip(("read", "plan", "project", "write"), medians, strict=True)
    shown = ", ".join(f"{label} {1e3 * seconds:.0f}" for label, seconds in named)
    growth = peak_growth(few, file, target, method, out) / file.stat().st_size
    print(f"{method}: {whole.text(1e-3, 0)} ms ({shown})")
    print(f"  copy: {plain.text(1e-3, 0)} ms, with fsync {synced.text(1e-3, 0)} ms")
    print(f"  floor: {floor.text(1e-3, 0)} ms, {floor.median / plain.median:.2f} times the copy")
    print(
        f"  ratio to the copy: {whole.median / plain.median:.2f} (target 2); "
        f"{work.median / plain.median:.2f} to project"
    )
    print(f"  ratio to the copy with fsync: {whole.median / synced.median:.2f}")
    print(f"  peak memory above the interpreter's: {growth:.2f} times the file (target 1.2)")


if __name__ == "__main__":
    main()
