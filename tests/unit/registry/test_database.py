"""Opening a database: made ready once where it is a fresh file, migrated only when asked, refused when another's."""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import psycopg
import pytest
from sqlalchemy import delete, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tests.engines.databases import parameters
from ual_registry.errors import RegistryUnavailableError, StorageError
from ual_registry.registry import schema
from ual_registry.registry import session as module
from ual_registry.registry.schema import SCHEMA_REVISION
from ual_registry.registry.session import Database
from ual_registry.registry.tables import AdapterRow, AliasRow, AuditRow, Table

pytestmark = pytest.mark.usefixtures("real_migrations")

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
ROOT = Path(__file__).parents[3]
WORD_INDEX = {"revision_texts_fts", *(f"revision_texts_fts_{part}" for part in ("config", "data", "docsize", "idx"))}
WORD_INDEX |= {"revision_words"}
OURS = {*Table.metadata.tables, "alembic_version"}


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def tables(database_url: str) -> set[str]:
    """Return the names of a database's tables, but for those of the full-text index."""
    database = Database(database_url)
    found = set(inspect(database.engine).get_table_names()) - WORD_INDEX
    database.engine.dispose()
    return found


def set_revision(database_url: str, found: str | None) -> None:
    database = Database(database_url)
    with database.session(writes=True) as session:
        session.execute(text("DELETE FROM alembic_version"))
        if found:
            session.execute(text("INSERT INTO alembic_version VALUES (:found)"), {"found": found})
    database.engine.dispose()


@pytest.fixture
def empty_url(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, on each engine; a file is not made yet."""
    if engine == "sqlite":
        return url(tmp_path / "empty.db")
    found: str = request.getfixturevalue("empty_postgresql")
    return found


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database at the newest migration, on each engine."""
    found = Database.open(database_url)
    yield found
    found.engine.dispose()


def adapter(name: str, newest: int = 0) -> AdapterRow:
    return AdapterRow(name=name, newest=newest, created_at=NOW)


# A fresh file


def test_a_fresh_file_is_made_ready_in_folders_that_are_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "r.db"
    assert Database.open(url(file)).current_revision() == SCHEMA_REVISION
    assert tables(url(file)) == OURS


def test_an_empty_file_is_made_ready(tmp_path: Path) -> None:
    (tmp_path / "r.db").touch()
    Database.open(url(tmp_path / "r.db"))
    assert tables(url(tmp_path / "r.db")) == OURS


def test_a_file_that_another_process_has_only_begun_is_made_ready(tmp_path: Path) -> None:
    """Setting the journal mode writes the file's first page, long before the tables are there."""
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert (tmp_path / "r.db").stat().st_size > 0
    Database.open(url(tmp_path / "r.db"))
    assert tables(url(tmp_path / "r.db")) == OURS


def test_asking_makes_no_file(tmp_path: Path) -> None:
    database = Database(url(tmp_path / "none" / "r.db"))
    assert (database.current_revision(), database.differences()) == (None, ("there is no database yet",))
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_memory_has_no_file_and_is_migrated_as_it_is() -> None:
    database = Database("sqlite://")
    assert database.sqlite_file is None
    assert database.is_fresh() is True
    database.upgrade()
    assert (database.is_fresh(), database.current_revision()) == (False, SCHEMA_REVISION)


# A database that is there already


def test_opening_a_current_database_migrates_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "upgrade", lambda _: pytest.fail("migrated without being asked"))
    Database.open(database_url)


def test_an_empty_database_on_a_server_is_not_migrated_without_being_asked(empty_postgresql: str) -> None:
    with pytest.raises(RegistryUnavailableError) as caught:
        Database.open(empty_postgresql)
    label = Database(empty_postgresql).label
    assert caught.value.message == f"registry {label}: schema is at migration none, expected {SCHEMA_REVISION}"
    assert (caught.value.hint, caught.value.exit_code) == ("run 'ual db upgrade'", 8)
    assert tables(empty_postgresql) == set()
    Database(empty_postgresql).upgrade()
    assert tables(empty_postgresql) == OURS


@pytest.mark.parametrize(
    ("found", "hint"),
    [("0007", "run 'ual db upgrade'"), ("9999", "upgrade ual-registry")],
)
def test_another_schema_is_refused_with_what_to_do(database_url: str, found: str, hint: str) -> None:
    set_revision(database_url, found)
    with pytest.raises(RegistryUnavailableError) as caught:
        Database.open(database_url)
    assert caught.value.message == (
        f"registry {Database(database_url).label}: schema is at migration {found}, expected {SCHEMA_REVISION}"
    )
    assert (caught.value.hint, caught.value.exit_code) == (hint, 8)


