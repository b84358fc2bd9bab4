"""Read an AIR file, or refuse it with the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest
from ual_registry.air.problem import Problem
from ual_registry.air.validate import Inspection, inspect_file, scan_problems
from ual_registry.errors import FormatError, RuleError

__all__ = ["open_legal", "read", "refuse_first", "verify"]


def open_legal(path: str | Path) -> Inspection:
    """Open an AIR file of any kind and check its header in full; the tensors stay on the disk.

    Args:
        path: The file.

    Returns:
        What was found, with a manifest and without faults; close its ``source``.

    Raises:
        FormatError: The file is not legal AIR; the message names the first fault and how many more there are.
        StorageError: The file cannot be read.
    """
    found = inspect_file(Path(path))
    if found.errors or found.manifest is None:
        found.source.close()
    refuse_first(found.errors, path)
    return found


def read(path: str | Path) -> Adapter:
    """Open an AIR file; the header is checked in full, the tensors stay on the disk until they are used.

    Args:
        path: The file.

    Returns:
        The adapter; close it, or use it as a context manager.

    Raises:
        FormatError: The file is not legal AIR; the message names the first fault and how many more there are.
        StorageError: The file cannot be read.
    """
    found = open_legal(path)
    if not isinstance(found.manifest, Manifest):
        found.source.close()
        kind = found.manifest.kind if found.manifest else "file without a manifest"
        raise RuleError(f"{path}: is a {kind}, expected an adapter", code="kind", context={"path": str(path)})
    return Adapter(found.manifest, found.tensors())


def verify(adapter: Adapter, *, check_finite: bool = True) -> None:
    """Read every tensor and compare with the digest that the manifest stores.

    Args:
        adapter: An adapter that was read.
        check_finite: Whether to look for a NaN or an infinity in the factors too.

    Raises:
        FormatError: A factor is not finite, or the tensors do not have their digest.
    """
    problems = scan_problems(adapter.manifest, dict(adapter.tensors), check_finite=check_finite)
    if problems:
        raise problems[0].to_error()


def refuse_first(problems: Sequence[Problem], path: str | Path) -> None:
    """Raise the first of the faults of a file, if there is one.

    Raises:
        FormatError: There is one; the message names it and how many more there are.
    """
    if problems:
        raise _first(problems[0].to_error(), str(path), len(problems) - 1)


def _first(error: FormatError, path: str, more: int) -> FormatError:
    rest = f" (and {more} more: run 'ual validate {path}')" if more else ""
    return type(error)(
        f"{path}: {error.message}{rest}",
        code=error.problem_code,
        hint=error.hint,
        context={**error.context, "path": path},
    )
