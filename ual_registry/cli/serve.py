"""The command that serves answers over HTTP: serve."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from ual_registry.cli.output import visible
from ual_registry.cli.references import references_by_domain
from ual_registry.workflows.extras import need_dispatch, need_web
from ual_registry.workflows.serve import ServeOrder

__all__ = ["serve_command"]

_SUPPLIES = ("none", "api", "resolver")
_LIMITS = (
    "max_running",
    "max_waiting",
    "max_body_bytes",
    "max_prompt_tokens",
    "max_tokens",
    "default_tokens",
    "grace_s",
)


@click.command(
    "serve",
    epilog="\b\nExamples:\n"
    "  ual serve front-desk --base smollm/ --domain banking=banking@production\n"
    "  ual serve front-desk --proxy http://127.0.0.1:8001 --supply api --folder adapters/",
)
@click.argument("router", metavar="[ROUTER]", required=False)
@click.option("--base", metavar="BASE", help="Folder of the base model, with weights and tokenizer.")
@click.option("--encoder", metavar="ENCODER", help="Folder of the router's encoder.")
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
    help="What answers where no adapter does; with --proxy a model of the server behind in place of REF.",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--proxy", metavar="URL", help="Answer by an OpenAI-compatible server, such as vLLM; route before it.")
@click.option(
    "--supply",
    type=click.Choice(_SUPPLIES),
    default="none",
    show_default=True,
    help="How adapters come to that server: they are there, by vLLM's load API, or in its resolver's folder.",
)
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR", help="Where adapters are written for it.")
@click.option("--base-name", metavar="NAME", help="The name under which it serves the base model.")
@click.option(
    "--name",
    "names",
    multiple=True,
    callback=references_by_domain,
    metavar="DOMAIN=MODEL",
    help="Its model of a domain, where that is not called as the domain is; repeatable.",
)
@click.option("--max-running", type=int, default=8, show_default=True, metavar="N", help="Requests at once.")
@click.option("--max-waiting", type=int, default=64, show_default=True, metavar="N", help="Requests that wait.")
@click.option("--max-body-bytes", type=int, default=1 << 20, show_default=True, metavar="N", help="Size of a request.")
@click.option("--max-prompt-tokens", type=int, metavar="N", help="Tokens of a prompt; as many as BASE reads if absent.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, metavar="N", help="Tokens of an answer.")
@click.option(
    "--default-tokens", type=int, default=256, show_default=True, metavar="N", help="The same, where none is asked for."
)
@click.option(
    "--grace", "grace_s", type=int, default=30, show_default=True, metavar="SECONDS", help="For what runs at the end."
)
@click.option("--cache-bytes", type=int, default=1 << 30, show_default=True, metavar="N", help="Memory of adapters.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Append decisions with queries, JSONL.")
@click.option("--any-base", "is_any_base", is_flag=True, help="Run adapters that record another base model.")
@click.option("-q", "--quiet", is_flag=True, help="Log errors only.")
def serve_command(*, router: str | None, quiet: bool, **options: Any) -> None:
    """Answer OpenAI's clients: the model 'auto' is routed, any other name is an adapter or an alias.

    Without ROUTER, clients name an adapter. SIGTERM finishes what runs, and refuses what is new.
    """
    proxy = options.pop("proxy")
    _check(router, proxy, options)
    need_web("a server")
    need_dispatch("a server")
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("ual_registry.web").setLevel(logging.ERROR if quiet else logging.INFO)
    from ual_registry.web.limits import Limits  # noqa: PLC0415  # loads fastapi
    from ual_registry.web.start import Behind, serve  # noqa: PLC0415  # loads torch
    from ual_registry.web.upstream import Supply  # noqa: PLC0415  # loads httpx

    limits = Limits(**{name: options.pop(name) for name in _LIMITS})
    host, port = options.pop("host"), options.pop("port")
    own = {name: options.pop(name) for name in ("folder", "base_name", "names")}
    supply = Supply(options.pop("supply"))
    behind = Behind(url=proxy, supply=supply, **own) if proxy else None
    order = ServeOrder(router=router, **options)
    serve(order, host=host, port=port, limits=limits, behind=behind, say=lambda text: click.echo(visible(text)))


def _check(router: str | None, proxy: str | None, options: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    if router is None and options["adapters"]:
        raise click.UsageError("--domain needs a ROUTER, whose domains it names")
    if proxy is None:
        if options["base"] is None:
            raise click.UsageError("give --base BASE to answer with, or --proxy URL")
        if options["supply"] != "none" or options["folder"] or options["base_name"] or options["names"]:
            raise click.UsageError("--supply, --folder, --base-name and --name go with --proxy")
        return
    if router is None:
        raise click.UsageError("--proxy needs a ROUTER")
    if options["base"] is not None:
        raise click.UsageError("--base and --proxy exclude each other")
