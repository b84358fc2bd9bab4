"""Write ``docs/cli.md`` from the commands' own help, and the tables of ``docs/search.md``; tests keep them equal.

python -m docs.generate
"""

from __future__ import annotations

from pathlib import Path

import click

from ual_registry.cli.main import COMMANDS, cli
from ual_registry.registry.fields import FIELDS, Kind

__all__ = ["cli_reference", "search_page"]

_SEARCH = Path(__file__).with_name("search.md")
_MARKS = ("<!-- fields: python -m docs.generate -->\n", "<!-- end of fields -->\n")

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


_COMPARED = {
    Kind.TEXT: "a text, in any case of A to Z",
    Kind.LABEL: "a text, as it was written",
    Kind.CHOICE: "one of its values",
    Kind.COUNT: "a whole number",
    Kind.AMOUNT: "a number, with K, M, G or T",
    Kind.BYTES: "a number, with kB, MB, GB, TB, KiB, MiB, GiB or TiB",
    Kind.NUMBER: "a number",
    Kind.TIME: "a day or a time",
    Kind.TAG: "`KEY` or `KEY=VALUE`, as it was written",
    Kind.METRIC: "a name, and a number behind it",
    Kind.DIGEST: "hexadecimal digits",
    Kind.REFERENCE: "a reference",
}


def search_page() -> str:
    """Return ``docs/search.md`` with its table of fields as the program knows them."""
    before, _, rest = _SEARCH.read_text(encoding="utf-8").partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    rows = [
        f"| `{name}` | {field.help} | {_COMPARED[field.kind]} | `{field.example}` | {'yes' if field.is_order else ''} |"
        for name, field in FIELDS.items()
    ]
    head = ["| field | holds for | compared with | example | order |", "|---|---|---|---|---|"]
    return before + _MARKS[0] + "\n".join([*head, *rows]) + "\n" + _MARKS[1] + after


if __name__ == "__main__":
    _SEARCH.write_text(search_page(), encoding="utf-8")
    Path(__file__).with_name("cli.md").write_text(cli_reference(), encoding="utf-8")
