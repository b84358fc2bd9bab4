"""Walk through the product with real models: `python -m examples.demo`.

An adapter is trained on SmolLM2-135M, converted to AIR, validated, registered, found again, moved to
Gemma-3-270M, and converted back; then every arm is measured on the same test requests. The product is used as a
user uses it: by its command line, each command shown before its output.

This module decides the order of the walk and how its result is worded. The wording follows the numbers: a
difference is named only where the 95 % interval of the paired difference leaves out 0.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tabulate import tabulate

from examples.intervals import Interval, mean_interval, paired_interval
from examples.materials import MaterialsError, calm_threads, model_folder
from examples.topics import TopicData, load_topics

if TYPE_CHECKING:
    from examples.topic_task import Arm

_REPOSITORY = Path(__file__).resolve().parent.parent

SOURCE = "SmolLM2 base"
SOURCE_ADAPTED = "SmolLM2 + adapter, came back from AIR"
TARGET = "Gemma base"
TARGET_MOVED = "Gemma + transferred (svd)"
TARGET_RANDOM = "Gemma + random, same norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What one run of the demo works with.

    Attributes:
        work: Folder of everything that the run writes; relative paths in commands start here.
        source: Model folder of SmolLM2.
        target: Model folder of Gemma.
        data: The task.
        steps: Training steps.
    """

    work: Path
    source: Path
    target: Path
    data: TopicData
    steps: int


@click.command()
@click.option("--steps", default=110, show_default=True, help="Training steps of 16 requests.")
@click.option("--test-size", default=200, show_default=True, help="Test requests for each arm.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to, new or empty.  [default: a fresh temporary folder]",
)
@click.option("--quick", is_flag=True, help="1 step and 8 test requests: shows the walk, measures nothing.")
def main(steps: int, test_size: int, work: Path | None, quick: bool) -> None:
    """Train, convert, register, search, transfer and measure one adapter, with real small models."""
    calm_threads()
    if quick:
        steps, test_size = 1, 8
    walk = _prepare(_work_folder(work), steps, test_size)
    with _timed("everything after the downloads"):
        _train(walk)
        _use_the_command_line(walk)
        _check_the_way_back(walk.work)
        _print_result(_measure_arms(walk))


