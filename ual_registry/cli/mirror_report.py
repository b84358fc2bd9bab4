"""What a mirror did, in words and as a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ual_registry.workflows.mirror_journal import Mirrored, Refusal, Settled
from ual_registry.workflows.mirror_report import MirrorReport

__all__ = ["mirror_document", "mirror_text"]

_COMMIT_DIGITS = 12


def mirror_document(report: MirrorReport) -> dict[str, Any]:
    """Return the document of ``--json``."""
    return {
        "direction": report.direction,
        "endpoint": report.endpoint,
        "source": report.source,
        "target": report.target,
        "is_complete": report.is_complete,
        "is_interrupted": report.is_interrupted,
        "left": report.left,
        "new": [_mirrored(item, found) for item, found in report.mirrored(is_new=True)],
        "unchanged": [_mirrored(item, found) for item, found in report.mirrored(is_new=False)],
        "refused": [_refused(item, reason) for item, reason in report.refused()],
        "without_adapter": report.without_adapter(),
        "notes": report.notes,
    }


def _mirrored(item: Settled, found: Mirrored) -> dict[str, Any]:
    return {
        "name": found.name,
        "number": found.number,
        "digest": found.digest,
        "repository": item.repository,
        "commit": item.commit,
        "path": found.path,
    }


def _refused(item: Settled, reason: Refusal) -> dict[str, Any]:
    return {
        "item": item.item,
        "repository": item.repository,
        "commit": item.commit,
        "path": reason.path,
        "code": reason.code,
        "message": reason.message,
        "hint": reason.hint,
    }


def mirror_text(report: MirrorReport, *, is_verbose: bool) -> str:
    """Return what is new, what was refused and why, and a last line that counts."""
    return "\n".join([*_lines(report, is_verbose=is_verbose), _summary(report)])


def _lines(report: MirrorReport, *, is_verbose: bool) -> Iterator[str]:
    yield from (_line("new", *found) for found in report.mirrored(is_new=True))
    if is_verbose:
        yield from (_line("unchanged", *found) for found in report.mirrored(is_new=False))
        yield from (f"{'nothing':9}  {repository}: no adapter in it" for repository in report.without_adapter())
    for item, reason in report.refused():
        place = f"{item.repository}:{reason.path}" if reason.path else item.repository
        yield f"{'refused':9}  {place} [{reason.code}]: {reason.message}"
        if reason.hint:
            yield f"{'':9}  hint: {reason.hint}"


def _line(verb: str, item: Settled, found: Mirrored) -> str:
    return (
        f"{verb:9}  {found.name}@{found.number}  {item.repository}@{(item.commit or '')[:_COMMIT_DIGITS]}:{found.path}"
    )


def _summary(report: MirrorReport) -> str:
    counts = [
        f"{len(report.mirrored(is_new=True)):,} new",
        f"{len(report.mirrored(is_new=False)):,} unchanged",
        f"{len(report.refused()):,} refused",
    ]
    empty = len(report.without_adapter())
    counts += [f"{empty:,} without an adapter"] if empty else []
    why = "interrupted; " if report.is_interrupted else ""
    left = f"; {why}{report.left:,} left: the same command again goes on" if report.left else ""
    return f"{report.source} -> {report.target}: {', '.join(counts)}{left}"
