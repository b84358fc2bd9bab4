"""Where a registry is: arguments before variables, variables before the platform's folder."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

from tests.unit.registry.conftest import Files
from ual_registry.errors import MissingExtraError, RegistryError
from ual_registry.registry.place import Place, parse_database_url, parse_store_url, place_of, registry_home
from ual_registry.registry.session import Database

SERVER = "postgresql://me@host/registry"
DATABASE_HINT = "such as sqlite:////home/me/registry.db or postgresql://me@host/registry"
STORE_HINT = "give a folder, as a path or as a file:// URL"


def embedded(folder: Path) -> Place:
    return Place(database_url=f"sqlite:///{folder}/registry.db", store=folder / "blobs")


def test_without_anything_it_is_in_the_data_folder_of_the_platform(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UAL_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert registry_home() == tmp_path / "data" / "ual-registry"
    assert place_of() == embedded(tmp_path / "data" / "ual-registry")


def test_a_folder_holds_both_halves(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place_of() == embedded(home)
    assert place_of(tmp_path / "other") == place_of(str(tmp_path / "other")) == embedded(tmp_path / "other")


def test_variables_place_each_half_elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAL_DATABASE_URL", SERVER)
    assert place_of() == Place(database_url=SERVER, store=home / "blobs")
    monkeypatch.setenv("UAL_STORE_URL", (tmp_path / "a b").as_uri())
    assert place_of() == Place(database_url=SERVER, store=tmp_path / "a b")
    monkeypatch.setenv("UAL_DATABASE_URL", "")
    monkeypatch.setenv("UAL_STORE_URL", "")
    assert place_of() == embedded(home)


def test_the_folder_of_the_user_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable that another program sets, such as a service's, was seen by no shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UAL_HOME", "~/registry")
    monkeypatch.setenv("UAL_STORE_URL", "~/store")
    monkeypatch.delenv("UAL_DATABASE_URL", raising=False)
    place = place_of()
    assert place.database_url == f"sqlite:///{tmp_path / 'registry' / 'registry.db'}"
    assert place.store == tmp_path / "store"


def test_arguments_count_more_than_variables(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAL_DATABASE_URL", SERVER)
    monkeypatch.setenv("UAL_STORE_URL", "/elsewhere")
    assert place_of(tmp_path) == embedded(tmp_path)  # a folder is a whole registry
    assert place_of(database_url="sqlite://", store_url=tmp_path) == Place(database_url="sqlite://", store=tmp_path)
    assert place_of(tmp_path, database_url=SERVER) == Place(database_url=SERVER, store=tmp_path / "blobs")


def test_a_registry_is_opened_where_the_arguments_say(database_url: str, tmp_path: Path, files: Files) -> None:
    from ual_registry.registry.registry import Registry

    found = Registry.open(database_url=database_url, store_url=(tmp_path / "store").as_uri())
    path = files.make()
    found.add(path, name="medical")
    assert found.find("medical").is_relative_to(tmp_path / "store")
    assert found.find("medical").read_bytes() == path.read_bytes()
    found.database.engine.dispose()


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("blobs", "blobs"),
        ("/srv/blobs", "/srv/blobs"),
        ("file:///srv/a%20b%25", "/srv/a b%"),
        ("file://localhost/srv/blobs", "/srv/blobs"),
        ("FILE:///srv", "/srv"),
        ("file:/srv/blobs", "/srv/blobs"),
        ("C:\\blobs", "C:\\blobs"),
        ("a:b/c", "a:b/c"),
        ("/srv/x://y", "/srv/x://y"),
    ],
)
def test_a_store_is_a_folder(text: str, folder: str) -> None:
    assert parse_store_url(text) == parse_store_url(Path(folder)) == Path(folder)


@pytest.mark.parametrize("text", ["s3://bucket/path", "https://host/path", "gs://bucket", "s3+x://bucket"])
def test_another_kind_of_store_is_refused_by_its_name(text: str) -> None:
    scheme = text.split(":", maxsplit=1)[0]
    with pytest.raises(RegistryError) as caught:
        parse_store_url(text)
    assert caught.value.message == f"a store of kind {scheme!r} is not known"
    assert (caught.value.hint, caught.value.problem_code) == (STORE_HINT, "store-url")


@pytest.mark.parametrize(
    "text", ["file://host/srv", "file://", "file://srv", "file:///srv?a=1", "file:///srv#a", "file:srv"]
)
def test_a_file_url_that_names_no_folder_here_is_refused(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_store_url(text)
    assert caught.value.message == f"store {text!r} names no folder of this machine"
    assert (caught.value.hint, caught.value.problem_code) == ("such as file:///srv/blobs", "store-url")


@pytest.mark.parametrize(
    ("given", "driver", "label"),
    [
        ("sqlite:////a/b.db", "sqlite", "sqlite:////a/b.db"),
        ("sqlite+pysqlite:///b.db", "sqlite", "sqlite:///b.db"),
        ("postgres://host/db", "postgresql+psycopg", "postgresql://host/db"),
        ("postgresql://me:secret@host:5433/db", "postgresql+psycopg", "postgresql://me:***@host:5433/db"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg", "postgresql://host/db"),
        ("postgresql://me:p%40ss%2Fword@host/db", "postgresql+psycopg", "postgresql://me:***@host/db"),
        (
            "postgresql:///db?host=/run/pg&password=secret&sslpassword=secret",
            "postgresql+psycopg",
            "postgresql:///db?host=%2Frun%2Fpg",
        ),
    ],
)
def test_a_database_is_sqlite_or_postgresql_and_passwords_are_not_shown(given: str, driver: str, label: str) -> None:
    database = Database(given)
    assert (database.url.drivername, database.label) == (driver, label)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("no url", "is not well formed"),
        ("postgresql//me:secret@host/db", "is not well formed"),
        ("postgresql://me:secret@host:port/db", "is not well formed"),
        (
            "postgresql://me:sec@ret@host/db",
            "has more than one '@'; write one that belongs to the password as %40",
        ),
        ("mysql://me:secret@host/db", "names 'mysql', and a registry is kept in sqlite or postgresql"),
        (
            "postgresql+psycopg2://me:secret@host/db",
            "names 'postgresql+psycopg2', and a registry is kept in sqlite or postgresql",
        ),
        ("sqlite+aiosqlite:///r.db", "names 'sqlite+aiosqlite', and a registry is kept in sqlite or postgresql"),
        ("/home/me/registry.db", "is not well formed"),
        ("sqlite:///r.db?sslmode=require", "has an option that SQLite does not know: 'sslmode'"),
    ],
)
def test_another_database_is_refused_and_its_password_not_repeated(given: str, problem: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse_database_url(given)
    assert caught.value.message == f"the database URL {problem}"
    assert (caught.value.hint, caught.value.problem_code) == (DATABASE_HINT, "database-url")
    assert caught.value.context == {}
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(given, "")


@pytest.mark.parametrize("query", ["port=x", "host=a&host=b&port=1&port=2&port=3"])
def test_places_of_a_server_that_make_no_sense_are_refused(query: str) -> None:
    given = f"postgresql://me:secret@/db?{query}"
    with pytest.raises(RegistryError) as caught:
        Database(given)
    assert caught.value.message == "the database URL is not well formed"
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(given, "")


def test_without_the_driver_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError) as caught:
        Database(SERVER)
    assert caught.value.message == "a registry on PostgreSQL needs the extra 'postgres', which is not installed"
    assert (caught.value.hint, caught.value.exit_code) == ("pip install 'ual-registry[postgres]'", 10)
