"""The command that asks a router: route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ual_registry.cli import router_document as documents
from ual_registry.cli import router_text as texts
from ual_registry.cli.output import Output, common_options
from ual_registry.workflows import route as asking

__all__ = ["route_command"]

_FILE = click.Path(path_type=Path)


@click.command(
    "route",
    epilog='\b\nExamples:\n  ual route desk "I lost my card" --explain\n'
    "  ual route desk --data queries.jsonl --log decisions.jsonl",
)
@click.argument("ref", metavar="ROUTER")
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option("--data", multiple=True, type=_FILE, metavar="FILE", help="Queries, JSONL with text; repeatable.")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder, or OWNER/NAME.")
@click.option("--explain", is_flag=True, help="Show what the decision was made from.")
@click.option("--log", type=_FILE, metavar="FILE", help="Append the decisions to this file, JSONL.")
@common_options
def route_command(ref: str, queries: tuple[str, ...], output: Output, **options: Any) -> None:
    """Say which domain and adapter answers a query, or why none does."""
    from ual_registry.dispatch.queries import read_queries  # noqa: PLC0415  # reads YAML, which help needs not

    asked = [*queries, *(query.text for path in options["data"] for query in read_queries(path))]
    if not asked:
        raise click.UsageError("give a QUERY, or --data FILE with some")
    decisions = asking.route(ref, asked, encoder=options["encoder"], log=options["log"])
    output.result(
        documents.decisions(asked, decisions),
        lambda: texts.decisions(asked, decisions, is_explained=options["explain"]),
    )
