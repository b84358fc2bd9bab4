"""How fast adapters are trained on short real texts, beside transformers' Trainer with PEFT as people use it.

    python -m benchmarks.training --data FOLDER [--part speed-text ...] [--steps 12]

FOLDER holds ``clinc150/data_full.json`` (https://github.com/clinc/oos-eval, CC BY 3.0); the base model is
SmolLM2-135M-Instruct from ``examples/materials.py``, in float32 on the CPU. Parts:

* ``speed-text``, ``speed-completion``: tokens a second of our batching beside rows padded to the longest of a
  micro-batch, in the same steps;
* ``fixed``: the same beside rows padded to 512, in a few small steps;
* ``overhead``: our Trainer beside the bare one on the very same micro-batches;
* ``memory``: the peak of a process that trains in each way;
* ``full``: LoRA beside all weights;
* ``estimate``: a dry run beside the run;
* ``gpu``: a random model of the shape of Llama 3.2 1B on a GPU, in bfloat16 (``--device cpu --tiny`` tries it out).

A token counts where it is none that fills a row up. All that share a table take a step in turns on the same rows;
times are medians over steps but the first, ratios medians of the ratios in a step, with a 95 % bootstrap interval.
Targets: twice the tokens a second, 3 % overhead, no more memory, at an equal curve of losses.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from benchmarks.measure import machine
from examples.materials import calm_threads, model_folder

calm_threads()

import torch  # noqa: E402  # after the threads are calmed

from benchmarks import training_estimate, training_gpu  # noqa: E402  # as above
from benchmarks.training_arms import (  # noqa: E402  # as above
    Arm,
    bare,
    ours,
    plain,
    ratio_text,
    run_in_turns,
    state_bytes,
)
from benchmarks.training_material import Material, config_of, examples_of, material_of  # noqa: E402  # as above
from benchmarks.training_memory import peak_of  # noqa: E402  # as above

_SIZES = ((8, 2), (32, 1), (64, 1))
"""Rows of a micro-batch, and micro-batches of a step: the defaults of ``ual train``, and larger batches at once."""

Make = Callable[[str, tuple[int, int]], Material]


def table(material: Material, arms: Sequence[Arm]) -> None:
    """Run arms in turns, and print each beside the first."""
    run_in_turns(arms)
    tokens, first = material.tokens()[1:], arms[0]
    print(f"{'':26}{'s a step':>10}{'tokens/s':>10}{'times the first':>24}{'loss differs by':>17}")
    for arm in arms:
        times = arm.times_s[1:]
        speed = statistics.median(count / time for count, time in zip(tokens, times, strict=True))
        apart = max(abs(one - other) for one, other in zip(first.losses(), arm.losses(), strict=True))
        ratio = ratio_text(first.times_s[1:], times)
        print(f"{arm.name:26}{statistics.median(times):10.3f}{speed:10.1f}{ratio:>24}{apart:17.1e}", flush=True)


def speed(make: Make, form: str, rows: Sequence[int]) -> None:
    """Print how many tokens a second each way to fill rows takes, with so many rows in a micro-batch."""
    for size in (own for own in _SIZES if own[0] in rows):
        material = make(form, size)
        print(f"\nCLINC150 as {form}, {size[0]} rows in a micro-batch, {size[1]} in a step", flush=True)
        table(
            material,
            [
                plain("padded to the longest", material),
                ours("grouped", material, batching="grouped"),
                ours("packed", material, batching="packed"),
            ],
        )


def fixed(make: Make) -> None:
    """Print the same beside rows of 512 tokens."""
    material = make("text", (4, 1))  # a step of 16 such rows takes minutes
    print("\nCLINC150 as text, 4 rows a step, beside rows of one length", flush=True)
    table(material, [plain("padded to 512", material, width=512), ours("packed", material, batching="packed")])


def overhead(make: Make) -> None:
    """Print what our parts take beside the Trainer alone, which gets the same micro-batches ready made."""
    for batching in ("shuffled", "packed"):  # grouped ones are no fixed number in a step, which the Trainer wants
        material = make("text", (8, 2))
        print(f"\noverhead on the same micro-batches, {batching}", flush=True)
        arms = [bare("bare Trainer", material, batching=batching), ours("ours", material, batching=batching)]
        table(material, arms)
        print(f"ours takes {ratio_text(arms[1].times_s[1:], arms[0].times_s[1:], 3)} times as long (target 1.03)")


def memory(data: Path, model: Path, steps: int) -> None:
    """Print the peak of a process of each way."""
    print("\npeak memory of a process, MB")
    for size in _SIZES:
        for name in ("padded to the longest", "grouped", "packed"):
            peak = peak_of(name, data=data, model=model, size=size, steps=steps)
            print(f"{size[0]} rows, {name:26}{peak / 1e6:10,.0f}", flush=True)


def full(make: Make, data: Path, model: Path, folder: Path) -> None:
    """Print LoRA beside all weights, both by the bare Trainer with rows padded to the longest."""
    material = make("text", (8, 2))
    arms = [plain("all weights", material, is_full=True), plain("LoRA, rank 16", material)]
    print("\nLoRA beside all weights", flush=True)
    table(material, arms)
    print(f"{'':26}{'trained':>14}{'share':>9}{'optimiser, MB':>15}{'file, MB':>10}{'peak, MB':>10}")
    for arm in arms:
        own = arm.trainer.model
        trained = sum(value.numel() for value in own.parameters() if value.requires_grad)
        share = trained / sum(value.numel() for value in own.parameters())
        place = folder / arm.name.replace(" ", "-")
        own.save_pretrained(place)
        size = sum(path.stat().st_size for path in place.glob("*.safetensors"))
        peak = peak_of(arm.name, data=data, model=model, size=(8, 2), steps=2)
        numbers = f"{state_bytes(arm.trainer.optimizer) / 1e6:15,.1f}{size / 1e6:10,.1f}{peak / 1e6:10,.0f}"
        print(f"{arm.name:26}{trained:14,}{share:9.2%}{numbers}", flush=True)


_PARTS = ("speed-text", "speed-completion", "fixed", "overhead", "memory", "full", "estimate", "gpu")


def _usual(device: str) -> Iterator[str]:
    yield from (part for part in _PARTS if (part == "gpu") is (device == "cuda"))


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds clinc150.")
@click.option("--model", type=click.Path(path_type=Path), help="Folder of the base model; fetched where absent.")
@click.option("--part", "parts", multiple=True, type=click.Choice(_PARTS), help="What to measure.")
@click.option("--rows", multiple=True, type=int, help="Rows of a micro-batch of the speed parts; all sizes by default.")
@click.option("--steps", default=13, show_default=True, help="Steps of each arm, the first of which is not counted.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(("cpu", "cuda")))
@click.option("--tiny", is_flag=True, help="A small model in place of the one of 1B.")
def main(
    data: Path,
    model: Path | None,
    parts: tuple[str, ...],
    rows: tuple[int, ...],
    *,
    steps: int,
    device: str,
    tiny: bool,
) -> None:
    """Measure how fast adapters are trained."""
    parts = parts or tuple(_usual(device))
    place = model or (Path() if parts == ("gpu",) else model_folder("smollm2"))
    print(f"machine: {machine()}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(prefix="ual-bench-") as name:
        folder = Path(name)

        def make(form: str, size: tuple[int, int], count: int = steps) -> Material:
            own = examples_of(data, form, count * size[0] * size[1])
            place_of_run = Path(tempfile.mkdtemp(dir=folder))
            return material_of(own, config_of(count, size), place, place_of_run)

        for part in parts:
            if part.startswith("speed"):
                speed(make, part.removeprefix("speed-"), rows or [size[0] for size in _SIZES])
            elif part == "fixed":
                fixed(partial(make, count=4))
            elif part == "overhead":
                overhead(make)
            elif part == "memory":
                memory(data, place, 3)
            elif part == "estimate":
                training_estimate.compare(data, place)
            elif part == "full":
                full(make, data, place, folder)
            else:
                training_gpu.measure(data, folder, steps=steps, device=device, is_tiny=tiny)


if __name__ == "__main__":
    main()
