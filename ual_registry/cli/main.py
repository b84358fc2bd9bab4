"""The ``ual`` command: finds the subcommand, loads it when it is used, and turns errors into messages.

Only this module prints errors. What the package raises on purpose becomes a message and an exit code of its branch;
anything else is a bug, exit code 1.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from importlib.metadata import version

import click

from ual_registry.cli.output import print_error, print_error_document, wants_json
from ual_registry.errors import StorageError, UALError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: dict[str, dict[str, str]] = {
    "Format": {
        "validate": "ual_registry.cli.validate",
        "show": "ual_registry.cli.format",
        "diff": "ual_registry.cli.diff",
        "conformance": "ual_registry.cli.conformance",
        "convert": "ual_registry.cli.format",
        "doctor": "ual_registry.cli.doctor",
        "binder": "ual_registry.cli.binder",
    },
    "Registry": {
        "add": "ual_registry.cli.adding",
        "get": "ual_registry.cli.registry",
        "list": "ual_registry.cli.search",
        "search": "ual_registry.cli.search",
        "lineage": "ual_registry.cli.lineage",
        "alias": "ual_registry.cli.marks",
        "tag": "ual_registry.cli.marks",
        "yank": "ual_registry.cli.marks",
        "describe": "ual_registry.cli.marks",
        "log": "ual_registry.cli.marks",
        "gc": "ual_registry.cli.maintenance",
        "fsck": "ual_registry.cli.maintenance",
        "export": "ual_registry.cli.maintenance",
        "import": "ual_registry.cli.maintenance",
        "db": "ual_registry.cli.database",
    },
    "Hub": {
        "push": "ual_registry.cli.push",
        "pull": "ual_registry.cli.pull",
        "mirror": "ual_registry.cli.mirror",
    },
    "Transfer": {
        "transfer": "ual_registry.cli.transfer",
        "evaluate": "ual_registry.cli.evaluate",
    },
    "Training": {
        "train": "ual_registry.cli.train",
    },
    "Dispatch": {
        "router": "ual_registry.cli.router",
        "route": "ual_registry.cli.route",
        "dispatch": "ual_registry.cli.dispatch",
        "serve": "ual_registry.cli.serve",
    },
}
"""Every command by group, with the module that holds it under ``<name>_command``."""

_EXIT_BUG = 1
_EXIT_INTERRUPTED = 130


class _LazyGroup(click.Group):
    """A group whose commands are loaded when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # click's signature
        return [name for group in COMMANDS.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in COMMANDS.values():
            if cmd_name in group:
                command: click.Command = getattr(importlib.import_module(group[cmd_name]), f"{cmd_name}_command")
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in COMMANDS.items():
            commands = [(name, self.get_command(ctx, name)) for name in group]
            rows = [(name, command.get_short_help_str(limit=90)) for name, command in commands if command]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("ual-registry"), prog_name="ual")
def cli() -> None:
    """The registry and portable format for LoRA adapters.

    REF is a path to an AIR file, a registered NAME (its newest revision), NAME@3, NAME@ALIAS or sha256:...;
    for show also hf:OWNER/NAME[@REVISION][:PATH] on the Hub. 'ual validate' takes paths, https:// and hf: instead.
    BASE is a model folder, its config.json, or OWNER/NAME[@REVISION] on the Hub.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal cannot show, such as a path that is no text, is escaped; it must not stop the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text streams here
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words after ``ual``.
    """
    as_json = wants_json(arguments)
    try:
        result = cli.main(arguments, prog_name="ual", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UALError as error:
        print_error(error, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        if as_json:
            print_error_document("usage", error.format_message())
        return error.exit_code
    except SystemExit:
        return 0  # how click answers where the reader of its help went away, as `| head` does
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last resort: a bug, told as one
        return _report_unforeseen(error, as_json=as_json)


def _report_unforeseen(error: Exception, *, as_json: bool) -> int:
    """Tell what nobody thought of; where the system refuses a file, that is no bug of ours."""
    if isinstance(error, OSError) and error.filename is not None:
        refusal = StorageError.of("use", error.filename, error)
        print_error(refusal, as_json=as_json)
        return refusal.exit_code
    return _report_bug(error, as_json=as_json)


def _report_bug(error: Exception, *, as_json: bool) -> int:
    click.echo(f"internal error: {type(error).__name__}: {error}", err=True)
    click.echo("this is a bug in ual; please report it with the command that you ran", err=True)
    if os.environ.get("UAL_TRACEBACK"):
        traceback.print_exception(error)
    else:
        click.echo("(set UAL_TRACEBACK=1 to see where it happened)", err=True)
    if as_json:
        print_error_document("internal", f"{type(error).__name__}: {error}")
    return _EXIT_BUG
