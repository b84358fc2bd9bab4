"""What a database refuses is told in one line with what to do, without a password; the causes here are real ones."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from benchmarks.registry_data import fill
from tests.engines.databases import parameters
from tests.engines.server import Server
from tests.mounts import mounted
from ual_registry.errors import RegistryNotFoundError, RegistryUnavailableError
from ual_registry.registry import session as module
from ual_registry.registry.blobs import BlobStore
from ual_registry.registry.faults import translate
from ual_registry.registry.queries import find_digest
from ual_registry.registry.reference import Reference
from ual_registry.registry.registry import Registry
from ual_registry.registry.session import Database
from ual_registry.registry.tables import AdapterRow

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
BUSY = "another process writes for long; try again when it has ended"
PERMISSIONS = "check the permissions of the file and of its folder, which SQLite writes too"
DISK = "check the disk: it may be full, damaged or gone"
DAMAGED = "the file is damaged: put a backup in its place, or save what 'sqlite3 FILE .recover' can read"
FOREIGN = "is this a registry's database?"
REACH = "check that the database can be reached and written"
SLOTS = "wait until others have ended, or raise the server's max_connections"
POOL = ("every connection of this process is in use", "use fewer threads at once")
LOST = "the connection was lost; run the same again: what is there already is not added twice"


def names(database: Database) -> list[str]:
    with database.session() as session:
        return list(session.scalars(select(AdapterRow.name).order_by(AdapterRow.id)))


def write(database: Database, name: str, size: int = 1) -> None:
    with database.session(writes=True) as session:
        session.add(AdapterRow(name=name, newest=0, created_at=NOW, description="x" * size))


def refusal(database: Database, action: Callable[[], object]) -> tuple[str, str | None]:
    """Return message and hint of what an action raises, the registry's name left out."""
    with pytest.raises(RegistryUnavailableError) as caught:
        action()
    start = f"registry {database.label}: "
    assert caught.value.message.startswith(start)
    assert (caught.value.problem_code, caught.value.exit_code) == ("unavailable", 8)
    return caught.value.message.removeprefix(start), caught.value.hint


def registry_of(database: Database) -> Registry:
    """A registry on a database, without a place for bytes that matters."""
    return Registry(database, BlobStore(Path("nowhere")))


@pytest.fixture
def file(home: Path) -> Path:
    """The file of an embedded registry."""
    Database.open(f"sqlite:///{home}/registry.db").engine.dispose()
    return home / "registry.db"


@pytest.fixture
def server_url(postgresql: object) -> Iterator[str]:
    """A database of PostgreSQL at the newest migration."""
    with postgresql.ready() as url:  # type: ignore[attr-defined]
        yield url


def setting(url: str, statement: str) -> None:
    """Change something behind the registry's back."""
    with psycopg.connect(**parameters(url), autocommit=True) as connection:
        connection.execute(statement.replace("DATABASE it", f'DATABASE "{parameters(url)["dbname"]}"'))


# SQLite


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"this is no database" * 100)
    database = Database(f"sqlite:///{tmp_path}/r.db")
    assert refusal(database, database.check_schema) == ("file is not a database", FOREIGN)


