"""The command ``ual conformance``: ask an implementation every vector, or be one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ual_registry.cli.output import Output, common_options, print_result, visible
from ual_registry.errors import FormatError

__all__ = ["conformance_command"]


@click.command(
    "conformance",
    epilog="\b\nExamples:\n"
    "  ual conformance --implementation 'ual conformance --serve'\n"
    "  ual conformance --implementation ./my-reader --format junit -o report.xml",
)
@click.option("--implementation", "command", metavar="CMD", help="The command to ask; it speaks the line protocol.")
@click.option("--serve", is_flag=True, help="Answer the protocol on standard input and output, as an implementation.")
@click.option("--vectors", metavar="FOLDER", help="Folder of the vectors; by default that of the checkout.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for each answer.",
)
@click.option("--format", "form", type=click.Choice(["text", "json", "junit"]), help="By default text.")
@click.option("-o", "--output", "target", metavar="FILE", help="Write the report there, and print only the counts.")
@common_options
def conformance_command(
    *,
    command: str | None,
    serve: bool,
    vectors: str | None,
    timeout_s: float,
    form: str | None,
    target: str | None,
    output: Output,
) -> int:
    """Ask an implementation of AIR every conformance vector; print what it answers otherwise.

    The last line of text says how many vectors passed and failed; -v names those that passed, too.
    Exit code 0 where all passed, 3 where one failed.
    """
    if (command is None) != serve:
        raise click.UsageError("give either --implementation CMD or --serve")
    if output.as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} contradict one another")
    if command is None:
        from ual_registry.workflows.answers import serve as serve_protocol  # noqa: PLC0415  # one of two

        serve_protocol(sys.stdin.buffer, sys.stdout.buffer)
        return 0
    from ual_registry.cli.conformance_report import report_text, summary  # noqa: PLC0415  # as above
    from ual_registry.workflows.conformance import run_conformance  # noqa: PLC0415  # as above

    report = run_conformance(command, vectors=vectors, timeout_s=timeout_s)
    text = report_text(report, "json" if output.as_json else form or "text", is_verbose=output.is_verbose)
    if target is None:
        print_result(visible(text))
    else:
        _write(Path(target), text)
        print_result(summary(report))
    return FormatError.exit_code if report.failures else 0


def _write(path: Path, text: str) -> None:
    from ual_registry.storage import atomic_file  # noqa: PLC0415  # only where it is asked for

    with atomic_file(path) as stream:
        stream.write(f"{text}\n".encode())
