"""Filled databases are kept from one run of the benchmark to the next, and every run works on a copy."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.registry_places import PLACES, Keeping, Place


@pytest.fixture
def keeping(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Keeping:
    """A folder, and for PostgreSQL a server that outlives the place."""
    if engine != "postgresql":
        return Keeping(folder=tmp_path / "kept")
    server = request.getfixturevalue("postgresql").server.render_as_string(hide_password=False)
    return Keeping(folder=tmp_path / "kept", server=server)


def asked(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run a statement in a transaction of its own and leave nobody connected."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        done = connection.execute(text(statement))
        rows = [tuple(row) for row in done] if done.returns_rows else []
    engine.dispose()
    return rows


@pytest.fixture
def name(keeping: Keeping) -> Iterator[str]:
    """A name that no other run of the tests keeps; a server that stays is left as it was."""
    chosen = f"t{uuid.uuid4().hex[:12]}"
    yield chosen
    if keeping.server is not None:
        plain = create_engine(keeping.server.replace("postgresql://", "postgresql+psycopg://"))
        with plain.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "ual_kept_{chosen}" WITH (FORCE)'))
        plain.dispose()


def test_a_run_asks_a_copy_of_what_was_kept(engine: str, keeping: Keeping, name: str) -> None:
    place: Place
    with PLACES[engine](keeping) as place:
        assert place.found(name) is None
        url = place.make(name)
        asked(url, "CREATE TABLE words (word TEXT)")
        asked(url, "INSERT INTO words VALUES ('kept')")
        place.keep(name)
        asked(url, "INSERT INTO words VALUES ('later')")
    for _ in range(2):
        with PLACES[engine](keeping) as place:
            found = place.found(name)
            assert found is not None
            assert asked(found, "SELECT word FROM words") == [("kept",)]
            asked(found, "DELETE FROM words")


def test_nothing_is_kept_where_no_folder_is_named(engine: str, keeping: Keeping, name: str) -> None:
    forgetful = Keeping(server=keeping.server)
    with PLACES[engine](forgetful) as place:
        asked(place.make(name), "CREATE TABLE words (word TEXT)")
        place.keep(name)
    with PLACES[engine](keeping) as place:
        assert place.found(name) is None
