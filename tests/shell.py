"""Lines of bash in which ``ual`` and the examples are run by this process, which has long loaded what they need.

Each gets what a process of its own would have: the folder, the environment, the words and the three streams of where
it stands in the line, so that pipes, redirections and exit codes are the shell's. A process that loads torch takes
seconds, and a page holds dozens of commands. Two such commands of one pipe run one after the other, so that the first
must not say more than a pipe holds.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ual_registry.cli.main import main

__all__ = ["run_here", "run_line"]

_ROOT = Path(__file__).resolve().parents[1]
_CALLER = Path(__file__).with_name("shell_caller.py")
_FUNCTIONS = """
ual() { "$UAL_TEST_PYTHON" -I -S "$UAL_TEST_CALLER" ual "$@"; }
python() {
    if [[ "$1 $2" == "-m examples."* ]]; then "$UAL_TEST_PYTHON" -I -S "$UAL_TEST_CALLER" "$@"
    else "$UAL_TEST_PYTHON" "$@"; fi
}
"""
_POLL_S = 0.01


def run_here(*words: object, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one command of ``ual`` in this process as in one of its own, and say what that would have said.

    Args:
        words: What stands behind ``ual``.
        folder: Where it runs.
        environment: Its variables.
    """
    given = ["ual", *map(str, words)]
    request = {"words": given, "folder": str(folder), "variables": dict(environment)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        code = _run(request, [nothing.fileno(), out.fileno(), err.fileno()])
        return subprocess.CompletedProcess(given, code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def run_line(line: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in a folder, its ``ual`` and its ``python -m examples...`` in this process.

    Args:
        line: What stands behind the prompt.
        folder: Where it runs.
        environment: Its variables.
    """
    with (
        tempfile.TemporaryDirectory() as own,
        socket.socket(socket.AF_UNIX) as listener,
        tempfile.TemporaryFile() as out,  # files, not pipes: nobody would read these while a command runs here
        tempfile.TemporaryFile() as err,
    ):
        place = f"{own}/calls"
        listener.bind(place)
        listener.listen()
        listener.settimeout(_POLL_S)
        calls = {"UAL_TEST_CALLS": place, "UAL_TEST_CALLER": str(_CALLER), "UAL_TEST_PYTHON": sys.executable}
        shell = subprocess.Popen(
            ["bash", "-c", f"{_FUNCTIONS}\n{line}"], cwd=folder, env={**environment, **calls}, stdout=out, stderr=err
        )
        while shell.poll() is None:
            with contextlib.suppress(TimeoutError):
                _answer(listener.accept()[0])
        return subprocess.CompletedProcess(line, shell.returncode, _text(out), _text(err))


def _answer(caller: socket.socket) -> None:
    """Do what a caller in the shell asks for, on its own streams, and tell it the exit code."""
    with caller:
        caller.settimeout(None)
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        with caller.makefile("rb") as text:
            request = json.load(text)
        code = 1
        try:
            code = _run(request, streams)
        finally:
            for stream in streams:
                os.close(stream)
            caller.sendall(bytes([code]))


def _run(request: dict[str, Any], streams: list[int]) -> int:
    with _standing(request), _streams(streams):
        try:
            if request["words"][0] == "ual":
                main()
            else:
                with _not_imported(request["words"][1]):
                    runpy.run_module(request["words"][1], run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


@contextlib.contextmanager
def _not_imported(name: str) -> Iterator[None]:
    """Hide a module that another test has imported: no process of its own would have it, and runpy warns of it."""
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


@contextlib.contextmanager
def _standing(request: dict[str, Any]) -> Iterator[None]:
    """Stand where the caller stands: its folder, its variables, its words."""
    folder, variables, words = Path.cwd(), dict(os.environ), sys.argv
    try:
        os.chdir(request["folder"])
        _set_variables(request["variables"])
        sys.argv = request["words"] if request["words"][0] == "ual" else request["words"][1:]
        yield
    finally:
        os.chdir(folder)
        _set_variables(variables)
        sys.argv = words


def _set_variables(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


@contextlib.contextmanager
def _streams(streams: list[int]) -> Iterator[None]:
    """Put the caller's streams in the place of ours, and show there what a process shows by itself: its warnings."""
    before = sys.stdin, sys.stdout, sys.stderr
    kept = [os.dup(number) for number in range(3)]
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # numbers, closed by the caller
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        with _warnings(sys.stderr), _log(sys.stderr):
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BrokenPipeError):  # whoever read it, such as `head`, has gone
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before
        for number, own in enumerate(kept):
            os.dup2(own, number)
            os.close(own)


@contextlib.contextmanager
def _warnings(stream: Any) -> Iterator[None]:
    """Show the warnings that a process would show."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for silent in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", silent)
        yield
    for warning in seen:
        stream.write(warnings.formatwarning(warning.message, warning.category, warning.filename, warning.lineno))


@contextlib.contextmanager
def _log(stream: io.TextIOBase) -> Iterator[None]:
    """Let libraries that log to the stream of errors, which they remember, log to this one."""
    loggers = [logging.root, *(item for item in logging.root.manager.loggerDict.values())]
    # Each once, though it may sit on two loggers: seen again, it would give our stream for the one before.
    handlers = {own for item in loggers if isinstance(item, logging.Logger) for own in item.handlers}
    before = [(own, _to(own, stream)) for own in handlers if type(own) is logging.StreamHandler]
    try:
        yield
    finally:
        for handler, old in before:
            handler.setStream(old)


def _to(handler: Any, stream: io.TextIOBase) -> Any:
    """Let a handler write to a stream; return the one before, or ours where a test has closed that since."""
    if handler.stream.closed:
        handler.stream = sys.__stderr__  # for what is closed cannot be flushed
    old = handler.stream
    handler.setStream(stream)
    return old
