"""Look after a registry: what the command line does, one function per verb; see the methods of ``Registry``."""

from __future__ import annotations

import datetime
from pathlib import Path

from ual_registry.registry.exchange import ExportReport
from ual_registry.registry.fsck import FsckReport
from ual_registry.registry.grace import DEFAULT_GRACE
from ual_registry.registry.importing import ImportReport
from ual_registry.registry.layout import LAYOUT_FILE
from ual_registry.registry.maintenance import GcReport
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.registry import Registry
from ual_registry.storage import check_target

__all__ = ["export", "fsck", "gc", "import_"]


def gc(
    *,
    grace: datetime.timedelta = DEFAULT_GRACE,
    apply: bool = False,
    yanked: bool = False,
    progress: Progress = silent,
) -> GcReport:
    """Find and delete bytes that nothing refers to; see ``Registry.gc``."""
    return Registry.open().gc(grace=grace, apply=apply, yanked=yanked, progress=progress)


def fsck(
    *,
    quick: bool = False,
    since: datetime.timedelta | None = None,
    deep: bool = False,
    repair_from: str | Path | None = None,
    progress: Progress = silent,
) -> FsckReport:
    """Check every blob and every row; see ``Registry.fsck``."""
    return Registry.open().fsck(quick=quick, since=since, deep=deep, repair_from=repair_from, progress=progress)


def export(
    target: str | Path, *, query: str | None = None, force: bool = False, progress: Progress = silent
) -> ExportReport:
    """Write the registry, or the hits of a query, to a folder; see ``Registry.export``.

    Raises:
        StorageError: Something stands at ``target``, and ``force`` is off or it is no export; or the system refuses.
        UALError: As ``Registry.export``.
    """
    check_target(Path(target), force=force, replaceable=LAYOUT_FILE)
    return Registry.open().export(target, query=query, progress=progress)


def import_(source: str | Path, *, on_conflict: str = "fail", progress: Progress = silent) -> ImportReport:
    """Take in an exported registry; see ``Registry.import_``."""
    return Registry.open().import_(source, on_conflict=on_conflict, progress=progress)
