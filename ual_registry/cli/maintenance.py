"""The commands that look after a registry: gc, fsck, export, import."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from ual_registry.cli.output import Output, common_options, size_text
from ual_registry.errors import RegistryError
from ual_registry.registry.fsck import Fault, FsckReport
from ual_registry.registry.grace import parse_duration
from ual_registry.registry.importing import ON_CONFLICT, ImportedAdapter, ImportReport
from ual_registry.registry.maintenance import Garbage, GcReport
from ual_registry.registry.progress import Progress, silent
from ual_registry.workflows import maintenance

__all__ = ["export_command", "fsck_command", "gc_command", "import_command"]


@contextlib.contextmanager
def _shown(output: Output) -> Iterator[Progress]:
    """Yield what shows progress on a terminal, and nothing elsewhere."""
    if output.is_quiet or not sys.stderr.isatty():
        yield silent
        return

    def show(what: str, done: int, total: int | None) -> None:
        rest = f" of {total:,}" if total else ""
        click.echo(f"\r\x1b[K{what}: {done:,}{rest}", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@click.command("gc")
@click.option("--grace", default="24h", show_default=True, metavar="D", help="How old it must be: 0, 90m, 24h, 7d, ...")
@click.option("--yanked", is_flag=True, help="Delete what was yanked longer ago, too; a tombstone stays.")
@click.option("--apply", is_flag=True, help="Delete; otherwise say only what would be deleted.")
@common_options
def gc_command(grace: str, yanked: bool, apply: bool, output: Output) -> None:
    """Delete bytes that nothing refers to: of interrupted commands, and of yanked revisions.

    Without --apply nothing is deleted. A revision that an alias points to stays, and so does every lineage.
    """
    duration = parse_duration(grace)
    with _shown(output) as progress:
        report = maintenance.gc(grace=duration, apply=apply, yanked=yanked, progress=progress)
    output.result(report, lambda: _gc_text(report))


def _gc_text(report: GcReport) -> str:
    if not report.garbage:
        return "no garbage"
    lines = [_garbage_text(item) for item in report.garbage]
    size = size_text(report.size_bytes)
    return "\n".join([*lines, f"freed {size}" if report.is_applied else f"--apply deletes this and frees {size}"])


def _garbage_text(item: Garbage) -> str:
    where = ", ".join(item.names) or item.path or ""
    return f"{item.kind:9} {size_text(item.size_bytes):>8}  {item.digest or where}{f'  {where}' if item.names else ''}"


@click.command("fsck")
@click.option("--quick", is_flag=True, help="Compare sizes, do not re-hash.")
@click.option("--since", metavar="D", help="Do not re-hash what was re-hashed within this time, such as 7d.")
@click.option("--deep", is_flag=True, help="Compare the database with the manifest in every file, too.")
@click.option("--repair-from", metavar="STORE", help="Blob folder, registry home or export to take whole copies from.")
@common_options
def fsck_command(quick: bool, since: str | None, deep: bool, repair_from: str | None, output: Output) -> int:
    """Re-hash every blob and check every row of the database.

    The exit code is 8 where something is wrong and was not repaired. Damaged bytes are put aside, never deleted.
    """
    duration = None if since is None else parse_duration(since)
    with _shown(output) as progress:
        report = maintenance.fsck(quick=quick, since=duration, deep=deep, repair_from=repair_from, progress=progress)
    output.result(_fsck_document(report), lambda: _fsck_text(report))
    return 0 if report.is_sound else RegistryError.exit_code


def _fsck_document(report: FsckReport) -> dict[str, Any]:
    return {
        "is_sound": report.is_sound,
        "blobs": report.blobs,
        "hashed_bytes": report.hashed_bytes,
        "faults": report.faults,
        "notes": report.notes,
    }


def _fsck_text(report: FsckReport) -> str:
    lines = [_fault_text(fault) for fault in (*report.faults, *report.notes)]
    mended = sum(fault.is_repaired for fault in report.faults)
    count = f"{len(report.faults)} faults" + (f", {mended} of them repaired" if mended else "")
    return "\n".join([*lines, f"{report.blobs} blobs, {size_text(report.hashed_bytes)} re-hashed: {count}"])


def _fault_text(fault: Fault) -> str:
    names = f" ({', '.join(fault.names)})" if fault.names else ""
    return f"{fault.kind}: {fault.message}{names}{', repaired' if fault.is_repaired else ''}"


@click.command("export")
@click.option("-o", "--output", "target", required=True, metavar="PATH", help="Folder to write.")
@click.option("--query", help="Export the hits of a search alone.")
@click.option("--force", is_flag=True, help="Replace an export that stands at PATH.")
@common_options
def export_command(target: str, query: str | None, force: bool, output: Output) -> None:
    """Write the registry to one folder that 'ual import' and OCI tools read.

    Everything goes with it: revisions, numbers, aliases, tags, yanks, tombstones; the audit log stays here.
    """
    with _shown(output) as progress:
        report = maintenance.export(target, query=query, force=force, progress=progress)
    counts = f"{report.adapters} adapters, {report.revisions} revisions, {size_text(report.size_bytes)}"
    output.result(report, lambda: f"wrote {report.path}: {counts}\n{report.digest}")


@click.command("import")
@click.argument("path")
@click.option(
    "--on-conflict",
    type=click.Choice(ON_CONFLICT),
    default="fail",
    show_default=True,
    help="Where a name is here with other revisions: import nothing, leave it out, or give new numbers.",
)
@common_options
def import_command(path: str, on_conflict: str, output: Output) -> None:
    """Take in a registry that 'ual export' wrote; every blob is checked.

    The same again changes nothing. What is here already stays as it is.
    """
    with _shown(output) as progress:
        report = maintenance.import_(path, on_conflict=on_conflict, progress=progress)
    output.result(_import_document(report), lambda: _import_text(report))


def _import_document(report: ImportReport) -> dict[str, Any]:
    adapters = [
        {
            "name": item.name,
            "outcome": item.outcome,
            "added": item.added,
            "renumbered": [{"from": old, "to": new} for old, new in item.renumbered],
            "conflicts": item.conflicts,
            "kept": item.kept,
        }
        for item in report.adapters
    ]
    return {"artifacts": report.artifacts, "new_artifacts": report.new_artifacts, "adapters": adapters}


def _import_text(report: ImportReport) -> str:
    lines = [_adapter_text(item) for item in report.adapters if item.outcome != "unchanged" or item.kept]
    return "\n".join([*lines, f"{report.artifacts} artifacts, {report.new_artifacts} of them new"])


def _adapter_text(item: ImportedAdapter) -> str:
    added = f", added {', '.join(str(number) for number in item.added)}" if item.added else ""
    moved = "".join(f", {old} is {new} here" for old, new in item.renumbered)
    kept = f"; kept as it is here: {', '.join(item.kept)}" if item.kept else ""
    conflicts = f": {'; '.join(item.conflicts)}" if item.outcome == "skipped" else ""
    return f"{item.outcome} {item.name}{added}{moved}{kept}{conflicts}"
