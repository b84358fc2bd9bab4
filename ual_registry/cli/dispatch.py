"""The command that answers queries: dispatch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ual_registry.cli.output import Output, common_options, print_result, visible
from ual_registry.cli.references import references_by_domain
from ual_registry.cli.seed import SEED
from ual_registry.workflows.dispatch import DispatchOrder, dispatch, dispatch_stream

if TYPE_CHECKING:
    from ual_registry.dispatch.answer import Answer, AnswerPiece

__all__ = ["dispatch_command"]

_EFFECTS: Mapping[str | None, str] = {
    "not_recorded": "not recorded",
    "other_base": "recorded on another base model",
    "too_small": "too small to be compared",
}


@click.command(
    "dispatch",
    epilog="\b\nExamples:\n"
    '  ual dispatch front-desk "my card was swallowed" --base smollm/ --domain banking=banking@production\n'
    '  ual dispatch front-desk "a table for two" --base smollm/ --fallback refuse --stream',
)
@click.argument("ref", metavar="ROUTER")
@click.argument("query")
@click.option("--base", required=True, metavar="BASE", help="Folder of the base model, with weights and tokenizer.")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder.")
@click.option("--adapter", metavar="REF", help="The adapter to answer with; nothing is routed.")
@click.option(
    "--domain",
    "adapters",
    multiple=True,
    callback=references_by_domain,
    metavar="DOMAIN=REF",
    help="The adapter of a domain, in place of the router's; repeatable.",
)
@click.option(
    "--fallback",
    default="base",
    show_default=True,
    metavar="base|refuse|REF",
    help="What answers where no adapter does.",
)
@click.option("--max-tokens", type=int, default=128, show_default=True, metavar="N", help="Tokens at most.")
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token each time."
)
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Share of the probability to draw from.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seeds what is drawn.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Ends the answer, and is left out of it; repeatable.")
@click.option("--stream", is_flag=True, help="Print the answer as it grows.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append the decision to this file, JSONL.")
@click.option("--plain", "is_plain", is_flag=True, help="Give the query as it is, even where BASE has a chat template.")
@click.option("--any-base", "is_any_base", is_flag=True, help="Run adapters that record another base model.")
@common_options
def dispatch_command(ref: str, query: str, output: Output, **options: Any) -> None:
    """Answer a query with the adapter of its domain.

    The router says which domain the query belongs to, the domain which adapter. Where none answers, the base model
    does as it is, or another adapter, or nobody (exit code 7).
    """
    is_streamed = options.pop("stream")
    if is_streamed and output.as_json:
        raise click.UsageError("--stream and --json exclude each other")
    order = DispatchOrder(router=ref, **options)
    say = output.note if output.is_verbose else lambda _: None
    if is_streamed:
        with dispatch_stream(query, order, say=say) as pieces:
            _print(pieces, output)
        return
    answer = dispatch(query, order, say=say)
    output.result({"base": options["base"], **answer.document()}, lambda: answer.text)
    _note(answer, output)


def _print(pieces: Any, output: Output) -> None:
    last: AnswerPiece | None = None
    for last in pieces:
        click.echo(visible(last.text), nl=False)
    print_result("")
    if last is not None:
        _note(last, output)


def _note(answer: Answer | AnswerPiece, output: Output) -> None:
    """Say who answered."""
    who = answer.adapter or "the base model"
    decision = answer.decision
    domain = f"{decision.domain}: " if decision.domain else ""
    detail = f", {decision.detail}" if decision.detail else ""
    fallback = ", as the fallback" if answer.is_fallback else ""
    effect = f", its effect {_EFFECTS[answer.effect]}" if answer.effect in _EFFECTS else ""
    output.note(f"{domain}{decision.reason}{detail}; answered by {who}{fallback}{effect}")
