"""The schema: made once, migrated only when asked, refused when it is another's."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable, SetColumnComment, sort_tables_and_constraints

from tests.unit.registry.conftest import Files
from ual_registry.air.read import read
from ual_registry.errors import RegistryUnavailableError, StorageError
from ual_registry.registry import commands
from ual_registry.registry import session as module
from ual_registry.registry.registry import Registry
from ual_registry.registry.session import SCHEMA_REVISION, Database, alembic_config
from ual_registry.registry.tables import AdapterRow, AliasRow, RevisionRow, Table
from ual_registry.resources import resource_folder


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def tables(file: Path) -> set[str]:
    with sqlite3.connect(file) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


OURS = {*Table.metadata.tables, "alembic_version"}


def migrate(database: Database, how: Callable[..., None], to: str) -> None:
    with database.engine.execution_options(ual_writes=True).begin() as connection:
        how(alembic_config(connection), to)


def test_the_schema_revision_is_the_newest_migration() -> None:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resource_folder("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_migrations_and_models_do_not_differ(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path / "r.db"))
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, Table.metadata) == []
    assert tables(tmp_path / "r.db") == OURS


def statements(sql: str) -> set[str]:
    lines = [line for line in sql.splitlines() if not line.startswith("--")]
    parts = " ".join(" ".join(lines).split()).replace("( ", "(").replace(" )", ")").split(";")
    other = ("BEGIN", "COMMIT", "INSERT INTO alembic_version", "CREATE TABLE alembic_version")
    # The order of the constraints in a table means nothing.
    ordered = (", CONSTRAINT ".join(sorted(part.strip().removesuffix(")").split(", CONSTRAINT "))) for part in parts)
    return {part for part in ordered if part and not part.startswith(other)}


def test_migrations_say_the_same_as_the_models_on_postgresql_comments_included() -> None:
    """SQLite keeps no comments and few types, so the statements for PostgreSQL are compared as text."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    config = Config()
    config.set_main_option("script_location", str(resource_folder("migrations")))
    script = ScriptDirectory.from_config(config)
    written: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            """Nothing is held back."""

    with EnvironmentContext(config, script, as_sql=True, fn=lambda rev, _: script._upgrade_revs("head", rev)) as own:
        own.configure(dialect_name="postgresql", output_buffer=Sink(), target_metadata=Table.metadata)
        with own.begin_transaction():
            own.run_migrations()

    dialect = postgresql.dialect()
    expected = []
    for table, _ in sort_tables_and_constraints(Table.metadata.tables.values()):
        if table is not None:
            expected.append(CreateTable(table))
            expected.extend(CreateIndex(index) for index in table.indexes)
            expected.extend(SetColumnComment(column) for column in table.columns)
    assert statements("".join(written)) == statements(";".join(str(d.compile(dialect=dialect)) for d in expected))


def test_every_column_and_every_table_is_explained() -> None:
    columns = [column for table in Table.metadata.tables.values() for column in table.columns]
    assert [str(column) for column in columns if not (column.comment or "").endswith(".")] == []
    assert [mapper.class_.__name__ for mapper in Table.registry.mappers if not mapper.class_.__doc__] == []


