"""The command that fills the registry: add."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ual_registry.cli.output import Output, common_options, jsonable, print_error
from ual_registry.errors import UALError
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.records import AddOutcome, AddResult
from ual_registry.workflows import store
from ual_registry.workflows.validate import find_files

__all__ = ["add_command", "parse_tags"]


def parse_tags(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Turn ``K=V``, or ``K`` alone, into keys and values."""
    found: dict[str, str] = {}
    for tag in values:
        key, _, value = tag.partition("=")
        if found.setdefault(key, value) != value:
            raise click.BadParameter(f"{key} is given twice, as {found[key]!r} and as {value!r}")
    return found


@click.command(
    "add",
    epilog="\b\nExamples:\n"
    "  ual add medical.air --name medical --alias candidate --tag team=search\n"
    "  ual add adapters/ --name-from file\n"
    "  ual add 'runs/*/best.air' --name-from manifest --owner search-team",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--name", help="Name of the adapter; the file becomes its next revision.")
@click.option(
    "--name-from",
    type=click.Choice(["file", "manifest"]),
    help="Take each name from the file's name without its ending, or from its manifest.",
)
@click.option("--alias", "aliases", multiple=True, metavar="A", help="Alias to point at the revision; repeatable.")
@click.option("--tag", "tags", multiple=True, callback=parse_tags, metavar="K=V", help="Tag to set; repeatable.")
@click.option("--owner", help="Who answers for the adapter.")
@click.option("--description", metavar="TEXT", help="What the adapter is for.")
@common_options
def add_command(
    paths: tuple[str, ...],
    *,
    name: str | None,
    name_from: str | None,
    aliases: tuple[str, ...],
    tags: dict[str, str],
    owner: str | None,
    description: str | None,
    output: Output,
) -> int:
    """Add AIR files to the registry, each as the next revision of an adapter.

    The same bytes under the same name are the same revision. With --name PATH is one file; with --name-from PATH is a
    file, a folder (its *.air files, at any depth), a pattern, or '-' (a list of paths on standard input), and a file
    that cannot be added does not stop the others: the exit code is that of the first one.
    """
    if (name is None) == (name_from is None):
        raise click.UsageError("give either --name or --name-from")
    order = AddOrder(name=name, aliases=aliases, tags=tags, owner=owner, description=description)
    if name_from is not None:
        return _add_many(paths, order, name_from, output)
    if len(paths) > 1:
        raise click.UsageError("several paths need --name-from file, or --name-from manifest")
    result = store.add(paths[0], name=str(name), aliases=aliases, tags=tags, owner=owner, description=description)
    output.result(result, lambda: f"{_line(result)}\n{result.digest}")
    return 0


def _add_many(paths: Sequence[str], order: AddOrder, name_from: str, output: Output) -> int:
    files = find_files(paths, standard_input=sys.stdin.buffer)
    hidden = output.is_quiet or not sys.stderr.isatty()
    found: list[AddOutcome] = []
    with click.progressbar(length=len(files), label="adding", file=sys.stderr, hidden=hidden) as bar:
        for outcome in store.add_many(files, order, name_from=name_from):
            found.append(outcome)
            bar.update(1)
    errors = [outcome.error for outcome in found if outcome.error is not None]
    for error in errors:
        print_error(error, as_json=False)
    lines = [f"{_line(outcome.result)}  {outcome.path}" for outcome in found if outcome.result is not None]
    output.result(_document(found), lambda: "\n".join(lines) if lines else "nothing was added")
    return errors[0].exit_code if errors else 0


def _document(found: Sequence[AddOutcome]) -> dict[str, Any]:
    return {
        "added": [{"path": item.path, **jsonable(item.result)} for item in found if item.result is not None],
        "failed": [{"path": item.path, **_error(item.error)} for item in found if item.error is not None],
    }


def _error(error: UALError) -> dict[str, Any]:
    return {"code": error.problem_code, "message": error.message, "hint": error.hint}


def _line(result: AddResult) -> str:
    verb = "added" if result.is_new else "already there, and yanked:" if result.is_yanked else "already there:"
    aliases = f" ({', '.join(move.alias for move in result.moves)})" if result.moves else ""
    return f"{verb} {result.name}@{result.number}{aliases}"