def test_a_newer_schema_is_not_upgraded(database_url: str) -> None:
    set_revision(database_url, "9999")
    with pytest.raises(RegistryUnavailableError) as caught:
        Database(database_url).upgrade()
    assert caught.value.hint == "upgrade ual-registry"
    assert Database(database_url).current_revision() == "9999"


FOREIGN = {
    "CREATE TABLE photos (id INTEGER)": "holds tables and no migration of a registry: photos",
    "CREATE TABLE artifacts (id INTEGER)": "holds tables and no migration of a registry: artifacts",
    "INSERT INTO alembic_version VALUES ('ae1027a6acf')": "is at migration 'ae1027a6acf', which is none of a registry",
    "INSERT INTO alembic_version VALUES ('0000')": "is at migration '0000', which is none of a registry",
    "INSERT INTO alembic_version VALUES ('')": "is at migration '', which is none of a registry",
    "INSERT INTO alembic_version VALUES ('0003')": "is at migration '0003', and has no table artifacts",
    "INSERT INTO alembic_version VALUES ('0003'), ('0002')": "is at 2 migrations at once: '0002', '0003'",
}


@pytest.mark.parametrize("made", FOREIGN)
def test_a_database_of_somebody_else_is_left_alone(empty_url: str, made: str) -> None:
    other = Database(empty_url)
    with other.engine.begin() as connection:
        if made.startswith("INSERT"):
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text(made))
    before = tables(empty_url)
    expected = f"registry {other.label}: {FOREIGN[made]}"
    hint = "give the registry a database of its own, by UAL_HOME or UAL_DATABASE_URL"
    if is_shared := not other.is_sqlite and "photos" in made:  # a server's database may hold tables of others
        expected = f"registry {other.label}: schema is at migration none, expected {SCHEMA_REVISION}"
        hint = "run 'ual db upgrade'"
    for action in (Database.open, lambda url: Database(url).upgrade())[: 1 if is_shared else 2]:
        with pytest.raises(RegistryUnavailableError) as caught:
            action(empty_url)
        assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (expected, hint, 8)
        assert tables(empty_url) == before


# Upgrading


