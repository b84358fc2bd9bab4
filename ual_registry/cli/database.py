"""The commands about the registry's database: db upgrade, db check, db current."""

from __future__ import annotations

import click

from ual_registry.cli.output import Output, common_options
from ual_registry.errors import RegistryError
from ual_registry.registry.schema import is_known, is_newer
from ual_registry.workflows.database import SchemaState, check_schema, current_schema, upgrade_schema

__all__ = ["db_command"]


@click.group("db")
def db_command() -> None:
    """Look after the registry's database."""


@db_command.command("upgrade")
@common_options
def upgrade_command(output: Output) -> None:
    """Bring the schema to the newest migration; several at once wait for one another."""
    state = upgrade_schema()
    output.result(state, lambda: _text(state))


@db_command.command("check")
@common_options
def check_command(output: Output) -> int:
    """Compare the database's tables with those that this program expects.

    The exit code is 8 where they differ.
    """
    state = check_schema()
    output.result(state, lambda: "\n".join([_text(state), *(f"  {line}" for line in state.differences or ())]))
    return 0 if state.is_current else RegistryError.exit_code


@db_command.command("current")
@common_options
def current_command(output: Output) -> None:
    """Say which migration the schema is at."""
    state = current_schema()
    output.result(state, lambda: _text(state))


def _text(state: SchemaState) -> str:
    return f"{state.url}: migration {state.current or 'none'} ({_verdict(state)})"


def _verdict(state: SchemaState) -> str:
    if state.current == state.expected:
        return "current, but its tables differ" if state.differences else "current"
    if is_newer(state.current):
        return f"expected {state.expected}: upgrade ual-registry"
    if is_known(state.current):
        return f"expected {state.expected}: run 'ual db upgrade'"
    return f"expected {state.expected}: this is no migration of a registry"
