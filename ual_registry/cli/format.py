"""The commands about files: validate, show, convert."""

from __future__ import annotations

from pathlib import Path

import click

from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.cli.output import Output, common_options, size_text
from ual_registry.errors import FormatError, StorageError
from ual_registry.workflows.validate import validate

__all__ = ["convert_command", "show_command", "validate_command"]


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--headers-only", is_flag=True, help="Leave the tensors unread: no digest and no NaN check.")
@click.option("--strict", is_flag=True, help="Take warnings for errors.")
@common_options
def validate_command(paths: tuple[str, ...], headers_only: bool, strict: bool, output: Output) -> int:
    """Check AIR files; report everything that is wrong with them.

    Exit code 0 where every file is legal, 3 where one is not, 11 where one cannot be read.
    """
    reports = [validate(path, headers_only=headers_only) for path in paths]
    failed = [report for report in reports if not _passes(report, strict)]
    document = {"ok": not failed, "files": [_report_document(report, strict) for report in reports]}
    output.result(document, lambda: "\n".join(_report_text(report, output, strict) for report in reports))
    is_unreadable = any(problem.branch == "storage" for report in failed for problem in report.problems)
    return (StorageError.exit_code if is_unreadable else FormatError.exit_code) if failed else 0


def _passes(report: ValidationReport, strict: bool) -> bool:
    return report.ok and not (strict and report.warnings)


def _report_document(report: ValidationReport, strict: bool) -> dict[str, object]:
    problems = [
        {
            "code": problem.code,
            "severity": problem.severity,
            "place": problem.place,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in report.problems
    ]
    return {"path": report.path, "ok": _passes(report, strict), "problems": problems, "facts": report.facts}


def _report_text(report: ValidationReport, output: Output, strict: bool) -> str:
    is_brief = output.is_quiet and not strict
    lines = [f"{report.path}: {_verdict(report, strict)}"]
    lines += [_problem_text(problem) for problem in report.problems if not (is_brief and problem.is_warning)]
    return "\n".join(lines)


def _verdict(report: ValidationReport, strict: bool) -> str:
    facts = report.facts
    if not _passes(report, strict):
        counts = (_count(len(report.errors), "error"), _count(len(report.warnings), "warning"))
        return ", ".join(count for count in counts if count)
    size = size_text(facts["size_bytes"])
    kind = f"AIR {facts['air_version']} {facts['kind']} for {facts['architecture']}"
    return f"ok ({kind}, {facts['entries']} entries, {facts['tensors']} tensors, {size})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""


def _problem_text(problem: Problem) -> str:
    hint = f"\n      hint: {problem.hint}" if problem.hint else ""
    return f"  {problem.severity} [{problem.code}] {problem}{hint}"


@click.command("show")
@click.argument("ref")
@common_options
def show_command(ref: str, output: Output) -> None:
    """Describe an adapter: base, roles, ranks, layers, lineage, provenance."""
    from ual_registry.cli.describe import description_document, description_text  # noqa: PLC0415  # not for validate
    from ual_registry.workflows.show import show  # noqa: PLC0415  # as above

    description = show(ref)
    output.result(description_document(description), lambda: description_text(description))


@click.command(
    "convert",
    epilog="\b\nExamples:\n"
    "  ual convert my-adapter my-adapter.air --base path/to/base-model\n"
    "  ual convert my-adapter.air my-adapter-again",
)
@click.argument("src")
@click.argument("dst")
@click.option("--to", "to", type=click.Choice(["air", "peft"]), help="Format to write; by default the other one.")
@click.option("--base", help="Base model of a PEFT adapter: its folder, or its config.json.")
@click.option("--base-id", help="Hub id of the base model, as a label; by default from the adapter's configuration.")
@click.option("--base-revision", help="Commit of the base model; by default from the adapter's configuration.")
@click.option("--name", help="Label to write into the manifest.")
@click.option("--description", help="What the adapter does, to write into the manifest.")
@click.option(
    "--domain", help="The field that it serves, to write into the manifest; 'ual search domain:...' finds it."
)
@click.option("--license", "license_", help="SPDX expression to write into the manifest.")
@click.option("--force", is_flag=True, help="Replace what stands at DST.")
@common_options
def convert_command(src: str, dst: str, to: str | None, force: bool, output: Output, **options: str | None) -> None:
    """Convert a PEFT folder to an AIR file, or an AIR file to a PEFT folder; no number changes."""
    from ual_registry.workflows.convert import Labels, convert_to_air, convert_to_peft  # noqa: PLC0415  # as above
    from ual_registry.workflows.references import locate  # noqa: PLC0415  # as above

    is_to_air = to == "air" if to else Path(src).is_dir() or dst.endswith(".air")
    base = options.pop("base")
    if is_to_air:
        labels = Labels(license=options.pop("license_"), **options)
        result = convert_to_air(src, dst, base=base, labels=labels, force=force)
    else:
        _refuse_labels({**options, "base": base})
        result = convert_to_peft(locate(src), dst, force=force)
    if result.left_behind:
        output.note(f"left behind, no part of the adapter: {', '.join(result.left_behind)}")
    output.result(
        result,
        lambda: _converted(
            result.path, result.entry_count, result.extra_count, result.size_bytes, result.tensor_digest
        ),
    )


def _refuse_labels(options: dict[str, str | None]) -> None:
    for name, value in options.items():
        if value is not None:
            flag = name.rstrip("_").replace("_", "-")
            raise click.UsageError(f"--{flag} belongs to converting a PEFT folder to AIR")


def _converted(path: str, entries: int, extras: int, size_bytes: int, digest: str) -> str:
    extra = f", {extras} tensors without a role" if extras else ""
    return f"wrote {path} ({entries} entries{extra}, {size_text(size_bytes)})\ntensors {digest}"
