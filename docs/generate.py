"""Write ``docs/cli.md`` from the commands' own help; a test keeps the two equal.

python -m docs.generate
"""

from __future__ import annotations

from pathlib import Path

import click

from ual_registry.cli.main import COMMANDS, cli

__all__ = ["cli_reference"]

_HEAD = """# Command line

Generated from `ual COMMAND --help` by `python -m docs.generate`.

`REF` is a path to an AIR file, a registered `NAME` (its newest revision), `NAME@3`, `NAME@ALIAS` or `sha256:...`.
`BASE` is a local model folder or its `config.json`.
Results go to standard output, messages to standard error; exit codes stand in [errors.md](errors.md).
"""


def cli_reference() -> str:
    """Return the reference of every command, as Markdown."""
    parts = [_HEAD]
    context = click.Context(cli, info_name="ual")
    for title, names in COMMANDS.items():
        parts.append(f"## {title}\n")
        for name in names:
            command = cli.get_command(context, name)
            assert command is not None  # COMMANDS is where the group looks them up
            parts += _sections(command, click.Context(command, parent=context, info_name=name, max_content_width=100))
    return "\n".join(parts)


def _sections(command: click.Command, context: click.Context) -> list[str]:
    if isinstance(command, click.Group):
        return [
            section
            for name, child in command.commands.items()
            for section in _sections(child, click.Context(child, parent=context, info_name=name, max_content_width=100))
        ]
    return [f"### `{context.command_path}`\n", f"```\n{command.get_help(context).rstrip()}\n```\n"]


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(cli_reference(), encoding="utf-8")
