"""The command about other base models: transfer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ual_registry.air.write import write
from ual_registry.cli.evaluate import named_references
from ual_registry.cli.output import Output, common_options
from ual_registry.cli.seed import SEED
from ual_registry.cli.transfer_text import plan_document, plan_text, result_document, result_text
from ual_registry.errors import TransferError
from ual_registry.storage import check_target
from ual_registry.transfers.rungs import AUTO, RUNGS
from ual_registry.workflows.transfer import DEFAULT_METHOD, carry, plan_order
from ual_registry.workflows.transfer_order import DTYPES, REQUIRED, TASK_NAMES, WRITE_MAPS, TransferOrder, seconds_of

__all__ = ["transfer_command"]

_METHODS = (AUTO, *RUNGS)


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Turn ``10m`` into seconds."""
    try:
        return None if value is None else seconds_of(value)
    except TransferError as error:
        raise click.BadParameter(f"{error.message}, {error.hint}") from error


@click.command(
    "transfer",
    epilog="\b\nExamples:\n"
    "  ual transfer topics --to gemma/ --plan\n"
    "  ual transfer topics --to gemma/ --calibrate requests.txt --continue 4 -o topics-gemma.air\n"
    "  ual transfer topics --to gemma/ --budget 10m --data test.jsonl --require partial -o topics-gemma.air",
)
@click.argument("ref")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="BASE",
    help="Base model to go to: its folder, its config.json, or OWNER/NAME on the Hub.",
)
@click.option("--to-id", "target_id", help="Hub id of that base model, as a label.")
@click.option("--to-revision", "target_revision", help="Commit of that base model.")
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default=DEFAULT_METHOD,
    show_default=True,
    help="How to carry it; auto takes the best one for what is at hand.",
)
@click.option("--source-base", metavar="BASE", help="Folder of the adapter's own base model, with weights.")
@click.option(
    "--calibrate", "calibration", metavar="FILE", help="Unlabelled text: one a line, or JSONL with text or prompt."
)
@click.option(
    "--continue",
    "continue_tokens",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Let source and adapter go on with each text by N tokens.",
)
@click.option(
    "--budget", "budget_s", callback=_seconds, metavar="TIME", help="About how much time may be spent, such as 10m."
)
@click.option("--seeds", metavar="FILE", help="Seed prompts of a distillation, JSON.")
@click.option("--data", metavar="FILE", help="Items to measure the result on at once, JSONL.")
@click.option("--task", type=click.Choice(TASK_NAMES), default="labels", show_default=True, help="What is asked.")
@click.option(
    "--baselines",
    multiple=True,
    callback=named_references,
    metavar="NAME=REF",
    help="A further adapter, native=REF or wrong-task=REF; repeatable.",
)
@click.option("--plain", "is_plain", is_flag=True, help="Give prompts as they are, even where there is a template.")
@click.option("--require", type=click.Choice(REQUIRED), help="Fail where the label is less; nothing is written.")
@click.option("--any-base", "is_any_base", is_flag=True, help="Take a base model that is not the recorded one.")
@click.option(
    "--rotary",
    type=click.Choice(["drop", "project"]),
    default="drop",
    show_default=True,
    help="Query and key where rotary position embedding differs.",
)
@click.option(
    "--layer-map",
    type=click.Choice(["proportional", "cka"]),
    default="proportional",
    show_default=True,
    help="How the layers of both are paired; cka needs activations.",
)
@click.option(
    "--layers",
    type=click.Choice(["pick", "pool"]),
    default="pick",
    show_default=True,
    help="Source layers that are not paired: left out, or added to the nearest ones.",
)
@click.option(
    "--write-map",
    type=click.Choice(WRITE_MAPS),
    default=WRITE_MAPS[0],
    show_default=True,
    help="What activations fits its write maps to; joint adds gradients, and auto takes it where it can.",
)
@click.option(
    "--dtype", type=click.Choice(DTYPES), default=DTYPES[0], show_default=True, help="What base models are loaded in."
)
@click.option("--device", default="cpu", show_default=True, help="Where base models compute.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seeds whatever is drawn.")
@click.option("--folder", metavar="PATH", help="Where to keep what an interrupted run goes on from.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would happen to every entry; nothing is computed.")
@click.option("-o", "--output", "path", metavar="PATH", help="AIR file to write.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def transfer_command(
    ref: str, output: Output, path: str | None, *, plan_only: bool, force: bool, **options: Any
) -> None:
    """Carry an adapter to another base model.

    How much of it survives depends on the method, and no method knows it: measure the result before you use it, here
    with --data or later with 'ual evaluate'. Until then its label says control-grade or unmeasured.
    """
    order = TransferOrder(**options)
    problem = order.conflict()
    if problem is not None:
        raise click.UsageError(problem)
    if plan_only:
        planned = plan_order(ref, order)
        output.result(plan_document(planned), lambda: plan_text(planned, is_verbose=output.is_verbose))
        return
    if path is None:
        raise click.UsageError("give -o PATH, or --plan to see what would happen")
    check_target(Path(path), force=force)
    result = carry(ref, order, say=output.note if output.is_verbose else lambda _: None)
    digest = str(write(result.adapter, path))
    output.result(result_document(result, path, digest), lambda: result_text(result, path, digest))
