"""The command that compares two adapters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ual_registry.air.changes import Change, ChangeKind
from ual_registry.cli.output import Output, common_options, jsonable, table
from ual_registry.workflows.diff import Difference, EntryComparison, Verdict, diff

__all__ = ["diff_command"]

_DIFFERENT = 1
_SHOWN = 20
_VALUE_COLUMNS = 60


@click.command(
    "diff", epilog="\b\nExamples:\n  ual diff triage@production triage\n  ual diff before.air after.air --json"
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--updates/--no-updates",
    default=None,
    help="Compute how far the updates of entries are apart; by default where torch is installed.",
)
@common_options
def diff_command(a: str, b: str, updates: bool | None, output: Output) -> int:
    """Compare two adapters: manifests field by field, tensors by digest, updates by their factors.

    A and B are each a REF. The difference of an entry's updates is |A - B| / |A| in the Frobenius norm, scaling folded
    in; up to 4 epsilons of the coarsest stored dtype (at least 1e-12) it is taken for rounding. Magnitudes and biases
    are compared as tensors only. Exit code 0 where both files have the same bytes, 1 where they differ.
    """
    found = diff(a, b, updates=updates)
    if not found.is_complete and updates is None:
        output.note(
            "only digests were compared: how far updates are apart needs the extra 'torch' "
            "(pip install 'ual-registry[torch]')"
        )
    output.result({**jsonable(found), "is_complete": found.is_complete}, lambda: _text(found, output.is_verbose))
    return 0 if found.is_same else _DIFFERENT


def _text(found: Difference, is_verbose: bool) -> str:
    sides = (("A", found.first), ("B", found.second))
    width = max(len(side.reference) for _, side in sides)
    lines = [f"{letter}  {side.reference:{width}}  {side.digest}" for letter, side in sides]
    if found.is_same:
        return "\n".join([*lines, "", "the same bytes"])
    limit = None if is_verbose else _SHOWN
    lines += _section("manifest", [_change_text(change) for change in found.changes], limit)
    lines += _section("entries only in A", found.only_in_first, limit)
    lines += _section("entries only in B", found.only_in_second, limit)
    lines += ["", _tensor_count(found), *_tensor_names(found, limit)]
    lines += _entry_lines(found.entries, limit)
    return "\n".join(lines)


def _section(title: str, lines: Sequence[str], limit: int | None) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from _limited([f"  {line}" for line in lines], limit)


def _limited(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"  ... and {len(lines) - limit} more; -v shows all"


def _change_text(change: Change) -> str:
    if change.kind is ChangeKind.ADDED:
        return f"added    {change.path}: {_value_text(change.after)}"
    if change.kind is ChangeKind.REMOVED:
        return f"removed  {change.path}: {_value_text(change.before)}"
    return f"changed  {change.path}: {_value_text(change.before)} -> {_value_text(change.after)}"


def _value_text(value: Any) -> str:
    text = json.dumps(jsonable(value), ensure_ascii=False)
    return text if len(text) <= _VALUE_COLUMNS else f"{text[: _VALUE_COLUMNS - 4]} ..."


def _tensor_count(found: Difference) -> str:
    tensors = found.tensors
    only = ((len(tensors.only_in_first), "only in A"), (len(tensors.only_in_second), "only in B"))
    parts = [f"{tensors.equal_count} equal", f"{len(tensors.changed)} changed"]
    return f"tensors: {', '.join([*parts, *(f'{count} {what}' for count, what in only if count)])}"


def _tensor_names(found: Difference, limit: int | None) -> Iterator[str]:
    tensors = found.tensors
    lines = [f"  changed    {name}" for name in tensors.changed]
    lines += [f"  only in A  {name}" for name in tensors.only_in_first]
    lines += [f"  only in B  {name}" for name in tensors.only_in_second]
    yield from _limited(lines, limit)


def _entry_lines(entries: Sequence[EntryComparison], limit: int | None) -> Iterator[str]:
    counts = Counter(entry.verdict for entry in entries)
    told = ", ".join(f"{counts[verdict]} {_WORDS[verdict]}" for verdict in Verdict if counts[verdict])
    yield f"updates: {told or 'no entry in common'}"
    rows = [[entry.entry, _difference_text(entry)] for entry in entries if entry.verdict is not Verdict.IDENTICAL]
    if rows:
        heading, *lines = (f"  {line}" for line in table(rows, ["entry", "|A - B| / |A|"]).splitlines())
        yield heading
        yield from _limited(lines, limit)


_WORDS = {
    Verdict.IDENTICAL: "identical",
    Verdict.ROUNDING: "equal up to rounding",
    Verdict.DIFFERENT: "different",
    Verdict.INCOMPARABLE: "of other shapes",
    Verdict.NOT_COMPUTED: "with other factors, not computed",
}


def _difference_text(entry: EntryComparison) -> str:
    if entry.relative_difference is not None:
        return f"{entry.relative_difference:.3g}{' (rounding)' if entry.verdict is Verdict.ROUNDING else ''}"
    return "A is zero" if entry.verdict is Verdict.DIFFERENT else _WORDS[entry.verdict]
