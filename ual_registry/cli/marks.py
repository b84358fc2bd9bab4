"""The commands that change what is said of adapters, and the one that tells what was done: alias, tag, yank, log."""

from __future__ import annotations

import json
from typing import Any

import click

from ual_registry.cli.adding import parse_tags
from ual_registry.cli.output import Output, common_options, indented, jsonable, table
from ual_registry.registry.audit import MAX_ENTRIES
from ual_registry.registry.records import AdapterEdit, AliasMove, LogEntry, YankResult
from ual_registry.registry.registry import DEFAULT_LIMIT
from ual_registry.workflows import store

__all__ = ["alias_command", "describe_command", "log_command", "tag_command", "yank_command"]


@click.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("rev", required=False)
@click.option("--expected", type=click.IntRange(0), help="Revision that the alias must point to now; 0: none.")
@click.option("--protect/--unprotect", default=None, help="Whether it shall change only by force and with a reason.")
@click.option("--delete", is_flag=True, help="Delete the alias.")
@click.option("--force", is_flag=True, help="Change a protected alias; needs --why.")
@click.option("--why", metavar="TEXT", help="The reason, for the audit log.")
@common_options
def alias_command(
    name: str,
    alias: str,
    rev: str | None,
    *,
    expected: int | None,
    protect: bool | None,
    delete: bool,
    force: bool,
    why: str | None,
    output: Output,
) -> None:
    """Point the alias ALIAS of the adapter NAME at revision REV (a number, or another alias)."""
    if force and not (why or "").strip():
        raise click.UsageError("--force needs --why TEXT")
    if delete and (rev is not None or protect is not None):
        raise click.UsageError("--delete goes with neither REV nor --protect")
    if not delete and rev is None and protect is None:
        raise click.UsageError("give REV, --protect, --unprotect or --delete")
    if delete:
        move = store.unalias(name, alias, expected=expected, force=force, why=why)
    else:
        move = store.alias(name, alias, rev, expected=expected, protect=protect, force=force, why=why)
    output.result(move, lambda: _alias_text(move))


def _alias_text(move: AliasMove) -> str:
    before = f" (was {move.previous})" if move.previous and move.previous != move.number else ""
    if move.number is None:
        return f"{move.name}@{move.alias} is gone{before}"
    return f"{move.name}@{move.alias} is revision {move.number}{before}{', protected' if move.is_protected else ''}"


@click.command("tag")
@click.argument("ref")
@click.argument("tags", nargs=-1, callback=parse_tags, metavar="[K=V]...")
@click.option("--remove", multiple=True, metavar="K", help="Key of a tag to remove; repeatable.")
@common_options
def tag_command(ref: str, tags: dict[str, str], remove: tuple[str, ...], output: Output) -> None:
    """Set and remove tags of a revision; without a tag to set or to remove, show them."""
    if both := sorted(tags.keys() & set(remove)):
        raise click.UsageError(f"{both[0]} is to be set and to be removed")
    change = store.tag(ref, tags, remove=remove)
    lines = [f"{key}={value}" if value else key for key, value in change.tags.items()]
    output.result(change, lambda: "\n".join([f"{change.name}@{change.number}", *(f"  {line}" for line in lines)]))


@click.command("yank")
@click.argument("ref")
@click.option("--why", metavar="TEXT", help="The reason; needed to hide.")
@click.option("--undo", is_flag=True, help="Show the revision again.")
@common_options
def yank_command(ref: str, why: str | None, undo: bool, output: Output) -> None:
    """Hide a revision from lists, searches and its adapter's name; number, alias and digest still find it."""
    if undo == (why is not None):
        raise click.UsageError("give either --why TEXT or --undo")
    result = store.unyank(ref) if undo or why is None else store.yank(ref, why=why)
    output.result(result, lambda: f"{result.name}@{result.number} {_yank_text(result, why)}")


def _yank_text(result: YankResult, why: str | None) -> str:
    if not result.is_yanked:
        return "is not yanked"
    reason = indented(result.reason or "")
    return f"is yanked: {reason}" if result.reason == why else f"was yanked before: {reason}"


@click.command("describe")
@click.argument("name")
@click.option("--owner", help="Who answers for the adapter; an empty text clears it.")
@click.option("--description", metavar="TEXT", help="What it is for; an empty text clears it.")
@common_options
def describe_command(name: str, owner: str | None, description: str | None, output: Output) -> None:
    """Say who answers for the adapter NAME and what it is for; without an option, show it."""
    edit = store.describe(name, owner=owner, description=description)
    output.result(edit, lambda: _edit_text(edit))


def _edit_text(edit: AdapterEdit) -> str:
    return f"{edit.name}\n  owner: {edit.owner or '-'}\n  description: {indented(edit.description or '-')}"


@click.command("log")
@click.argument("ref", required=False)
@click.option(
    "--limit", type=click.IntRange(1, MAX_ENTRIES), default=DEFAULT_LIMIT, show_default=True, help="Entries at most."
)
@click.option("--after", metavar="CURSOR", help="Go on after an earlier page.")
@common_options
def log_command(ref: str | None, limit: int, after: str | None, output: Output) -> None:
    """Tell what was done, newest first: all of it, or what concerns an adapter, a revision, an alias or a digest."""
    page = store.log(ref, limit=limit, after=after)
    document = {"entries": page.items, "next": page.next}
    output.result(document, lambda: table([_row(entry) for entry in page], ["when", "who", "what", "", ""]))
    if page.next is not None:
        output.note(f"more: --after {page.next}")


def _row(entry: LogEntry) -> list[str]:
    number = entry.detail.get("number")
    place = f"{entry.name}@{number}" if entry.name and number else entry.name or entry.digest or ""
    rest = {key: value for key, value in entry.detail.items() if key != "number"}
    return [jsonable(entry.at), entry.actor, entry.action, place, _detail(rest)]


def _detail(detail: dict[str, Any]) -> str:
    return ", ".join(
        f"{key.removeprefix('is_')} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in detail.items()
    )
