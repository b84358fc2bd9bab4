"""The folder of a run: what it depends on, its log, its checkpoints and its result. Nothing here loads a framework."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.errors import FormatError, StorageError, UALError
from ual_registry.storage import atomic_file, read_file

__all__ = ["RunFolder", "check_run", "check_same", "clear_run", "open_run"]

_MARK = "run.json"
_MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps its things.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def log(self) -> Path:
        """The log, JSONL."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The result, an AIR file."""
        return self.path / "adapter.air"


def open_run(path: Path, settings: Mapping[str, Any], *, resume: bool, is_first: bool = True) -> RunFolder:
    """Begin a run in a folder, or go on with the one that is there.

    Args:
        path: The folder; its parent exists.
        settings: All that the run depends on.
        resume: Whether to go on.
        is_first: Whether this process makes the folder, where several share a run.

    Raises:
        FormatError: There is something else, or the run of other settings.
        StorageError: The file system refuses, or there is a run already and it is not to go on.
    """
    folder = RunFolder(path)
    if not is_first:
        held = _held(path)
        if _MARK in held and resume:
            check_same(path, _read_mark(path), settings)
    elif check_run(path, resume=resume):
        check_same(path, _read_mark(path), settings)
    else:
        _make(folder, settings)
    return folder


def check_run(path: Path, *, resume: bool) -> bool:
    """Check, before any work, that a run can begin in a folder or go on there; tell whether it goes on.

    Args:
        path: The folder.
        resume: Whether to go on where there is a run.

    Raises:
        FormatError: There is something else.
        StorageError: It cannot be read, or there is a run already and it is not to go on.
    """
    held = _held(path)
    is_run = _MARK in held
    if is_run and not resume:
        raise StorageError(
            f"cannot write {path}: there is a training run already",
            code="exists",
            context={"path": str(path)},
            hint="go on with it (--resume), begin it anew (--force), or give another folder (--folder)",
        )
    if held and not is_run:
        raise _foreign(path)
    return is_run


def clear_run(path: Path) -> None:
    """Remove the run that stands in a folder, so that another can begin there; nothing but a run is removed.

    Raises:
        FormatError: There is something else.
        StorageError: The file system refuses.
    """
    if not check_run(path, resume=True):
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise StorageError.of("remove", path, error) from error


def _held(path: Path) -> list[str]:
    """Return the names in a folder; none where there is none."""
    try:
        return sorted(own.name for own in path.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError.of("read", path, error) from error


def _make(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    try:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of("write", folder.path, error) from error
    with atomic_file(folder.path / _MARK) as stream:
        stream.write(json.dumps({"kind": "ual training run", "settings": settings}, indent=2).encode())


def _read_mark(path: Path) -> Mapping[str, Any]:
    data = read_file(path / _MARK, limit_bytes=_MAX_BYTES)
    try:
        settings = parse_json(data, what=str(path / _MARK))["settings"]
        return dict(settings)
    except (UALError, LookupError, TypeError, ValueError) as error:
        raise _foreign(path) from error


def check_same(path: Path, kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of other settings.

    Raises:
        FormatError: They differ; says in what.
    """
    for name in own:
        if kept.get(name) != own[name]:
            raise FormatError(
                f"{path}: is a run with another {name.replace('_', ' ')} "
                f"(there {_short(kept.get(name))}, here {_short(own[name])})",
                code="checkpoint",
                context={"path": str(path), "differs": name},
                hint="give what the run was begun with, or another folder to begin anew",
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _foreign(path: Path) -> FormatError:
    return FormatError(
        f"{path}: is no folder of a training run",
        code="checkpoint",
        context={"path": str(path)},
        hint="give the folder of a run that 'ual train' began, or a new one",
    )