def test_upgraders_in_four_processes_wait_for_one_another(empty_url: str, home: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "ual_registry", "db", "upgrade"],
            cwd=ROOT,
            env={**kept, "UAL_DATABASE_URL": empty_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    label = Database(empty_url).label
    assert said == [(f"{label}: migration {SCHEMA_REVISION} (current)\n", "")] * 4
    assert [process.returncode for process in processes] == [0] * 4
    assert Database(empty_url).differences() == ()


PAUSES_S = [0.0, 0.05, 0.1, 0.2, 0.4] if "UAL_FAULTS_KILLS" in os.environ else [0.0, 0.1, 0.4]
"""How long after its beginning an upgrader is killed; ``make faults`` tries more."""

UPGRADE = """
import sys
import time
from ual_registry.registry import schema
from ual_registry.registry.session import Database
migrate = schema.migrate
schema.migrate = lambda connection: (print("begun", flush=True), migrate(connection), print("made", flush=True))
Database(sys.argv[1]).upgrade()
print("done", flush=True)
"""


@pytest.mark.parametrize("pause_s", PAUSES_S)
def test_an_upgrader_that_is_killed_leaves_everything_or_nothing(empty_url: str, pause_s: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", UPGRADE, empty_url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(pause_s)
    process.kill()
    said = process.communicate()[0].split()
    found = Database(empty_url).current_revision()
    assert (found, tables(empty_url)) in [(None, set()), (SCHEMA_REVISION, OURS)]
    assert found == SCHEMA_REVISION or "done" not in said
    Database(empty_url).upgrade()
    assert Database(empty_url).differences() == ()


@contextlib.contextmanager
def another_upgrader(database_url: str) -> Iterator[None]:
    """Hold the lock that an upgrader holds."""
    database = Database(database_url)
    if database.sqlite_file is not None:
        with filelock.FileLock(f"{database.sqlite_file}.lock"):
            yield
        return
    with psycopg.connect(**parameters(database_url)) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [schema._UPGRADE_LOCK])
        yield


def test_an_upgrade_that_does_not_end_is_not_waited_for_forever(
    empty_url: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UPGRADE_TIMEOUT_S", 0.05)
    database = Database(empty_url)
    with another_upgrader(empty_url), pytest.raises(RegistryUnavailableError) as caught:
        database.upgrade()
    said = {
        "sqlite": ("another process migrates it", "try again when it has ended"),
        "postgresql": (
            "canceling statement due to lock timeout",
            "another process holds what is needed for long; try again when it has ended",
        ),
    }
    assert (caught.value.message, caught.value.hint) == (
        f"registry {database.label}: {said[engine][0]}",
        said[engine][1],
    )
    database.upgrade()
    assert database.current_revision() == SCHEMA_REVISION


def test_a_failed_migration_leaves_the_database_as_it_was(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate = schema.migrate

    def fail_late(connection: Any) -> None:
        migrate(connection)
        connection.execute(text("SELECT * FROM nowhere"))

    monkeypatch.setattr(schema, "migrate", fail_late)
    with pytest.raises(RegistryUnavailableError, match="nowhere"):
        Database(empty_url).upgrade()
    assert tables(empty_url) == set()


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        Database.open(url(tmp_path / "file" / "r.db"))
    assert caught.value.message == f"cannot write {tmp_path / 'file' / 'r.db'}: File exists"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_that_takes_no_file_is_told_of_at_once() -> None:
    with pytest.raises(StorageError) as caught:
        Database.open("sqlite:////proc/r.db")
    assert caught.value.message.startswith("cannot write /proc/r.db: ")


def test_a_closed_database_has_no_connection_left_and_opens_another_when_asked(database: Database) -> None:
    assert database.current_revision() == SCHEMA_REVISION
    pool = database.engine.pool
    database.close()
    assert "Connections in pool: 0" in pool.status()
    assert database.current_revision() == SCHEMA_REVISION


# Sessions


def test_what_a_session_wrote_is_kept_when_its_block_ends_well_and_only_then(database: Database) -> None:
    with database.session(writes=True) as session:
        session.add(adapter("kept"))
    undo = database.session(writes=True)
    undo.__enter__().execute(insert(AdapterRow).values(name="lost", newest=0, created_at=NOW))
    assert undo.__exit__(KeyError, KeyError(), None) is False
    with database.session() as session:
        assert session.scalars(select(AdapterRow.name)).all() == ["kept"]


def test_writers_in_many_threads_lose_nothing(database: Database) -> None:
    """More threads than connections: each waits for its turn and reads what the one before it wrote."""
    with database.session(writes=True) as session:
        session.add(adapter("shared"))

    def count(_: int) -> list[int]:
        found = []
        for _ in range(5):
            with database.session(writes=True) as session:
                step = update(AdapterRow).values(newest=AdapterRow.newest + 1).returning(AdapterRow.newest)
                found.append(session.scalars(step).one())
        return found

    with ThreadPoolExecutor(20) as pool:
        numbers = [number for own in pool.map(count, range(20)) for number in own]
    assert sorted(numbers) == list(range(1, 101))


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.session(writes=True) as session:
        session.add(adapter("medical"))
    with database.session(writes=True) as writer:
        writer.execute(delete(AdapterRow))
        with database.session() as reader:
            assert reader.scalars(select(AdapterRow.name)).all() == ["medical"]
    with database.session() as reader:
        assert reader.scalars(select(AdapterRow.name)).all() == []


def test_broken_references_are_refused(database: Database) -> None:
    with (
        pytest.raises(RegistryUnavailableError, match=r"(?i)foreign key constraint") as caught,
        database.session(writes=True) as session,
    ):
        session.add(AliasRow(adapter_id=1, name="a", revision_id=1, is_protected=False, moved_at=NOW))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_names_are_unique(database: Database) -> None:
    with database.session(writes=True) as session:
        session.add(adapter("medical"))
    with pytest.raises(RegistryUnavailableError) as caught, database.session(writes=True) as session:
        session.add(adapter("medical"))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_an_error_that_comes_from_no_driver_is_translated(database: Database) -> None:
    with pytest.raises(RegistryUnavailableError) as caught, database.session():
        raise SQLAlchemyError("something else")
    assert caught.value.message == f"registry {database.label}: something else"


def test_text_in_every_script_comes_back(database: Database) -> None:
    said = {"text": "Ünïcode 漢字 עברית 😀 a\u0301", "list": [1, 2.5, None, True]}
    with database.session(writes=True) as session:
        session.add(AuditRow(at=NOW, actor=said["text"], action="add", adapter_name="", digest=None, detail=said))
    with database.session() as session:
        row = session.scalars(select(AuditRow)).one()
    assert (row.actor, row.detail) == (said["text"], said)


def test_sqlite_keeps_what_was_committed_and_lets_readers_in(tmp_path: Path) -> None:
    with Database.open(url(tmp_path / "r.db")).session() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ("ual", "30s", "UTC")),
        ({"application_name": "mine", "options": "-c timezone=CET"}, ("mine", "0", "CET")),
    ],
)
def test_what_a_url_says_of_its_connections_counts(
    empty_postgresql: str, query: dict[str, str], expected: tuple[str, ...]
) -> None:
    given = Database(empty_postgresql).url.update_query_dict(query)
    database = Database(given.render_as_string(hide_password=False))
    with database.session() as session:
        names = ("application_name", "lock_timeout", "timezone")
        assert tuple(session.scalar(text(f"SHOW {name}")) for name in names) == expected
    database.engine.dispose()
