"""The commands about the registry: add, get, list, search, lineage, alias."""

from __future__ import annotations

import click

from ual_registry.cli.lineage import lineage_text
from ual_registry.cli.output import Output, common_options, size_text, table
from ual_registry.registry.query import FIELDS
from ual_registry.registry.records import RevisionRecord
from ual_registry.registry.registry import DEFAULT_LIMIT
from ual_registry.workflows import store

__all__ = ["add_command", "alias_command", "get_command", "lineage_command", "list_command", "search_command"]


@click.command("add")
@click.argument("path")
@click.option("--name", required=True, help="Name of the adapter; the file becomes its next revision.")
@click.option("--alias", "aliases", multiple=True, help="Alias to point at the revision; may be repeated.")
@common_options
def add_command(path: str, name: str, aliases: tuple[str, ...], output: Output) -> None:
    """Add an AIR file to the registry as the next revision of an adapter.

    The same bytes under the same name are the same revision.
    """
    result = store.add(path, name=name, aliases=aliases)
    verb = "added" if result.is_new else "already there:"
    alias = f" ({', '.join(move.alias for move in result.moves)})" if result.moves else ""
    output.result(result, lambda: f"{verb} {result.name}@{result.number}{alias}\n{result.digest}")


@click.command("get")
@click.argument("ref")
@click.option("-o", "--output", "target", required=True, metavar="PATH", help="File to write.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def get_command(ref: str, target: str, force: bool, output: Output) -> None:
    """Copy a revision out of the registry: the exact bytes that were added, verified."""
    digest = store.get(ref, target, force=force)
    output.result({"path": target, "digest": str(digest)}, lambda: f"wrote {target}\n{digest}")


@click.command("list")
@common_options
def list_command(output: Output) -> None:
    """List every adapter with its newest revision."""
    found = store.list_adapters()
    if not found:
        output.note("the registry is empty; 'ual add FILE.air --name NAME' adds to it")
    output.result({"adapters": found}, lambda: _revisions_text([record.newest for record in found]))


@click.command(
    "search",
    epilog="\b\nExamples:\n"
    '  ual search "base:llama rank>=16 role:mlp_gate"\n'
    '  ual search "(domain:medical OR domain:legal) NOT method:svd"\n'
    "\n\b\nFields:\n" + "\n".join(f"  {name:8} {field.help}" for name, field in FIELDS.items()),
)
@click.argument("query", nargs=-1)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=DEFAULT_LIMIT, show_default=True, help="Hits at most."
)
@common_options
def search_command(query: tuple[str, ...], limit: int, output: Output) -> None:
    """Find revisions by what they touch and what they fit; without QUERY all of them.

    The terms of QUERY must all hold; OR, NOT and parentheses join them otherwise.
    """
    found = store.search(" ".join(query), limit=limit + 1)
    if not found:
        output.note("nothing found")
    if len(found) > limit:
        found = found[:limit]
        output.note(f"the first {limit} hits; --limit shows more")
    output.result({"hits": found}, lambda: _revisions_text(found))


@click.command("lineage")
@click.argument("ref")
@click.option("--up", is_flag=True, help="Only what it was made from.")
@click.option("--down", is_flag=True, help="Only what was made from it.")
@common_options
def lineage_command(ref: str, up: bool, down: bool, output: Output) -> None:
    """Draw what an adapter was made from, and what was made from it."""
    both = up == down
    graph = store.lineage(ref, up=up or both, down=down or both)
    nodes = [graph.nodes[digest] for digest in sorted(graph.nodes)]
    output.result({"root": graph.root, "nodes": nodes, "edges": graph.edges}, lambda: lineage_text(graph))


@click.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("rev")
@click.option("--expected", type=click.IntRange(0), help="Revision that the alias must point to now; 0: none.")
@common_options
def alias_command(name: str, alias: str, rev: str, expected: int | None, output: Output) -> None:
    """Point the alias ALIAS of the adapter NAME at revision REV (a number, or another alias)."""
    move = store.alias(name, alias, rev, expected=expected)
    before = f" (was {move.previous})" if move.previous else ""
    output.result(move, lambda: f"{move.name}@{move.alias} is revision {move.number}{before}")


def _revisions_text(records: list[RevisionRecord] | tuple[RevisionRecord, ...]) -> str:
    rows = [
        [
            f"{record.name}@{record.number}",
            ", ".join(record.aliases),
            f"{record.base} ({record.architecture})",
            record.method,
            "/".join(str(rank) for rank in record.ranks),
            f"{len(record.roles)}",
            record.domain or "",
            size_text(record.size_bytes),
            record.digest[:19],
        ]
        for record in records
    ]
    return table(rows, ["adapter", "aliases", "base", "method", "rank", "roles", "domain", "size", "digest"])
