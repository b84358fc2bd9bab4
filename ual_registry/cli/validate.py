"""The command ``ual validate``."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence

import click

from ual_registry.air.policy import REQUIREMENTS, Policy
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.cli.output import Output, common_options, print_document, print_result, size_text, visible
from ual_registry.errors import FormatError, HubError, StorageError
from ual_registry.hub.address import is_hub
from ual_registry.remote import is_url
from ual_registry.reports.verdict import counts_text, is_refused, is_unreadable, passes
from ual_registry.workflows.validate import find_files, validate_many

__all__ = ["validate_command"]


def _split(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for value in values for name in value.split(","))
    if unknown := [name for name in names if name not in REQUIREMENTS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(map(repr, REQUIREMENTS))}.")
    return names


@click.command(
    "validate",
    epilog="\b\nExamples:\n"
    "  ual validate adapters/ --jobs 8\n"
    "  ual validate '*.air' --require license,pinned-base\n"
    "  git diff --name-only -z main -- '*.air' | ual validate - --format sarif\n"
    "  ual validate https://example.org/medical.air hf:example/medical",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--format", "form", type=click.Choice(["text", "json", "junit", "sarif"]), help="By default text.")
@click.option("--headers-only", is_flag=True, help="Leave the tensors unread: no digest and no NaN check.")
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@click.option("--require", multiple=True, callback=_split, help=f"What must be there: {','.join(REQUIREMENTS)}.")
@click.option("--policy", "policy_file", metavar="FILE", help="A policy file (TOML); see the page on pipelines.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes for many files; by default one per core.")
@common_options
def validate_command(
    paths: tuple[str, ...],
    *,
    form: str | None,
    headers_only: bool,
    strict: bool,
    require: tuple[str, ...],
    policy_file: str | None,
    jobs: int | None,
    output: Output,
) -> int:
    """Check AIR files; report everything that is wrong with them.

    PATH is a file, a folder (its *.air files, at any depth), a pattern, '-' (a list of paths on standard input),
    https://..., or hf:OWNER/NAME[@REVISION][:PATH] (the *.air files of a repository on the Hub). Of files on a server
    or on the Hub only the header is read.

    Exit code 0 where every file is legal, 3 where one is not, 9 where the Hub does not give one, 11 where one cannot
    be read.
    """
    if output.as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} contradict one another")
    policy = _policy(policy_file, require, strict)
    files = find_files(paths, standard_input=sys.stdin.buffer)
    reports = validate_many(files, headers_only=headers_only, policy=policy, jobs=jobs)
    _print(reports, "json" if output.as_json else form or "text", _Style(output, policy.strict, headers_only))
    failed = [report for report in reports if not passes(report, strict=policy.strict)]
    return _exit_code(failed) if failed else 0


def _exit_code(failed: Sequence[ValidationReport]) -> int:
    if any(is_unreadable(report) for report in failed):
        return StorageError.exit_code
    return HubError.exit_code if any(is_refused(report) for report in failed) else FormatError.exit_code


def _policy(path: str | None, require: tuple[str, ...], strict: bool) -> Policy:
    """Join what the policy file and the options ask for."""
    policy = Policy()
    if path is not None:
        from ual_registry.workflows.policy import load_policy  # noqa: PLC0415  # only where there is one

        policy = load_policy(path)
    return dataclasses.replace(policy, require=(*policy.require, *require), strict=policy.strict or strict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Style:
    """How reports are told to people."""

    output: Output
    strict: bool
    headers_only: bool


def _print(reports: Sequence[ValidationReport], form: str, style: _Style) -> None:
    if form == "json":
        from ual_registry.reports.document import report_document  # noqa: PLC0415  # one of four

        print_document(report_document(reports, strict=style.strict))
    elif form == "junit":
        from ual_registry.reports.junit import junit_text  # noqa: PLC0415  # one of four

        print_result(junit_text(reports, strict=style.strict))
    elif form == "sarif":
        from ual_registry.reports.sarif import sarif_document  # noqa: PLC0415  # one of four

        print_document(sarif_document(reports, strict=style.strict))
    elif reports:
        paint = _painter()
        print_result("\n".join(_report_text(report, style, paint) for report in reports))
    if not reports:
        style.output.note("no files to check")


Painter = Callable[[str, str], str]


def _painter() -> Painter:
    """Return what colours words: nothing, where standard output is no terminal or nobody wants it (no-color.org)."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return lambda text, colour: click.style(text, fg=colour)
    return lambda text, _: text


def _report_text(report: ValidationReport, style: _Style, paint: Painter) -> str:
    is_brief = style.output.is_quiet and not style.strict
    lines = [f"{visible(report.path)}: {_verdict(report, style, paint)}"]
    lines += [_problem_text(problem, paint) for problem in report.problems if not (is_brief and problem.is_warning)]
    return "\n".join(lines)


def _verdict(report: ValidationReport, style: _Style, paint: Painter) -> str:
    if not passes(report, strict=style.strict):
        return paint(counts_text(report), "red")
    facts = report.facts
    kind = f"AIR {facts['air_version']} {facts['kind']}"
    if "architecture" in facts:
        content = f"{kind} for {facts['architecture']}, {facts['entries']} entries"
    else:
        content = f"{kind}, {facts['domains']} domains"
    end = "; header only" if style.headers_only or is_url(report.path) or is_hub(report.path) else ""
    size = size_text(facts["size_bytes"])
    return f"{paint('ok', 'green')} ({visible(content)}, {facts['tensors']} tensors, {size}{end})"


def _problem_text(problem: Problem, paint: Painter) -> str:
    hint = f"\n      hint: {visible(problem.hint)}" if problem.hint else ""
    severity = paint(problem.severity, "yellow" if problem.is_warning else "red")
    return f"  {severity} [{problem.code}] {visible(str(problem))}{hint}"
