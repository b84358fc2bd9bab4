"""The command that takes adapters out of the registry: get."""

from __future__ import annotations

import click

from ual_registry.cli.output import Output, common_options
from ual_registry.workflows import store

__all__ = ["get_command"]


@click.command("get")
@click.argument("ref")
@click.option("-o", "--output", "target", required=True, metavar="PATH", help="File to write.")
@click.option("--force", is_flag=True, help="Replace what stands at PATH.")
@common_options
def get_command(ref: str, target: str, force: bool, output: Output) -> None:
    """Copy a revision out of the registry: the exact bytes that were added, verified."""
    if target == "-":
        raise click.UsageError("give the name of a file; an adapter is not written to standard output")
    digest = store.get(ref, target, force=force)
    output.result({"path": target, "digest": str(digest)}, lambda: f"wrote {target}\n{digest}")
