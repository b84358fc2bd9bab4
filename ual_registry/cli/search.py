"""The commands that look for adapters: list and search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from ual_registry.cli.output import Output, common_options, size_text, table
from ual_registry.registry.details import MAX_PAGE
from ual_registry.registry.fields import FIELDS, ORDERS
from ual_registry.registry.registry import DEFAULT_LIMIT
from ual_registry.registry.views import Page, RevisionRecord
from ual_registry.workflows import store

__all__ = ["list_command", "search_command"]

DEFAULT_REPOSITORIES, MOST_REPOSITORIES = 40, 1000
"""How many repositories of the Hub a search looks at, unless told, and at most."""


def _page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--limit`` and ``--after``."""
    limit = click.option(
        "--limit", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_LIMIT, show_default=True, help="Rows of a page."
    )
    after = click.option("--after", metavar="CURSOR", help="Go on behind the page that named CURSOR.")
    return limit(after(command))


@click.command("list")
@click.option("--owner", help="Only the adapters of OWNER.")
@click.option(
    "--order",
    default="name",
    show_default=True,
    metavar="FIELD",
    help=f"One of {', '.join(ORDERS)}; -FIELD turns it round.",
)
@_page_options
@common_options
def list_command(owner: str | None, order: str, limit: int, after: str | None, output: Output) -> None:
    """List adapters, each with its newest revision.

    Revisions that 'ual yank' hid are left out.
    """
    found = store.list_adapters(owner=owner, order=order, limit=limit, after=after)
    if not found.items and after is None:
        whose = "no adapter has this owner" if owner is not None else "nothing to list"
        output.note(f"{whose}; 'ual add FILE.air --name NAME' adds to it")
    _say_next(found, output)
    document = {"adapters": found.items, "next": found.next}
    output.result(document, lambda: _revisions_text([record.newest for record in found]))


def _fields_help() -> str:
    width = max(len(name) for name in FIELDS)
    return "\n".join(f"  {name:{width}}  {field.help}" for name, field in FIELDS.items())


@click.command(
    "search",
    epilog="\b\nExamples:\n"
    '  ual search "base:llama rank>=16 role:mlp_gate"\n'
    '  ual search "(domain:medical,legal OR triage) NOT method:svd order:-created"\n'
    '  ual search --hub "base:llama rank>=16" --author example\n'
    f"\n\b\nFields:\n{_fields_help()}\n\nOrders: {', '.join(ORDERS)}.",
)
@click.argument("query", nargs=-1)
@_page_options
@click.option("--hub", "on_hub", is_flag=True, help="Search the Hub: its tags, and the headers of what it holds.")
@click.option("--author", metavar="ORG", help="With --hub: only the repositories of ORG.")
@click.option(
    "--limit-repositories",
    type=click.IntRange(1, MOST_REPOSITORIES),
    help=f"With --hub: how many repositories to look at; {DEFAULT_REPOSITORIES} unless told.",
)
@click.option("--refresh", is_flag=True, help="With --hub: read again what is in the cache.")
@common_options
def search_command(
    query: tuple[str, ...],
    *,
    limit: int,
    after: str | None,
    on_hub: bool,
    author: str | None,
    limit_repositories: int | None,
    refresh: bool,
    output: Output,
) -> None:
    """Find revisions by what they touch and what they fit; without QUERY all of them.

    The terms of QUERY must all hold; OR, NOT and parentheses join them otherwise. Bare words and "quoted phrases" are
    looked for in names, owners, titles, descriptions, domains and tags. Texts may end in '*', take several values
    (domain:medical,legal), numbers and times a range (rank:8..32). order:FIELD and order:-FIELD sort.

    With --hub the same terms are asked of the Hub, but for those that only a registry knows (alias, created, owner,
    tag, yanked): tags narrow the repositories, and of some of these the headers are read. What was read is kept in the
    user's cache folder, so that asking again reads nothing anew; without the Hub the cache answers alone.
    """
    text = " ".join(query)
    if on_hub:
        if after is not None:
            raise click.UsageError("--after belongs to a search of the registry")
        from ual_registry.cli.search_hub import search_on_hub  # noqa: PLC0415  # only where the Hub is asked

        search_on_hub(text, limit, author, limit_repositories or DEFAULT_REPOSITORIES, refresh=refresh, output=output)
        return
    _refuse_hub_options({"author": author, "limit-repositories": limit_repositories, "refresh": refresh or None})
    found = store.search(text, limit=limit, after=after)
    if not found.items:
        output.note("nothing found")
    _say_next(found, output)
    output.result({"hits": found.items, "next": found.next}, lambda: _revisions_text(found.items))


def _refuse_hub_options(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"--{name} belongs to --hub")


def _say_next(found: Page[Any], output: Output) -> None:
    if found.next is not None:
        output.note(f"there are more than {len(found)}; the next page: --after {found.next}")


def _revisions_text(records: Sequence[RevisionRecord]) -> str:
    rows = [
        [
            f"{record.name}@{record.number}" + " (yanked)" * (record.yank_reason is not None),
            ", ".join(record.aliases),
            f"{record.base} ({record.architecture})" if record.base is not None else "",
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
