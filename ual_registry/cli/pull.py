"""The command that brings adapters from the Hub: pull."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from ual_registry.cli.adding import parse_tags
from ual_registry.cli.output import Output, common_options, jsonable, print_error, size_text
from ual_registry.registry.progress import Progress, silent
from ual_registry.workflows.pull import pull
from ual_registry.workflows.pull_model import Pulled, PullOptions, PullResult

__all__ = ["pull_command"]

_COMMIT_DIGITS = 12
_REDRAW_S = 0.1


@contextlib.contextmanager
def _shown(output: Output) -> Iterator[Progress]:
    """Yield what shows bytes and rate on a terminal, and nothing elsewhere."""
    if output.is_quiet or not sys.stderr.isatty():
        yield silent
        return
    begun, drawn = time.monotonic(), 0.0

    def show(_: str, done: int, total: int | None) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < _REDRAW_S and done != total:
            return
        drawn = now
        rate = size_text(int(done / max(now - begun, _REDRAW_S)))
        click.echo(f"\r\x1b[Kpulling: {size_text(done)} of {size_text(total or done)}, {rate}/s", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@click.command(
    "pull",
    epilog="\b\nExamples:\n"
    "  ual pull org/medical\n"
    "  ual pull org/medical@v2 --name triage --alias candidate --tag team=search\n"
    "  ual pull org/many --file math/adapter.air\n"
    "  ual pull org/many --all\n"
    "  ual pull org/peft-only --base hf:org/base-model",
)
@click.argument("repository", metavar="REPO[@REV]")
@click.option("--name", help="Name of the adapter here; by default after the repository.")
@click.option("--file", "files", multiple=True, metavar="PATH", help="Adapter in the repository; repeatable.")
@click.option("--subfolder", metavar="S", help="Folder in the repository that the adapter lies in.")
@click.option("--all", "all_of_them", is_flag=True, help="Pull every adapter of the repository.")
@click.option("--base", metavar="BASE", help="Base model of PEFT files; by default the one that they name.")
@click.option("--alias", "aliases", multiple=True, metavar="A", help="Alias to point at the revision; repeatable.")
@click.option("--tag", "tags", multiple=True, callback=parse_tags, metavar="K=V", help="Tag to set; repeatable.")
@common_options
def pull_command(repository: str, output: Output, **options: Any) -> int:
    """Pull an adapter from the Hub into the registry.

    The commit is pinned first; every file is verified, and the adapter is added as the next revision with a link to
    where it came from. An AIR file is taken as it is; a repository with PEFT files alone becomes AIR. Pickles are
    refused. REV is a branch, a tag or a commit; a commit that was pulled before is not asked for again, and with
    HF_HUB_OFFLINE=1 the registry alone answers. With --all the commit is asked for its list, what is here is not
    fetched again, and one that cannot be pulled does not stop the others: the exit code is that of the first one.
    """
    with _shown(output) as progress:
        result = pull(repository, PullOptions(**options), progress=progress)
    for note in result.notes:
        output.note(f"note: {note}")
    for failure in result.failed:
        print_error(failure.error, as_json=False)
    output.result(_document(result), lambda: _text(result))
    return result.failed[0].error.exit_code if result.failed else 0


def _document(result: PullResult) -> dict[str, Any]:
    failed = [
        {"path": item.path, "code": item.error.problem_code, "message": item.error.message, "hint": item.error.hint}
        for item in result.failed
    ]
    return {**jsonable(result), "failed": failed}


def _text(result: PullResult) -> str:
    lines = [line for item in result.adapters for line in _lines(item, result)]
    return "\n".join(lines) if lines else "nothing was pulled"


def _lines(item: Pulled, result: PullResult) -> Iterator[str]:
    verb = "pulled" if item.is_new else "already there:"
    aliases = f" ({', '.join(move.alias for move in item.moves)})" if item.moves else ""
    place = f"{result.repository}@{result.commit[:_COMMIT_DIGITS]}:{item.path}"
    yield f"{verb} {item.name}@{item.number}{aliases}  {place}"
    yield item.digest