def test_a_fresh_file_is_made_ready_in_folders_that_are_made(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "r.db"
    assert Database.open(url(file)).current_revision() == SCHEMA_REVISION
    assert tables(file) == OURS


def test_an_empty_file_is_made_ready(tmp_path: Path) -> None:
    (tmp_path / "r.db").touch()
    Database.open(url(tmp_path / "r.db"))
    assert tables(tmp_path / "r.db") == OURS


def test_a_file_that_another_process_has_only_begun_is_made_ready(tmp_path: Path) -> None:
    """Setting the journal mode writes the file's first page, long before the tables are there."""
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert (tmp_path / "r.db").stat().st_size > 0
    Database.open(url(tmp_path / "r.db"))
    assert tables(tmp_path / "r.db") == OURS


def test_asking_for_the_revision_makes_no_file(tmp_path: Path) -> None:
    assert Database(url(tmp_path / "none" / "r.db")).current_revision() is None
    assert list(tmp_path.iterdir()) == []


def test_opening_a_current_database_migrates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database.open(url(tmp_path / "r.db"))
    monkeypatch.setattr(Database, "upgrade", lambda _: pytest.fail("migrated without being asked"))
    Database.open(url(tmp_path / "r.db"))


@pytest.mark.parametrize(
    ("found", "hint"),
    [("0000", "run 'ual db upgrade'"), ("0002", "upgrade ual-registry"), (None, "run 'ual db upgrade'")],
)
def test_another_schema_is_refused_with_what_to_do(tmp_path: Path, found: str | None, hint: str) -> None:
    database = Database.open(url(tmp_path / "r.db"))
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if found:
            connection.execute(text("INSERT INTO alembic_version VALUES (:found)"), {"found": found})
    with pytest.raises(RegistryUnavailableError) as caught:
        Database.open(url(tmp_path / "r.db"))
    assert caught.value.message == (
        f"registry {url(tmp_path / 'r.db')}: schema is at migration {found or 'none'}, expected {SCHEMA_REVISION}"
    )
    assert (caught.value.hint, caught.value.exit_code) == (hint, 8)


def test_a_newer_schema_is_not_upgraded(tmp_path: Path) -> None:
    database = Database.open(url(tmp_path / "r.db"))
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    with pytest.raises(RegistryUnavailableError) as caught:
        database.upgrade()
    assert caught.value.hint == "upgrade ual-registry"


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    with pytest.raises(RegistryUnavailableError, match="schema is at migration none"):
        Database.open(url(tmp_path / "r.db"))
    assert tables(tmp_path / "r.db") == {"photos"}


def test_data_survives_migrations_up_and_all_is_gone_after_down(home: Path, registry: Registry, files: Files) -> None:
    """One migration so far: up with data is a no-op, down removes every table, up makes an empty registry."""
    digest = registry.add(files.make(), name="medical", aliases=["a"]).digest
    registry.database.upgrade()
    assert registry.revisions("medical")[0].digest == digest

    migrate(registry.database, command.downgrade, "base")
    assert tables(home / "registry.db") == {"alembic_version"}
    assert registry.database.current_revision() is None

    registry.database.upgrade()
    assert tables(home / "registry.db") == OURS
    assert Registry.open().list() == ()
    assert registry.add(files.make(), name="medical").number == 1


def test_a_garbage_file_is_told_of_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(RegistryUnavailableError) as caught:
        Database.open(url(tmp_path / "r.db"))
    assert caught.value.message == f"registry {url(tmp_path / 'r.db')}: file is not a database"
    assert caught.value.hint == "is this a registry's database?"


def test_a_url_that_is_none_is_told_of() -> None:
    with pytest.raises(RegistryUnavailableError) as caught:
        Database("no url")
    assert caught.value.message == "database URL 'no url' is not well formed"
    assert caught.value.hint == "such as sqlite:////home/me/registry.db"


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        Database.open(url(tmp_path / "file" / "r.db"))
    assert caught.value.message == f"cannot write {tmp_path / 'file' / 'r.db'}: File exists"


def test_a_migration_that_does_not_end_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_TIMEOUT_S", 0.05)
    with filelock.FileLock(f"{tmp_path / 'r.db'}.lock"), pytest.raises(RegistryUnavailableError) as caught:
        Database.open(url(tmp_path / "r.db"))
    assert caught.value.message == f"registry {url(tmp_path / 'r.db')}: another process migrates it"


def test_a_database_that_another_process_locks_is_told_of(home: Path, registry: Registry, files: Files) -> None:
    path = files.make()
    registry.database.engine.dispose()
    with sqlite3.connect(home / "registry.db") as other:
        other.execute("BEGIN IMMEDIATE")
        for timeout in [0.05]:
            quick = Registry(Database(str(registry.database.url)), registry.blobs)
            quick.database.engine = create_engine(registry.database.url, connect_args={"timeout": timeout})
            module.event.listen(quick.database.engine, "connect", module._prepare_connection)
            module.event.listen(quick.database.engine, "begin", module._begin_immediate)
            with pytest.raises(RegistryUnavailableError) as caught:
                quick.add(path, name="medical")
        other.rollback()
    assert caught.value.message == f"registry {registry.database.label}: database is locked"
    assert caught.value.hint == "check that the database can be reached and written"
    assert registry.list() == ()


def test_a_writer_waits_for_the_one_before_it_and_sees_what_it_did(registry: Registry, files: Files) -> None:
    """Without taking its lock at once, the second would have read what was there before the first ended."""
    first, second = files.make(), files.make()
    with registry.blobs.stage(first) as staged, read(first) as adapter, ThreadPoolExecutor(1) as pool:
        staged.keep()
        digest = str(staged.digest)
        with registry.database.session(writes=True) as session:
            commands.add_artifact(session, adapter, digest=digest, size_bytes=staged.size_bytes)
            waiting = pool.submit(registry.add, second, name="medical")
            time.sleep(0.3)
            assert commands.add_revision(session, "medical", digest) == (1, True)
        assert waiting.result(timeout=30).number == 2
    assert [record.digest for record in registry.revisions("medical")][1] == digest


def test_readers_do_not_wait_for_a_writer(home: Path, registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="medical")
    with sqlite3.connect(home / "registry.db") as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM aliases")
        assert [record.name for record in registry.list()] == ["medical"]
        other.rollback()


def test_an_error_that_comes_from_no_driver_is_translated(registry: Registry) -> None:
    with pytest.raises(RegistryUnavailableError) as caught, registry.database.session():
        raise SQLAlchemyError("something else")
    assert caught.value.message == f"registry {registry.database.label}: something else"


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "create_engine", lambda _: None)  # no driver is needed to say a URL
    database = Database("postgresql+psycopg://me:secret@host/db")
    assert (database.label, database.sqlite_file) == ("postgresql+psycopg://me:***@host/db", None)


def test_a_database_in_memory_has_no_file_and_is_migrated_as_it_is() -> None:
    database = Database("sqlite://")
    assert database.sqlite_file is None
    assert database.is_fresh() is True
    database.upgrade()
    assert (database.is_fresh(), database.current_revision()) == (False, SCHEMA_REVISION)


def test_broken_references_are_refused_by_the_database(registry: Registry) -> None:
    with registry.database.session() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
    with (
        pytest.raises(RegistryUnavailableError, match="FOREIGN KEY constraint failed"),
        registry.database.session(writes=True) as session,
    ):
        session.add(AliasRow(adapter_id=1, name="a", revision_id=1))


def test_numbers_and_digests_are_unique_in_an_adapter(registry: Registry, files: Files) -> None:
    registry.add(files.make(), name="medical")
    with registry.database.session() as session:
        known = session.scalars(select(RevisionRow)).one()
        uniques = {
            tuple(item["column_names"]) for item in inspect(session.connection()).get_unique_constraints("revisions")
        }
    assert uniques == {("adapter_id", "number"), ("adapter_id", "digest")}
    with pytest.raises(RegistryUnavailableError) as caught, registry.database.session(writes=True) as session:
        session.add(AdapterRow(name="medical", created_at=known.created_at))
    assert isinstance(caught.value.__cause__, IntegrityError)
