"""Fixtures that run a test on both engines, and the account of what could not be run.

The server is started by the first test that needs it, is shared by all processes of the run, and ends with the run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pytest

from tests.engines.databases import PostgresDatabases, SqliteFiles
from tests.engines.server import Server, ServerError, start

if TYPE_CHECKING:
    from ual_registry.registry.registry import Registry

__all__ = [
    "ENGINES",
    "Registries",
    "database_url",
    "empty_postgresql",
    "engine",
    "home",
    "own_server",
    "postgresql",
    "pytest_terminal_summary",
    "registries",
    "registry",
    "sqlite_files",
]

ENGINES = ("sqlite", "postgresql")
_SKIPPED = "no PostgreSQL here: "
_VARIABLES = ("UAL_HOME", "UAL_DATABASE_URL", "UAL_STORE_URL")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Name the engine: a test that asks for it, or for what follows from it, runs on both."""
    name: str = request.param
    return name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's folder, by ``UAL_HOME``; not made yet. Alone, it is an embedded registry."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def database_url(
    engine: str,
    home: Path,
    sqlite_files: SqliteFiles,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The URL of a fresh database at the newest migration, which ``UAL_HOME`` or ``UAL_DATABASE_URL`` name too."""
    if engine == "sqlite":
        yield sqlite_files.ready(home / "registry.db")
        return
    databases: PostgresDatabases = request.getfixturevalue("postgresql")
    with databases.ready() as url:
        monkeypatch.setenv("UAL_DATABASE_URL", url)
        yield url


@pytest.fixture
def registry(home: Path, database_url: str) -> Iterator[Registry]:
    """An empty registry on each engine; ``Registry.open()``, ``ual`` and other processes open the same one."""
    from ual_registry.registry.registry import Registry

    found = Registry.open()
    yield found
    found.database.engine.dispose()


class Registries:
    """Opens registries that live longer than one test; most tests want ``registry``.

    Args:
        sqlite_files: Makes SQLite files.
        postgresql: Gives databases of PostgreSQL, or skips.
    """

    def __init__(self, sqlite_files: SqliteFiles, postgresql: Callable[[], PostgresDatabases]) -> None:
        self._sqlite_files = sqlite_files
        self._postgresql = postgresql

    @contextlib.contextmanager
    def opened(self, engine: str, home: Path) -> Iterator[Registry]:
        """Give an empty registry on an engine, with its blobs in a folder; it is closed after the block."""
        from ual_registry.registry.registry import Registry

        with contextlib.ExitStack() as stack:
            if engine == "sqlite":
                url = self._sqlite_files.ready(home / "registry.db")
            else:
                url = stack.enter_context(self._postgresql().ready())
            found = Registry.open(home, database_url=url)
            stack.callback(found.database.engine.dispose)
            yield found


@pytest.fixture(scope="session")
def registries(sqlite_files: SqliteFiles, request: pytest.FixtureRequest) -> Registries:
    """Opens registries for a whole module, on each of ``ENGINES``."""
    return Registries(sqlite_files, lambda: request.getfixturevalue("postgresql"))


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> SqliteFiles:
    """Makes SQLite files at the newest migration."""
    return SqliteFiles(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresDatabases]:
    """Makes databases on the run's server, or on that of ``UAL_TEST_POSTGRES_URL``."""
    given = os.environ.get("UAL_TEST_POSTGRES_URL")
    databases = PostgresDatabases(given or _shared_server(_folder_of_run(tmp_path_factory)))
    yield databases
    databases.close()


@pytest.fixture
def empty_postgresql(postgresql: PostgresDatabases) -> Iterator[str]:
    """The URL of a database without tables."""
    with postgresql.empty() as url:
        yield url


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A durable server for one test, which may do to it what it likes."""
    try:
        server = start(watched=os.getpid(), is_durable=True)
    except ServerError as error:
        _give_up(str(error))
    yield server
    server.stop()


def _folder_of_run(factory: pytest.TempPathFactory) -> Path:
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _process_of_run() -> int:
    """Return the process that a run ends with: a worker's is the one that started it."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def _shared_server(folder: Path) -> str:
    """Return the URL of the run's server; whoever asks first starts it, and one failure is everybody's."""
    state = folder / "postgresql.json"
    with filelock.FileLock(folder / "postgresql.lock"):
        if not state.exists():
            state.write_text(json.dumps(_started()))
        found: dict[str, str] = json.loads(state.read_text())
    return found["url"] if "url" in found else _give_up(found["error"])


def _started() -> dict[str, str]:
    try:
        return {"url": start(watched=_process_of_run()).url}
    except ServerError as error:
        return {"error": str(error)}


def _give_up(reason: str) -> Any:
    """Skip the test on a developer's machine; fail it where everything must run (``CI=true``)."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{_SKIPPED}{reason}", pytrace=False)
    pytest.skip(f"{_SKIPPED}{reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests did not run for want of a PostgreSQL, and why."""
    reasons = [_reason(report) for report in terminalreporter.stats.get("skipped", [])]
    missed = [reason for reason in reasons if reason.startswith(_SKIPPED)]
    if missed:
        terminalreporter.section("PostgreSQL")
        terminalreporter.line(f"tests on PostgreSQL that were skipped: {len(missed)} ({missed[0]})")


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    return text.removeprefix("Skipped: ")
