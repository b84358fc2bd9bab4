"""The commands about routers: train, evaluate, overlap, add, remove, replay, drift."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ual_registry.cli import router_document as documents
from ual_registry.cli import router_text as texts
from ual_registry.cli.output import Output, common_options
from ual_registry.cli.seed import SEED
from ual_registry.workflows import route as asking
from ual_registry.workflows import router as workflows

__all__ = ["router_command"]

_FILE = click.Path(path_type=Path)
_router = click.argument("ref", metavar="ROUTER")
_examples = click.option(
    "--data", required=True, multiple=True, type=_FILE, metavar="FILE", help="Queries, JSONL; repeatable."
)
_encoder = click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder, or OWNER/NAME.")
_log = click.option("--log", required=True, type=_FILE, metavar="FILE", help="Log that 'ual route --log' wrote.")
_HALF = 0.5


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where a router goes."""
    for option in (
        click.option("--force", is_flag=True, help="Replace what stands at PATH."),
        click.option("--name", help="Register the router under this name."),
        click.option("-o", "--output", "path", type=_FILE, metavar="PATH", help="Router file to write."),
    ):
        command = option(command)
    return command


def _picture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where a picture goes."""
    for option in (
        click.option("--force", is_flag=True, help="Replace what stands at the picture's FILE."),
        click.option("--plot", type=_FILE, metavar="FILE", help="Picture to write, .png or .svg."),
    ):
        command = option(command)
    return command


def _need_place(options: dict[str, Any]) -> None:
    if options["path"] is None and options["name"] is None:
        raise click.UsageError("give -o PATH, or --name to register the router, or both")


@click.group("router")
def router_command() -> None:
    """Train, measure and change routers."""


@router_command.command(
    "train",
    epilog="\b\nExamples:\n"
    "  ual router train --config desk.yaml --data examples.jsonl --name desk\n"
    "  ual router train --config desk.yaml --data examples.jsonl --encoder all-MiniLM-L6-v2/ -o desk.air",
)
@click.option("--config", required=True, type=_FILE, metavar="FILE", help="Settings: domains and their adapters, YAML.")
@click.option(
    "--data", multiple=True, type=_FILE, metavar="FILE", help="Examples, JSONL with text and domain; repeatable."
)
@click.option("--encoder", metavar="ENCODER", help="Folder of a sentence encoder, or OWNER/NAME on the Hub.")
@_place_options
@click.option("--keep-examples", is_flag=True, help="Keep texts of examples in the file, for decisions to show.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seeds clusters and held-out parts.")
@common_options
def train_command(output: Output, **options: Any) -> None:
    """Train a router: which adapter answers which query, and when none does.

    Thresholds are fitted on examples that are held out, to keep 95 % of in-scope queries unless the settings say
    otherwise. Examples stand in the settings or come by --data.
    """
    _need_place(options)
    order = workflows.RouterOrder(
        config=options["config"],
        data=options["data"],
        encoder=options["encoder"],
        output=options["path"],
        name=options["name"],
        keeps_examples=options["keep_examples"],
        seed=options["seed"],
        force=options["force"],
    )
    trained = workflows.train_router(order, say=output.note)
    output.result(documents.trained(trained), lambda: texts.trained(trained, options["path"]))


@router_command.command("evaluate")
@_router
@_examples
@_encoder
@_picture_options
@common_options
def evaluate_command(ref: str, output: Output, **options: Any) -> None:
    """Measure a router on queries that it was not trained on.

    Queries without a domain are what no domain should answer; without any, nothing is said about them. The picture
    shows coverage and confusion.
    """
    found = asking.evaluate_router(
        ref, options["data"], encoder=options["encoder"], plot=options["plot"], force=options["force"]
    )
    output.result(documents.evaluation(found), lambda: texts.evaluation(found, is_verbose=output.is_verbose))


@router_command.command("overlap")
@_router
@_examples
@_encoder
@_picture_options
@common_options
def overlap_command(ref: str, output: Output, **options: Any) -> None:
    """Say which domains are hard to tell apart, and which queries make them so.

    Queries that the router was not trained on tell most; those without a domain are left out. The picture is a heat
    map.
    """
    found = asking.overlap(
        ref, options["data"], encoder=options["encoder"], plot=options["plot"], force=options["force"]
    )
    output.result(documents.overlap(found), lambda: texts.overlap(found, is_verbose=output.is_verbose))


@router_command.command("add")
@_router
@click.argument("domain")
@_examples
@click.option("--adapter", metavar="REF", help="The adapter that answers the domain.")
@_encoder
@_place_options
@common_options
def add_command(ref: str, domain: str, output: Output, **options: Any) -> None:
    """Add a domain without the examples of the others.

    Thresholds stay as they are; train the router anew when the examples of all domains are at hand.
    """
    _need_place(options)
    changed = workflows.add_router_domain(
        ref,
        domain,
        options["data"],
        adapter=options["adapter"],
        encoder=options["encoder"],
        output=options["path"],
        register_as=options["name"],
        force=options["force"],
    )
    output.result(documents.changed(changed), lambda: texts.changed(changed, f"added {domain}", options["path"]))


@router_command.command("remove")
@_router
@click.argument("domain")
@_place_options
@common_options
def remove_command(ref: str, domain: str, output: Output, **options: Any) -> None:
    """Remove a domain; nothing else changes."""
    _need_place(options)
    changed = workflows.remove_router_domain(
        ref, domain, output=options["path"], register_as=options["name"], force=options["force"]
    )
    output.result(documents.changed(changed), lambda: texts.changed(changed, f"removed {domain}", options["path"]))


@router_command.command("replay")
@_router
@_log
@_encoder
@common_options
def replay_command(ref: str, output: Output, **options: Any) -> None:
    """Decide the queries of a log once more, and say what would change."""
    found = asking.replay_log(ref, options["log"], encoder=options["encoder"])
    output.result(documents.replayed(found), lambda: texts.replayed(found, is_verbose=output.is_verbose))


@router_command.command("drift")
@_log
@click.option("--since", type=click.IntRange(min=1), metavar="N", help="The last N decisions are the newer part.")
@click.option(
    "--split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Share of the log that is the older part; by default one half.",
)
@common_options
def drift_command(output: Output, log: Path, since: int | None, split: float | None) -> None:
    """Compare newer traffic with older: its domains, its abstentions, its distances."""
    if since is not None and split is not None:
        raise click.UsageError("give --since or --split, not both")
    found = asking.measure_drift(log, newest=since, share=split if split is not None else _HALF)
    output.result(documents.drift(found), lambda: texts.drift(found))