def test_a_damaged_file(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    for index in range(200):
        write(database, f"a{index}", size=2000)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    database.engine.dispose()
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = b"\xa5" * (len(content) - len(content) // 2)
    file.write_bytes(content)
    assert refusal(database, lambda: names(database)) == ("database disk image is malformed", DAMAGED)


@pytest.mark.parametrize(
    "ask",
    [lambda registry: registry.search("", limit=10_000), lambda registry: registry.list(limit=10_000)],
    ids=["search", "list"],
)
def test_a_file_that_is_damaged_behind_the_first_rows_of_a_page(file: Path, ask: Callable[[Registry], object]) -> None:
    """The statement begins well; what is wrong is met while its rows are fetched."""
    database = Database(f"sqlite:///{file}")
    fill(database, 1500, with_entries=False)
    last = registry_of(database).search("order:-name", limit=1)[0].name
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
    connection.close()
    database.engine.dispose()
    content = file.read_bytes()
    pages = [content[at : at + page_bytes] for at in range(0, len(content), page_bytes)]
    file.write_bytes(b"".join(b"\xa5" * page_bytes if last.encode() in page else page for page in pages))
    assert refusal(database, lambda: ask(registry_of(database))) == ("database disk image is malformed", DAMAGED)


def test_a_file_cut_short(file: Path) -> None:
    os.truncate(file, 5000)
    database = Database(f"sqlite:///{file}")
    assert refusal(database, database.check_schema) == ("database disk image is malformed", DAMAGED)


def test_a_file_that_another_process_writes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_S", 0.05)
    database = Database(f"sqlite:///{file}")
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert refusal(database, lambda: write(database, "medical")) == ("database is locked", BUSY)
        other.rollback()
    assert names(database) == []
    write(database, "medical")
    assert names(database) == ["medical"]


def test_a_file_opened_for_reading_alone(file: Path) -> None:
    database = Database(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert refusal(database, lambda: write(database, "medical")) == (
        "attempt to write a readonly database",
        PERMISSIONS,
    )


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.db").mkdir()
    database = Database(f"sqlite:///{tmp_path}/r.db")
    assert refusal(database, database.check_schema) == ("unable to open database file", PERMISSIONS)


def test_a_read_only_file_system(file: Path) -> None:
    database = Database(f"sqlite:///{file}")
    with mounted("--bind", "-o", "ro", file.parent, file.parent):
        said, hint = refusal(database, lambda: write(database, "medical"))
        database.engine.dispose()
    # Which of its files SQLite cannot make depends on what the process before it left.
    assert said in {"attempt to write a readonly database", "unable to open database file"}
    assert hint == PERMISSIONS


def test_a_full_disk_loses_nothing_that_was_said_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=1500k", "tmpfs", tmp_path / "disk"):
        database = Database.open(f"sqlite:///{tmp_path}/disk/registry.db")
        kept: list[str] = []

        def fill() -> None:
            for index in range(1000):
                write(database, f"a{index}", size=20_000)
                kept.append(f"a{index}")

        assert refusal(database, fill) == ("database or disk is full", "free some space on the disk")
        assert len(kept) > 5
        assert names(database) == kept
        with contextlib.closing(sqlite3.connect(tmp_path / "disk" / "registry.db")) as other:
            assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.engine.dispose()


def test_a_disk_too_full_for_a_fresh_registry(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path / "disk"):
        database = Database(f"sqlite:///{tmp_path}/disk/registry.db")
        said, hint = refusal(database, database.upgrade)
        database.engine.dispose()
    assert (said, hint) in {("database or disk is full", "free some space on the disk"), ("disk I/O error", DISK)}


# A server


@pytest.mark.parametrize(
    ("address", "said", "hint"),
    [
        (
            "postgresql://me:secret@127.0.0.1:1/db",
            'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused',
            "check that the server runs, and that it can be reached from here",
        ),
        (
            "postgresql://me:secret@host.invalid/db",
            "failed to resolve host 'host.invalid': ",
            "check that the server runs, and that it can be reached from here",
        ),
        (
            "postgresql://me:secret@127.0.0.1:1/db?colour=red",
            'invalid connection option "colour"',
            "check what stands behind the '?' of the URL",
        ),
    ],
)
def test_a_server_that_cannot_be_reached(address: str, said: str, hint: str) -> None:
    database = Database(address)
    found = refusal(database, database.check_schema)
    assert (found[0].startswith(said), found[1]) == (True, hint), found
    assert "secret" not in database.label + found[0]


def test_no_command_shows_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    from ual_registry.cli.main import run

    monkeypatch.setenv("UAL_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/db")
    for words in (["list"], ["list", "--json"], ["db", "upgrade"], ["db", "check", "--json"], ["db", "current"]):
        assert run(words) == 8
        shown = "".join(capsys.readouterr())
        assert "postgresql://me:***@127.0.0.1:1/db" in shown
        assert "secret" not in shown


def test_a_database_or_a_user_that_the_server_does_not_know(server_url: str) -> None:
    known = Database(server_url).url
    nowhere = Database(known.set(database="nowhere").render_as_string(hide_password=False))
    said, hint = refusal(nowhere, nowhere.check_schema)
    assert said.endswith('FATAL:  database "nowhere" does not exist')
    assert hint == "check the database's name; who runs the server makes it with CREATE DATABASE"
    nobody = Database(known.set(username="ual_nobody").render_as_string(hide_password=False))
    said, hint = refusal(nobody, nobody.check_schema)
    assert said.endswith('FATAL:  role "ual_nobody" does not exist')
    assert hint == "check the user"


@pytest.fixture
def guest(server_url: str) -> Iterator[Database]:
    """A database, for a user with no rights in it and one connection at most."""
    name = f"ual_guest_{uuid.uuid4().hex[:8]}"
    setting(server_url, f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 1")
    database = Database(Database(server_url).url.set(username=name).render_as_string(hide_password=False))
    yield database
    database.engine.dispose()
    setting(server_url, f"DROP ROLE {name}")


def test_a_user_without_rights(guest: Database) -> None:
    assert refusal(guest, lambda: names(guest)) == (
        "permission denied for table adapters",
        "ask the owner of the database for the right to do so",
    )


def test_a_user_with_too_many_connections(guest: Database) -> None:
    with guest.session() as session:
        session.scalar(text("SELECT 1"))
        said, hint = refusal(guest, lambda: names(guest))
    assert said.endswith(f'FATAL:  too many connections for role "{guest.url.username}"')
    assert hint == "wait until others have ended, or raise the server's limit"


def test_more_threads_than_connections_of_one_process(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_S", 0.05)
    database = Database(server_url)
    with contextlib.ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(database.session()).scalar(text("SELECT 1"))
        found = refusal(database, lambda: names(database))
    assert found == ("every connection of this process is in use", "use fewer threads at once")
    database.engine.dispose()


def test_a_server_that_takes_no_writes(server_url: str) -> None:
    setting(server_url, "ALTER DATABASE it SET default_transaction_read_only = on")
    database = Database(server_url)
    assert refusal(database, lambda: write(database, "medical")) == (
        "cannot execute INSERT in a read-only transaction",
        "this server takes no writes; give the address of the one that does",
    )
    assert names(database) == []


def test_a_server_that_cuts_long_statements_short(server_url: str) -> None:
    setting(server_url, "ALTER DATABASE it SET statement_timeout = '50ms'")
    database = Database(server_url)

    def wait() -> None:
        with database.session() as session:
            session.execute(text("SELECT pg_sleep(60)"))

    assert refusal(database, wait) == (
        "canceling statement due to statement timeout",
        "the server allows statements less time than this one took; raise its statement_timeout",
    )


def test_a_row_that_another_process_holds(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_S", 0.05)
    database = Database(server_url)
    write(database, "medical")

    def count() -> None:
        with database.session(writes=True) as session:
            session.execute(update(AdapterRow).values(newest=1))

    with psycopg.connect(**parameters(server_url)) as other:
        other.execute("UPDATE adapters SET newest = 2")
        assert refusal(database, count) == (
            "canceling statement due to lock timeout",
            "another process holds what is needed for long; try again when it has ended",
        )


def test_two_transactions_that_wait_for_each_other(server_url: str) -> None:
    """The server ends one of them, which may be done again."""
    database = Database(server_url)
    write(database, "a")
    write(database, "b")
    step = update(AdapterRow).values(newest=AdapterRow.newest + 1)

    def count(first: str, second: str) -> None:
        with database.session(writes=True) as session:
            session.execute(step.where(AdapterRow.name == first))
            both.wait(timeout=30)
            session.execute(step.where(AdapterRow.name == second))

    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(count, *order) for order in ("ab", "ba")]
        (failed,) = [outcome.exception() for outcome in outcomes if outcome.exception() is not None]
    assert isinstance(failed, RegistryUnavailableError)
    assert failed.message == f"registry {database.label}: deadlock detected"
    assert failed.hint == "run the same again: what is there already is not added twice"


def test_a_connection_that_is_ended_in_the_middle_of_a_transaction(server_url: str) -> None:
    database = Database(server_url)

    def write_and_lose() -> None:
        with database.session(writes=True) as session:
            session.add(AdapterRow(name="lost", newest=0, created_at=NOW))
            session.flush()
            own = session.scalar(text("SELECT pg_backend_pid()"))
            setting(server_url, f"SELECT pg_terminate_backend({own})")
            session.add(AdapterRow(name="lost too", newest=0, created_at=NOW))

    assert refusal(database, write_and_lose) == ("terminating connection due to administrator command", LOST)
    assert names(database) == []
    write(database, "kept")
    assert names(database) == ["kept"]


def test_connections_that_died_while_nobody_used_them_are_replaced(server_url: str) -> None:
    database = Database(server_url)
    write(database, "before")
    setting(
        server_url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "  # which waits until they have ended
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    write(database, "after")
    assert names(database) == ["before", "after"]


def test_a_connection_that_is_ended_between_two_questions(server_url: str) -> None:
    database, reference = Database(server_url), Reference.parse("sha256:" + "0" * 64)

    def ask_and_lose() -> None:
        with database.reading() as connection:
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            setting(server_url, f"SELECT pg_terminate_backend({own}, 5000)")
            find_digest(connection, reference)

    assert refusal(database, ask_and_lose) == ("terminating connection due to administrator command", LOST)
    with database.reading() as connection, pytest.raises(RegistryNotFoundError):
        find_digest(connection, reference)


def test_a_question_that_is_broken_off_leaves_no_connection_behind(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt key while a server answers: what it still says must not be the answer to the next question."""
    database, reference = Database(server_url), Reference.parse("sha256:" + "0" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "fetchall", interrupt)
        with pytest.raises(KeyboardInterrupt), database.reading() as connection:
            find_digest(connection, reference)
    with database.reading() as connection, pytest.raises(RegistryNotFoundError):
        find_digest(connection, reference)


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_a_server_killed_in_the_middle_of_a_transaction(own_server: Server) -> None:
    database = Database(own_server.url)
    database.upgrade()

    def write_and_lose() -> None:
        with database.session(writes=True) as session:
            session.add(AdapterRow(name="lost", newest=0, created_at=NOW))
            session.flush()
            os.kill(own_server.process, signal.SIGQUIT)
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(own_server.process).wait(timeout=60)
            session.add(AdapterRow(name="lost too", newest=0, created_at=NOW))

    assert refusal(database, write_and_lose)[1] == LOST
    said, hint = refusal(database, lambda: names(database))
    assert f'connection to server on socket "{own_server.folder}/.s.PGSQL.5432" failed: ' in said
    assert hint == "check that the server runs, and that it can be reached from here"


def test_a_server_without_a_free_connection_and_one_that_asks_for_a_password(own_server: Server) -> None:
    setting(own_server.url, "CREATE ROLE me LOGIN PASSWORD 'right'")
    rules = own_server.folder / "data" / "pg_hba.conf"
    rules.write_text("local all me scram-sha-256\nlocal all all trust\n")
    setting(own_server.url, "SELECT pg_reload_conf()")
    address = Database(own_server.url).url.set(username="me")
    wrong = Database(address.set(password="wrong-one").render_as_string(hide_password=False))
    said, hint = refusal(wrong, wrong.check_schema)
    assert said.endswith('FATAL:  password authentication failed for user "me"')
    assert ("wrong-one" in said + wrong.label, hint) == (False, "check the user and the password")
    none = Database(address.render_as_string())
    said, hint = refusal(none, none.check_schema)
    assert said.endswith("fe_sendauth: no password supplied")
    assert hint == "check the user and the password"
    right = Database(address.set(password="right").render_as_string(hide_password=False))
    assert right.current_revision() is None
    right.engine.dispose()

    database = Database(own_server.url)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(**parameters(own_server.url)))
        said, hint = refusal(database, database.check_schema)
    assert said.endswith("FATAL:  sorry, too many clients already")
    assert hint == "wait until others have ended, or raise the server's max_connections"


# What cannot be made to happen here


class RefusalError(Exception):
    """An error with a state, as a driver raises it."""

    def __init__(self, said: str, state: str | None) -> None:
        super().__init__(said)
        self.sqlstate = state


@pytest.mark.parametrize(
    ("said", "state", "hint"),
    [
        ("could not extend file", "53100", "free some space on the server's disk"),
        ("out of memory", "53200", "the server is short of memory; try again later"),
        ("could not serialize access", "40001", "run the same again: what is there already is not added twice"),
        ("relation does not exist", "42P01", FOREIGN),
        ("server closed the connection unexpectedly", "08006", LOST),
        ("terminating connection due to idle-in-transaction timeout", "25P03", LOST),
        ("something", "XX000", "check that the database can be reached and written"),
        ("FATAL:  the database system is starting up", None, "try again in a moment"),
        ("FATAL:  the database system is shutting down", None, "try again when the server is back"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
            None,
            "the server does not let this user in from here; ask who runs it",
        ),
        ("FATAL:  remaining connection slots are reserved", None, SLOTS),
    ],
)
def test_every_state_of_a_server_has_its_hint(said: str, state: str | None, hint: str) -> None:
    error = translate(OperationalError("SELECT 1", {}, RefusalError(f"{said}\nmore", state)), "here")
    assert (error.message, error.hint) == (f"registry here: {said}", hint)


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (DBAPIError("", {}, RefusalError("gone", None), connection_invalidated=True), "gone", LOST),
        (DBAPIError("", {}, RefusalError("", "08006")), "RefusalError", LOST),
        (PoolTimeoutError("QueuePool limit"), *POOL),
        (OperationalError("", {}, sqlite3.OperationalError("odd")), "odd", REACH),
        (OperationalError("", {}, sqlite3.DatabaseError("odd")), "odd", FOREIGN),
    ],
)
def test_what_has_no_state_has_its_hint_too(error: DBAPIError, said: str, hint: str) -> None:
    found = translate(error, "here")
    assert (found.message, found.hint) == (f"registry here: {said}", hint)
