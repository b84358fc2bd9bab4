"""Printing: one JSON document for machines, or text for people; messages go to standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TextIO

import click

from ual_registry.errors import StorageError, UALError

__all__ = [
    "Output",
    "common_options",
    "indented",
    "jsonable",
    "one_line",
    "print_document",
    "print_error",
    "print_error_document",
    "print_result",
    "size_text",
    "table",
    "visible",
    "wants_json",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """How a command was asked to speak.

    Attributes:
        as_json: Whether to print one JSON document.
        is_quiet: Whether to leave out what is no result.
        is_verbose: Whether to say more.
    """

    as_json: bool
    is_quiet: bool
    is_verbose: bool

    def result(self, document: Any, text: Callable[[], str]) -> None:
        """Print a command's result.

        Args:
            document: The JSON document, or dataclasses to make it from.
            text: Makes the text for people; called only where it is needed.
        """
        if self.as_json:
            print_document(document)
        else:
            print_result(visible(text()))

    def note(self, message: str) -> None:
        """Say something that is no result."""
        if not self.is_quiet:
            click.echo(visible(message), err=True)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CONTROLS |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""The second ones turn round what stands behind them to the end of the line; words of no script need them."""


def visible(text: str) -> str:
    r"""Escape control characters, so that what a file says of itself cannot command a terminal or turn a line round.

    >>> visible("a\tb" + chr(27) + "[2J")
    'a\tb\\x1b[2J'
    """
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    r"""Escape what would end a line, too, so that what a file says of itself cannot look like a line of ours.

    >>> one_line("tiny" + chr(10) + "official")
    'tiny\\nofficial'
    """
    return visible(text).translate(_LINE_ENDS)


_LINE_ENDS = {9: "\\t", 10: "\\n", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def indented(text: str) -> str:
    """Return a text of several lines whose further lines stand in, so that none looks like a line of ours."""
    return text.replace("\n", "\n    ")


def print_document(document: Any) -> None:
    """Print one JSON document to standard output; dataclasses, tuples and times in it are turned into JSON."""
    print_result(json.dumps(jsonable(document), ensure_ascii=False, indent=2, default=str))


def print_result(text: str) -> None:
    """Print to standard output.

    Where its reader went away, as ``| head`` does, nothing more can be said to it, and the command ends well.

    Raises:
        StorageError: It cannot take the text, such as a file on a full disk.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        _send_nowhere(sys.stdout)
    except OSError as error:
        raise StorageError.of("write", "standard output", error) from error


def _send_nowhere(stream: TextIO) -> None:
    """Throw away what a stream still holds and will be given, so that its end is no error either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json``, ``-q`` and ``-v``; it receives them as ``output``."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    @click.option("-q", "--quiet", is_flag=True, help="Print results only.")
    @click.option("-v", "--verbose", is_flag=True, help="Print more.")
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        return command(*args, output=Output(as_json, quiet, verbose), **kwargs)

    return wrapped


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether the words of a command line ask for JSON; needed before they are parsed."""
    return bool({"--json", "--format=json"} & {*arguments}) or ("--format", "json") in pairwise(arguments)


def jsonable(value: Any) -> Any:
    """Turn dataclasses, tuples and times into what ``json`` writes; times in RFC 3339, UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return value


def print_error_document(
    code: str, message: str, *, hint: str | None = None, context: Mapping[str, object] | None = None
) -> None:
    """Print the JSON document of an error, where standard output can take it."""
    with contextlib.suppress(StorageError):
        print_document({"error": {"code": code, "message": message, "hint": hint, "context": context or {}}})


def print_error(error: UALError, *, as_json: bool) -> None:
    """Print an error for people, and for machines where they asked."""
    hint = f"\nhint: {visible(error.hint)}" if error.hint else ""
    try:
        click.echo(visible(f"error [{error.problem_code}]: {error.message}") + hint, err=True)
    except BrokenPipeError:  # its reader went away; the exit code still tells
        _send_nowhere(sys.stderr)
    if as_json:
        print_error_document(error.problem_code, error.message, hint=error.hint, context=error.context)


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """Lay out rows in columns, each cell in one line."""
    from tabulate import tabulate  # noqa: PLC0415  # not every command prints a table

    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="plain", disable_numparse=True)


def size_text(size_bytes: int) -> str:
    """Write a size for people.

    >>> size_text(999), size_text(9_870_000)
    ('999 B', '9.87 MB')
    """
    value, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
