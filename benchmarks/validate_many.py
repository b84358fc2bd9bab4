"""``ual validate`` of many adapters, against plain sha256 of the same bytes on as many processes.

Targets: with digests at least 90 % of the speed of plain sha256; headers only at least 2,000 files a second on two
cores; schema and rules of a manifest of 448 entries together at most 20 ms, warm. Each round times ours and its peer
one after the other; files are read from the page cache where they fit into it. Processor time is shown beside: it
hardly changes where other work shares the cores, which makes every wall time worse.

Every file has a manifest of its own. Those of one recipe have the same entries and shapes, of which much is worked out
once; many recipes in turn show what is left where no file is like the last ones.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import click

from benchmarks.measure import in_turns, machine
from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import parse_json
from ual_registry.air.document import MANIFEST_SCHEMA, decode_manifest, encode_manifest
from ual_registry.air.header import METADATA_KEY, open_header
from ual_registry.air.model import BaseModel, Entry, Manifest, Method, Stack
from ual_registry.air.rules import rule_problems
from ual_registry.air.schema import schema_problems
from ual_registry.air.tensor import FileSource, Tensor, TensorShape
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.workflows.validate import validate_many

_ROLES = {
    "attention_query": (1, 1),
    "attention_key": (1, 1),
    "attention_value": (1, 1),
    "attention_output": (1, 1),
    "mlp_up": (1, 4),
    "mlp_down": (4, 1),
    "mlp_gate": (1, 4),
}
_RANK = 8
_SOME_RECIPES, _MANY_RECIPES = 64, 384
"""Both are remembered of 28 entries; 384 of 56 entries are more than are, so that nothing is known again."""


def random_adapter(layers: int, width: int, dtype: str) -> Adapter:
    """Make an adapter of random bits whose numbers are all finite, with 7 roles in every layer."""
    numbers = random.Random(0)
    item_bytes = {"BF16": 2, "F32": 4}[dtype]

    def tensor(*shape: int) -> Tensor:
        data = bytearray(numbers.randbytes(shape[0] * shape[1] * item_bytes))
        data[item_bytes - 1 :: item_bytes] = bytes(shape[0] * shape[1] * [0x3C])
        return Tensor.of_bytes(dtype, shape, bytes(data))

    tensors, entries = {}, []
    for layer in range(layers):
        for role in sorted(_ROLES):
            size_in, size_out = (factor * width for factor in _ROLES[role])
            name = f"layers.{layer}.{role}"
            tensors[f"{name}.lora_A"] = tensor(_RANK, size_in)
            tensors[f"{name}.lora_B"] = tensor(size_out, _RANK)
            entries.append(
                Entry(
                    layer=layer,
                    role=role,
                    in_features=size_in,
                    out_features=size_out,
                    rank=_RANK,
                    scaling=2.0,
                    lora_A=f"{name}.lora_A",
                    lora_B=f"{name}.lora_B",
                    source=f"model.layers.{layer}.{role}",
                )
            )
    stack = Stack(
        hidden_size=width,
        num_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=width // 8,
        intermediate_size=4 * width,
    )
    base = BaseModel(
        id="example/base",
        revision="0123456789abcdef" * 2 + "01234567",
        architecture="llama",
        model_type="llama",
        config_digest=str(Digest.of_bytes(b"config")),
        vocab_size=32000,
        stacks=(stack,),
    )
    method = Method(
        type="lora",
        task_type="CAUSAL_LM",
        rank=_RANK,
        alpha=16.0,
        scaling_rule="alpha/rank",
        dropout=0.0,
        bias="none",
        dora=False,
    )
    manifest = Manifest(air_version="1.0", kind="adapter", base_model=base, method=method, entries=tuple(entries))
    return Adapter(manifest, tensors)


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash_many(paths: list[Path], jobs: int) -> None:
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(_hash, paths, chunksize=max(1, min(32, len(paths) // (jobs * 8)))))


def _validate_many(paths: list[Path], jobs: int, *, headers_only: bool = False) -> None:
    reports = validate_many(paths, headers_only=headers_only, jobs=jobs)
    faults = [problem for report in reports for problem in report.problems]
    assert faults == [], faults[:3]


def _written(folder: Path, adapters: Sequence[Adapter], count: int) -> list[Path]:
    """Write adapters in turn, every file with a manifest of its own."""
    for number in range(count):
        adapter = adapters[number % len(adapters)]
        manifest = replace(adapter.manifest, name=f"adapter-{number}", description=f"number {number} of {count}")
        write(Adapter(manifest, adapter.tensors), folder / f"{number}.air")
    return [folder / f"{number}.air" for number in range(count)]


class _Task:
    """A task that notes the processor time of every run, that of its processes included."""

    def __init__(self, task: Callable[[], None]) -> None:
        self._task = task
        self._spent_s: list[float] = []

    def __call__(self) -> None:
        before = sum(os.times()[:4])
        self._task()
        self._spent_s.append(sum(os.times()[:4]) - before)

    @property
    def processor_s(self) -> float:
        """Seconds of the median run."""
        return statistics.median(self._spent_s)


def _digests(dtype: str, width: int, files: int, jobs: int, runs: int, *, recipes: int = 1) -> None:
    with tempfile.TemporaryDirectory() as name:
        adapters = [random_adapter(8, width + 8 * (number - recipes // 2), dtype) for number in range(recipes)]
        paths = _written(Path(name), adapters, files)
        total = sum(path.stat().st_size for path in paths)
        tasks = [_Task(lambda: _validate_many(paths, jobs)), _Task(lambda: _hash_many(paths, jobs))]
        ours, plain = in_turns(tasks, runs=runs)
    print(
        f"{files} files of {total / files / 1e6:.1f} MB, {dtype}, {_recipes(recipes)}: "
        f"ours {ours.text()} s ({total / 1e9 / ours.median:.2f} GB/s), "
        f"sha256 {plain.text()} s ({total / 1e9 / plain.median:.2f} GB/s): "
        f"{100 * plain.median / ours.median:.0f} % of its speed (target 90 %), "
        f"{100 * tasks[1].processor_s / tasks[0].processor_s:.0f} % by processor time",
        flush=True,
    )


def _recipes(count: int) -> str:
    return "one recipe" if count == 1 else f"{count} recipes in turn"


def _headers(layers: int, files: int, jobs: int, runs: int, *, recipes: int = 1) -> None:
    with tempfile.TemporaryDirectory() as name:
        adapters = [random_adapter(layers, 16 + 8 * number, "F32") for number in range(recipes)]
        paths = _written(Path(name), adapters, files)
        task = _Task(lambda: _validate_many(paths, jobs, headers_only=True))
        (ours,) = in_turns([task], runs=runs)
    print(
        f"headers only, {7 * layers} entries, {_recipes(recipes)}: "
        f"{files / ours.median:.0f} files a second on {jobs} processes "
        f"(target 2,000 on 2), {ours.text()} s for {files}; {1e3 * task.processor_s / files:.2f} ms of a core each",
        flush=True,
    )


def _texts(count: int) -> list[str]:
    """Return manifests of 448 entries that differ in every entry."""
    texts = []
    with tempfile.TemporaryDirectory() as name:
        path, adapter = Path(name) / "x.air", random_adapter(64, 16, "F32")
        for number in range(count):
            entries = tuple(replace(entry, scaling=1.5 + number) for entry in adapter.entries)
            write(Adapter(replace(adapter.manifest, entries=entries), adapter.tensors), path)
            source = FileSource(path)
            texts.append(open_header(source).metadata[METADATA_KEY])
            source.close()
    return texts


def _manifest(runs: int) -> None:
    texts = itertools.cycle(_texts(_MANY_RECIPES))
    text = next(texts)
    document = parse_json(text.encode(), what="manifest")
    manifest = decode_manifest(text).manifest
    assert isinstance(manifest, Manifest)
    assert len(manifest.entries) == 448
    adapter = random_adapter(64, 16, "F32")
    shapes = {key: TensorShape(tensor.dtype, tensor.shape) for key, tensor in adapter.tensors.items()}

    def schema() -> None:
        assert list(schema_problems(MANIFEST_SCHEMA, document, root="manifest")) == []

    def rules() -> None:
        assert list(rule_problems(manifest, shapes)) == []

    tasks = (schema, rules, lambda: decode_manifest(next(texts)), lambda: encode_manifest(manifest))
    times = in_turns(tasks, runs=runs)
    (known,) = in_turns([lambda: decode_manifest(text)], runs=runs)
    parts = [time.text(1e-3, 1) for time in (*times, known)]
    both = (times[0].median + times[1].median) * 1e3
    print(
        f"manifest of 448 entries, ms: schema {parts[0]} + rules {parts[1]} = {both:.1f} (target 20); "
        f"whole decoding {parts[2]}, with entries that are known {parts[4]}, encoding {parts[3]}",
        flush=True,
    )


@click.command()
@click.option("--files", default=1000, show_default=True, help="Adapters for the digests.")
@click.option("--header-files", default=4000, show_default=True)
@click.option("--width", default=1792, show_default=True, help="Width of the base model; sets the size of a file.")
@click.option("--jobs", default=len(os.sched_getaffinity(0)), show_default=True)
@click.option("--runs", default=5, show_default=True)
def main(files: int, header_files: int, width: int, jobs: int, runs: int) -> None:
    print(f"machine: {machine()}; {jobs} processes; median [least, most]", flush=True)
    _manifest(max(runs, 15))
    for layers, recipes in ((1, 1), (4, 1), (4, _SOME_RECIPES), (4, _MANY_RECIPES)):
        _headers(layers, header_files, jobs, runs, recipes=recipes)
    for dtype, recipes in (("F32", 1), ("BF16", 1), ("F32", _SOME_RECIPES), ("F32", _MANY_RECIPES)):
        _digests(dtype, width if dtype == "F32" else 2 * width, files, jobs, runs, recipes=recipes)


if __name__ == "__main__":
    main()
