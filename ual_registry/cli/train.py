"""The command about training: train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from ual_registry.cli.output import Output, common_options, print_error
from ual_registry.cli.seed import SEED
from ual_registry.cli.train_text import (
    estimate_document,
    estimate_text,
    targets_text,
    training_document,
    training_text,
)
from ual_registry.errors import TrainingError
from ual_registry.training.config import (
    BATCHINGS,
    DEVICES,
    HEADS,
    PRECISIONS,
    SCHEDULES,
    SINKS,
    TrainingConfig,
)
from ual_registry.training.config_file import make_config, read_config
from ual_registry.training.forms import Form
from ual_registry.training.launch import is_first
from ual_registry.workflows.train import estimate_training, explain_targets, run_training
from ual_registry.workflows.train_order import TrainOrder

__all__ = ["train_command"]

_EXIT_INTERRUPTED = 130
_EXIT_TERMINATED = 143
"""On SIGTERM, and where another process heard the signal and told this one to end."""

_SETTINGS = (
    "head", "roles", "layers", "exclude", "rank", "alpha", "learning_rate", "schedule", "epochs", "steps",
    "batch_size", "accumulation", "max_length", "batching", "precision", "device", "patience", "seed", "sinks",
)  # fmt: skip


def _changes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Turn ``name=value`` into settings; a value is read as YAML."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r}: expected NAME=VALUE")
        try:
            found[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise click.BadParameter(f"{value!r}: the value is no YAML") from error
    return found


def _fields(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, str]:
    """Turn ``name=field,...`` into what the data calls each field."""
    parts = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    for name, equals, field in parts:
        if not (equals and name.strip() and field.strip()):
            raise click.BadParameter(f"{text!r}: expected NAME=FIELD, such as prompt=question,completion=answer")
    return {name.strip(): field.strip() for name, _, field in parts}


@click.command(
    "train",
    epilog="\b\nExamples:\n"
    "  ual train --base smollm2/ --data triage.jsonl --name triage\n"
    "  ual train --base smollm2/ --data triage.jsonl --dry-run\n"
    "  ual train --base smollm2/ --explain --roles attention_query,attention_value --layers 0-11\n"
    "  ual train --base smollm2/ --data triage.jsonl --config settings.yaml --name triage --resume\n"
    "  accelerate launch --num_processes 2 -m ual_registry train --base smollm2/ --data triage.jsonl --name triage",
)
@click.option("--base", required=True, metavar="BASE", help="Folder of the base model, with weights and tokenizer.")
@click.option("--base-id", help="Hub id of the base model, as a label; by default the name of the folder.")
@click.option("--data", metavar="FILE", help="JSONL, CSV or text file, folder of texts, or data set of the Hub.")
@click.option(
    "--form", type=click.Choice([own.value for own in Form]), help="What the examples are; as the first one by default."
)
@click.option(
    "--fields", callback=_fields, metavar="NAME=FIELD,...", help="Fields of the data that have other names there."
)
@click.option("--held-out", metavar="FILE", help="Examples to hold out, in place of a share of --data.")
@click.option("--limit", type=click.IntRange(min=1), help="Examples to read at most.")
@click.option("--name", help="Label of the adapter, and its name in the registry.")
@click.option("--description", help="What the adapter does, to write into the manifest.")
@click.option("--domain", help="The field that it serves, to write into the manifest.")
@click.option("--license", "license_", help="SPDX expression to write into the manifest.")
@click.option("-o", "--output", "path", metavar="PATH", help="AIR file to write; NAME.air by default.")
@click.option("--folder", metavar="DIR", help="Where log and checkpoints are kept; beside PATH by default.")
@click.option("--config", "config_file", metavar="FILE", help="Settings, YAML, TOML or JSON.")
@click.option("--set", "changes", multiple=True, callback=_changes, metavar="NAME=VALUE", help="Any setting.")
@click.option("--head", type=click.Choice(HEADS), help="What the base model is trained to find.")
@click.option("--roles", metavar="ROLE,...", help="Roles to train; all linear modules of the blocks by default.")
@click.option("--layers", metavar="RANGES", help="Layers to train, such as 0-11,14.")
@click.option("--exclude", metavar="ROLE,...", help="Roles, or paths of modules, to leave out.")
@click.option("--rank", type=int, help="Rank of every pair of factors.")
@click.option("--alpha", type=float, help="The scaling is alpha / rank.")
@click.option("--learning-rate", type=float, help="AdamW's, at its highest.")
@click.option("--schedule", type=click.Choice(SCHEDULES), help="How the learning rate goes.")
@click.option("--epochs", type=float, help="Passes over the examples.")
@click.option("--steps", type=int, help="Steps, instead of passes.")
@click.option("--batch-size", type=int, help="Rows of a micro-batch on one device.")
@click.option("--accumulation", type=int, help="Micro-batches of a step.")
@click.option("--max-length", type=int, help="Tokens of a row at most.")
@click.option("--batching", type=click.Choice(BATCHINGS), help="How rows are put together.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="What to compute in.")
@click.option("--device", type=click.Choice(DEVICES), help="Where to compute.")
@click.option("--patience", type=int, help="Looks without a better held-out loss before training stops.")
@click.option("--seed", type=SEED, help="Seeds fresh factors, split, order and masks.")
@click.option("--sinks", type=click.Choice(SINKS), help="Where the log goes beside its JSONL file.")
@click.option("--resume", is_flag=True, help="Go on with the run in its folder.")
@click.option("--explain", is_flag=True, help="Say which modules would be trained, and why; nothing is loaded.")
@click.option("--dry-run", is_flag=True, help="Say what it would take, in memory and time; nothing is written.")
@click.option("--record", is_flag=True, help="Add it to the registry under NAME, as the next revision.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH, and begin the run anew.")
@common_options
def train_command(output: Output, **options: Any) -> int | None:
    """Train an adapter, with a record and a proof.

    The result is an AIR file that says what it was trained on and how, and what it is worth on held-out documents. A
    run that is interrupted goes on with --resume, and ends with the same adapter. On SIGTERM, and on the first Ctrl-C,
    a checkpoint is kept, and the exit code is 143 or 130.
    """
    config = _config(options)
    if options["explain"]:
        choice = explain_targets(options["base"], config)
        output.result({"targets": choice.document()}, lambda: targets_text(choice))
        return None
    if options["data"] is None:
        raise click.UsageError("give --data FILE, or --explain to see which modules would be trained")
    if options["dry_run"]:
        found = estimate_training(_order(options, config, output))
        output.result(estimate_document(found), lambda: estimate_text(found))
        return None
    if options["path"] is None and options["name"] is None:
        raise click.UsageError("give --name NAME, or -o PATH")
    if options["record"] and options["name"] is None:
        raise click.UsageError("--record needs --name NAME")
    return _train(_order(options, config, output), output)


def _train(order: TrainOrder, output: Output) -> int | None:
    try:
        result = run_training(order, say=output.note if is_first() else lambda _: None)
    except TrainingError as error:
        if error.problem_code != "interrupted":
            raise
        print_error(error, as_json=output.as_json)
        return _EXIT_INTERRUPTED if error.context.get("signal") == "SIGINT" else _EXIT_TERMINATED
    with result.adapter:
        if is_first():
            output.result(training_document(result), lambda: training_text(result))
    return None


def _config(options: dict[str, Any]) -> TrainingConfig:
    given = {name: options[name] for name in _SETTINGS if options[name] is not None}
    changes = {**options["changes"], **given}
    file = options["config_file"]
    return make_config(changes) if file is None else read_config(Path(file), **changes)


def _order(options: dict[str, Any], config: TrainingConfig, output: Output) -> TrainOrder:
    texts = {"name": "name", "description": "description", "domain": "domain", "license": "license_"}
    return TrainOrder(
        base=options["base"],
        base_id=options["base_id"],
        data=options["data"],
        form=options["form"],
        fields=options["fields"],
        limit=options["limit"],
        held_out=options["held_out"],
        config=config,
        labels={field: options[own] for field, own in texts.items() if options[own] is not None},
        output=options["path"] or f"{options['name'] or 'adapter'}.air",
        folder=options["folder"],
        is_resumed=options["resume"],
        is_recorded=options["record"],
        is_forced=options["force"],
        is_shown=not output.is_quiet and not output.as_json,
    )
