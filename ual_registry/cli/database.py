"""The commands about the registry's database: db upgrade, db current."""

from __future__ import annotations

import click

from ual_registry.cli.output import Output, common_options
from ual_registry.workflows.database import SchemaState, current_schema, upgrade_schema

__all__ = ["db_command"]


@click.group("db")
def db_command() -> None:
    """Look after the registry's database."""


@db_command.command("upgrade")
@common_options
def upgrade_command(output: Output) -> None:
    """Bring the schema to the newest migration."""
    state = upgrade_schema()
    output.result(state, lambda: _text(state))


@db_command.command("current")
@common_options
def current_command(output: Output) -> None:
    """Say which migration the schema is at."""
    state = current_schema()
    output.result(state, lambda: _text(state))


def _text(state: SchemaState) -> str:
    verdict = "current" if state.current == state.expected else f"expected {state.expected}: run 'ual db upgrade'"
    return f"{state.url}: migration {state.current or 'none'} ({verdict})"