def _work_folder(chosen: Path | None) -> Path:
    folder = chosen or Path(tempfile.mkdtemp(prefix="ual-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise click.UsageError(f"--work {folder}: expected a new or empty folder")
    return folder.resolve()


def _prepare(work: Path, steps: int, test_size: int) -> Walk:
    try:
        source, target = model_folder("smollm2"), model_folder("gemma3")
    except MaterialsError as error:
        raise click.ClickException(str(error)) from error
    data = load_topics(test_size=test_size)
    click.echo(f"work folder: {work}")
    click.echo(f"models: {source}, {target}")
    click.echo(f"requests: {data.source}, {len(data.train)} to train on, {len(data.test)} to test on")
    return Walk(work=work, source=source, target=target, data=data, steps=steps)


@contextmanager
def _timed(title: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    click.echo(f"({title}: {time.monotonic() - start:.0f} s)")


# Steps of the walk


def _train(walk: Walk) -> None:
    from examples import topic_task  # noqa: PLC0415 - torch loads here, after calm_threads

    _quieten()
    recipe = topic_task.Recipe(steps=walk.steps)
    click.echo(f"\nTraining a rank {recipe.rank} adapter on SmolLM2, {walk.steps} steps of {recipe.batch_size}")
    with _timed("training"):
        base = topic_task.load_base(walk.source)
        losses = topic_task.train_adapter(base, walk.data, recipe, walk.work / "smollm2-topics")
    click.echo(f"training loss of the first step {losses[0]:.2f}, of the last {losses[-1]:.2f} nats a request")


def _quieten() -> None:
    """Keep the bars and notices of transformers and PEFT out of the transcript."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _use_the_command_line(walk: Walk) -> None:
    source, target = str(walk.source), str(walk.target)
    transfer = ["transfer", "topics@candidate", "--to", target, "--method", "svd"]
    for arguments in (
        ["convert", "smollm2-topics", "smollm2-topics.air", "--base", source],
        ["validate", "smollm2-topics.air"],
        ["show", "smollm2-topics.air"],
        ["add", "smollm2-topics.air", "--name", "topics", "--alias", "candidate"],
        ["search", "base:llama rank>=8 role:mlp_gate"],
        [*transfer, "--plan"],
        [*transfer, "-o", "gemma3-topics.air"],
        ["add", "gemma3-topics.air", "--name", "topics-gemma3"],
        ["lineage", "topics-gemma3"],
        ["convert", "smollm2-topics.air", "smollm2-topics-back"],
        ["convert", "gemma3-topics.air", "gemma3-topics"],
    ):
        _ual(walk.work, arguments)


def _ual(work: Path, arguments: list[str]) -> None:
    """Run one `ual` command in the work folder, shown as in a shell, with a registry of its own.

    Raises:
        click.ClickException: The command failed; its output has been shown.
    """
    click.echo(f"\n$ {shlex.join(['ual', *arguments])}")
    done = subprocess.run(
        [sys.executable, "-m", "ual_registry", *arguments],
        cwd=work,
        env=_environment(work),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    click.echo(done.stdout, nl=False)
    if done.returncode != 0:
        raise click.ClickException(f"`ual {arguments[0]}` ended with exit status {done.returncode}")


def _environment(work: Path) -> dict[str, str]:
    paths = [str(_REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "UAL_HOME": str(work / "registry"), "PYTHONPATH": os.pathsep.join(paths)}


def _check_the_way_back(work: Path) -> None:
    """Compare the adapter that came back from AIR with the trained one, and say so.

    Raises:
        click.ClickException: A tensor differs in a bit, or the config differs as JSON.
    """
    went, came = work / "smollm2-topics", work / "smollm2-topics-back"
    tensors = _stored_tensors(went)
    if tensors != _stored_tensors(came):
        raise click.ClickException("PEFT -> AIR -> PEFT: the tensors are not bit-identical")
    if _config(went) != _config(came):
        raise click.ClickException("PEFT -> AIR -> PEFT: adapter_config.json differs")
    click.echo(f"\nPEFT -> AIR -> PEFT: {len(tensors)} tensors bit-identical, adapter_config.json equal as JSON")


def _stored_tensors(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Return dtype, shape and bytes of every tensor in the weights of a PEFT folder, by name."""
    safetensors: Any = importlib.import_module("safetensors")
    stored = safetensors.deserialize((folder / "adapter_model.safetensors").read_bytes())
    return {name: (part["dtype"], list(part["shape"]), bytes(part["data"])) for name, part in stored}


def _config(folder: Path) -> object:
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


# Measuring


def _measure_arms(walk: Walk) -> dict[str, Arm]:
    from examples import topic_task  # noqa: PLC0415 - torch loads here, after calm_threads

    moved, control = walk.work / "gemma3-topics", walk.work / "gemma3-random"
    topic_task.write_random_adapter(moved, control, seed=0)
    click.echo(f"\nMeasuring five arms on {len(walk.data.test)} requests")
    with _timed("measuring"):
        came_back = walk.work / "smollm2-topics-back"
        source = _measure(walk.source, {SOURCE: None, SOURCE_ADAPTED: came_back}, walk.data)
        arms = {TARGET: None, TARGET_MOVED: moved, TARGET_RANDOM: control}
        return source | _measure(walk.target, arms, walk.data)


def _measure(folder: Path, arms: Mapping[str, Path | None], data: TopicData) -> dict[str, Arm]:
    """Evaluate one base model with each adapter in turn; None stands for no adapter."""
    from examples import topic_task  # noqa: PLC0415 - torch loads here, after calm_threads

    base, measured = topic_task.load_base(folder), {}
    for name, adapter in arms.items():
        if adapter is None:
            measured[name] = topic_task.evaluate(base, data)
            continue
        wrapped = topic_task.with_adapter(base, adapter)
        measured[name] = topic_task.evaluate(wrapped, data)
        wrapped.model.unload()
    return measured


# Wording


def _print_result(arms: Mapping[str, Arm]) -> None:
    rows = [(name, *_figures(arm)) for name, arm in arms.items()]
    headers = ["arm", "accuracy", "95 % interval", "loss"]
    click.echo("\n" + tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "left", "right")))
    click.echo("accuracy: gold label most likely of ten (chance 0.100); loss: nats of the gold label per request")
    click.echo("\n" + "\n".join(_sentences(arms)))


def _figures(arm: Arm) -> tuple[str, str, str]:
    accuracy = mean_interval(arm.correct)
    return f"{accuracy.mean:.3f}", f"[{accuracy.low:.3f}, {accuracy.high:.3f}]", f"{arm.loss:.2f}"


def _sentences(arms: Mapping[str, Arm]) -> list[str]:
    """Say what the paired differences show, and no more."""
    gain = _accuracy_gain(arms[SOURCE_ADAPTED], arms[SOURCE])
    over_base = _accuracy_gain(arms[TARGET_MOVED], arms[TARGET])
    over_random = _accuracy_gain(arms[TARGET_MOVED], arms[TARGET_RANDOM])
    return [
        _compared("SmolLM2 + adapter against SmolLM2 base", arms[SOURCE_ADAPTED], arms[SOURCE]),
        _compared("Gemma + transferred against Gemma base", arms[TARGET_MOVED], arms[TARGET]),
        _compared("Gemma + transferred against the random adapter", arms[TARGET_MOVED], arms[TARGET_RANDOM]),
        _verdict(gain, over_base, over_random),
    ]


def _accuracy_gain(arm: Arm, other: Arm) -> Interval:
    return paired_interval(arm.correct, other.correct)


def _compared(title: str, arm: Arm, other: Arm) -> str:
    accuracy = _worded(_accuracy_gain(arm, other), 3)
    loss = _worded(paired_interval(arm.losses, other.losses), 2)
    return f"{title}: accuracy {accuracy}, loss {loss}."


def _worded(difference: Interval, digits: int) -> str:
    bounds = f"[{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
    if not difference.excludes_zero:
        return f"{difference.mean:+.{digits}f} {bounds} (no difference beyond the interval)"
    return f"{difference.mean:+.{digits}f} {bounds} ({'higher' if difference.mean > 0 else 'lower'})"


def _verdict(gain: Interval, over_base: Interval, over_random: Interval) -> str:
    scope = "One pair of models, one task, one training seed, one random adapter."
    if gain.low <= 0:
        return f"The adapter did not raise the accuracy of its own base, so the transfer shows nothing. {scope}"
    if over_base.low > 0 and over_random.low > 0:
        return f"Here the svd transfer raised Gemma's accuracy beyond the base and the random adapter. {scope}"
    return (
        "The adapter raised the accuracy of its own base, but moved by svd it did not raise Gemma's beyond both "
        f"the base and a random adapter of the same norm. {scope}"
    )


if __name__ == "__main__":
    main()
