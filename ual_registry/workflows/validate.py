"""Check files: is this legal AIR, and what the team asks of it? One file, or many over processes."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ual_registry.air.policy import Policy
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.scan import THREADS
from ual_registry.air.tensor import FileSource
from ual_registry.air.validate import Inspection, look, report_on
from ual_registry.errors import StorageError
from ual_registry.hub.address import is_hub, is_repository
from ual_registry.interop.folder import MARKER_FILE
from ual_registry.interop.legacy import legacy_hint
from ual_registry.interop.peft_config import CONFIG_FILE
from ual_registry.remote import RemoteSource, is_url

__all__ = ["find_files", "validate", "validate_many"]

_MANY_FILES = 32
"""From how many files on the start of processes pays; below, a few threads read the tensors."""

_GROUP_FILES = 32
_GROUP_BYTES = 1 << 21
"""How many files are opened and looked at before their tensors are read, and of how many bytes of headers."""


def validate(path: str | Path, *, headers_only: bool = False, policy: Policy | None = None) -> ValidationReport:
    """Check one file and report everything that is wrong with it.

    Args:
        path: The file, or the address of one on a server (``https://``) or on the Hub (``hf:``), of which only the
            header is read.
        headers_only: Whether to leave the tensors unread, and with them their digest and their numbers.
        policy: What is asked of it beyond being legal.

    Returns:
        The report; ``ok`` tells whether the file is legal. A file that cannot be read is a problem of the report, and
        so is a repository of the Hub that holds several.
    """
    if _is_on_hub(path):
        reports = _validate_hub(str(path), policy)
        return reports[0] if len(reports) == 1 else _several(str(path), reports)
    return _validate([path], headers_only=headers_only, policy=policy, threads=THREADS)[0]


def validate_many(
    paths: Sequence[str | Path], *, headers_only: bool = False, policy: Policy | None = None, jobs: int | None = None
) -> list[ValidationReport]:
    """Check many files, over processes where that pays.

    Args:
        paths: The files; see ``validate``. A repository of the Hub means every AIR file in it.
        headers_only: Whether to leave the tensors unread.
        policy: What is asked of every file beyond being legal.
        jobs: How many processes; by default as many as there are cores.

    Returns:
        One report per file, in the order of ``paths``.

    Raises:
        StorageError: A process was ended from outside (code ``worker-ended``).
    """
    near = [path for path in paths if not _is_on_hub(path)]
    found = _validate_near(near, headers_only=headers_only, policy=policy, jobs=jobs)
    return found if len(near) == len(paths) else _with_hub(paths, found, policy)


def _with_hub(
    paths: Sequence[str | Path], near: Sequence[ValidationReport], policy: Policy | None
) -> list[ValidationReport]:
    """Put the reports on files of the Hub between the others."""
    checked = iter(near)
    reports: list[ValidationReport] = []
    for path in paths:
        reports += _validate_hub(str(path), policy) if _is_on_hub(path) else [next(checked)]
    return reports


def _is_on_hub(path: str | Path) -> bool:
    """Tell whether a word means a place on the Hub."""
    return isinstance(path, str) and is_hub(path)


def _validate_hub(address: str, policy: Policy | None) -> list[ValidationReport]:
    from ual_registry.workflows.validate_hub import validate_hub  # noqa: PLC0415  # only where the Hub is named

    return validate_hub(address, policy=policy)


def _several(address: str, reports: Sequence[ValidationReport]) -> ValidationReport:
    message = f"{address}: holds {len(reports)} AIR files, expected one"
    hint = f"name one, such as {reports[0].path}"
    problem = Problem(code="several-adapters", place="", message=message, hint=hint, branch="container")
    return ValidationReport(path=address, problems=(problem,))


def _validate_near(
    paths: Sequence[str | Path], *, headers_only: bool, policy: Policy | None, jobs: int | None
) -> list[ValidationReport]:
    jobs = min(jobs or _cores(), len(paths))
    task = functools.partial(_validate, headers_only=headers_only, policy=policy)
    if jobs < 2 or len(paths) < _MANY_FILES:
        return task(paths, threads=THREADS)
    return _in_processes(functools.partial(task, threads=1), paths, jobs)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(
    task: functools.partial[list[ValidationReport]], paths: Sequence[str | Path], jobs: int
) -> list[ValidationReport]:
    import multiprocessing  # noqa: PLC0415  # costs more than a small file
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415  # as above
    from concurrent.futures.process import BrokenProcessPool  # noqa: PLC0415  # as above

    context = multiprocessing.get_context(_start_method())
    size = max(1, min(_GROUP_FILES, len(paths) // (jobs * 8)))
    groups = [paths[start : start + size] for start in range(0, len(paths), size)]
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare_worker)
    try:
        return [report for reports in pool.map(task, groups) for report in reports]
    except BrokenProcessPool as error:
        message = "a process that checked files was ended from outside"
        raise StorageError(message, code="worker-ended", hint="run again with --jobs 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_method() -> str:
    """Choose the start that costs least: a copy of this process, where no other thread can hold a lock."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _prepare_worker() -> None:
    """End at once when interrupted, and let the collector of garbage spare what was there before."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()


def _validate(
    paths: Sequence[str | Path], *, headers_only: bool, policy: Policy | None, threads: int
) -> list[ValidationReport]:
    """Check files: the headers of a few, then their tensors.

    Tensors drive all else out of the cache of a core; what looks at headers would have to come back for every file.
    """
    reports: list[ValidationReport] = []
    waiting: list[tuple[str | Path, Inspection | StorageError]] = []
    size = 0
    for number, path in enumerate(paths, 1):
        waiting.append((path, _look(path, policy)))
        size += _header_bytes(waiting[-1][1])
        if size > _GROUP_BYTES or len(waiting) == _GROUP_FILES or number == len(paths):
            reports += [_report(*each, headers_only=headers_only, threads=threads) for each in waiting]
            waiting, size = [], 0
    return reports


def _look(path: str | Path, policy: Policy | None) -> Inspection | StorageError:
    is_far = isinstance(path, str) and is_url(path)
    try:
        return look(RemoteSource(str(path)) if is_far else FileSource(Path(path)), policy)
    except StorageError as error:
        return error


def _header_bytes(found: Inspection | StorageError) -> int:
    """Return what waits in memory; a connection shall not wait at all."""
    if isinstance(found, StorageError) or found.header is None:
        return 0
    return _GROUP_BYTES + 1 if isinstance(found.source, RemoteSource) else len(found.header.raw)


def _report(
    path: str | Path, found: Inspection | StorageError, *, headers_only: bool, threads: int
) -> ValidationReport:
    if isinstance(found, StorageError):
        return ValidationReport(path=str(path), problems=(_unreadable(path, found),))
    is_far = isinstance(found.source, RemoteSource)
    try:
        report = report_on(found, str(path), headers_only=headers_only or is_far, threads=threads)
    except StorageError as error:
        return ValidationReport(path=str(path), problems=(_unreadable(path, error),))
    is_done = report.ok or is_far
    return report if is_done else dataclasses.replace(report, problems=_hinted(Path(path), report))


def _unreadable(path: str | Path, error: StorageError) -> Problem:
    """Say of a file why it cannot be read, and of a folder what is in it."""
    if os.path.isdir(path):  # noqa: PTH112  # where it cannot be told, the error says why
        try:
            return _folder_problem(Path(path))
        except StorageError as reason:
            error = reason
    hint = _missing_hint(str(path)) if isinstance(error.__cause__, FileNotFoundError) else error.hint
    return Problem(code=error.problem_code, place="", message=error.message, hint=hint, branch="storage")


def _missing_hint(word: str) -> str:
    """Say what a word may be meant for that names no file."""
    is_file = word.endswith(".air")
    if not is_file and is_repository(word):
        return f"check the path; what is on the Hub is written hf:{word}"
    if is_file or "/" in word:
        return "check the path"
    return f"check the path; what is registered is checked by 'ual fsck', or as a file: 'ual get {word} -o FILE.air'"


def _hinted(path: Path, report: ValidationReport) -> tuple[Problem, ...]:
    """Say what a file is that is no container, where it is one of the predecessor's."""
    if report.problems[0].branch != "container" or not (hint := legacy_hint(path)):
        return report.problems
    return (dataclasses.replace(report.problems[0], hint=hint), *report.problems[1:])


def _folder_problem(folder: Path) -> Problem:
    try:
        names = {item.name for item in folder.iterdir()}
    except OSError as error:
        raise StorageError.of("read", folder, error) from error
    message, hint = f"{folder}: holds no *.air file, at any depth", "check the path"
    if CONFIG_FILE in names:
        hint = f"this is a PEFT folder: 'ual convert {folder} FILE.air --base BASE' first"
    elif MARKER_FILE in names:
        hint = f"this is an unpacked adapter: 'ual convert {folder} FILE.air' first"
    return Problem(code="folder", place="", message=message, hint=hint, branch="container")


def find_files(words: Iterable[str], *, standard_input: BinaryIO) -> list[str]:
    """Find the files that the words of a command line mean.

    A folder means the ``*.air`` files in it and below it, sorted; a pattern what it matches, sorted; ``-`` the paths
    that standard input lists, one a line, or ended by NUL. Anything else, and a folder or pattern without a file,
    means itself. What is meant twice is found once.

    Args:
        words: The words.
        standard_input: Where ``-`` reads; nothing there is taken for a pattern or an address.
    """
    found: list[str] = []
    for word in words:
        found += _listed(standard_input.read()) if word == "-" else _matching(word)
    return list(dict.fromkeys(found))


def _listed(data: bytes) -> Iterator[str]:
    for line in data.split(b"\0") if b"\0" in data else data.splitlines():
        if path := os.fsdecode(line):
            yield from _inside(f"./{path}" if _is_far(path) else path)


def _is_far(word: str) -> bool:
    return is_url(word) or is_hub(word)


def _matching(word: str) -> Iterator[str]:
    if _is_far(word):
        yield word
        return
    if not os.path.lexists(word):
        import glob  # noqa: PLC0415  # only for what is no file

        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  # keeps the path as it was typed
        yield from (path for match in matches for path in _inside(match))
        if matches:
            return
    yield from _inside(word)


def _inside(path: str) -> Iterator[str]:
    """Yield the AIR files of a folder, or the path itself."""
    files = [
        os.path.join(place, name)  # noqa: PTH118  # keeps the path as it was typed
        for place, _, names in os.walk(path)
        for name in names
        if name.endswith(".air")
    ]
    yield from sorted(files) if files else [path]
