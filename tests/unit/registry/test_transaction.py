"""A transaction is done again where another one was in its way, and only there."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from tests.unit.registry.conftest import Files
from ual_registry.errors import RegistryConflictError, RegistryUnavailableError, UALError
from ual_registry.registry import transaction
from ual_registry.registry.audit import write_log
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AuditRow
from ual_registry.registry.transaction import transact


class ServerError(Exception):
    """What a driver raises, with the state of SQL."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def failing(times: int, error: Exception) -> Callable[[Session], str]:
    """Return work that writes, and then fails as often as told."""
    left = [times]

    def work(session: Session) -> str:
        write_log(session, "try", "", left=left[0])
        session.flush()
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return work


def tries(registry: Registry) -> list[Any]:
    with registry.database.session() as session:
        return [row.detail["left"] for row in session.scalars(select(AuditRow))]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction.time, "sleep", lambda _: None)


IN_THE_WAY = {
    "deadlock": OperationalError("x", {}, ServerError("40P01")),
    "serialization": OperationalError("x", {}, ServerError("40001")),
    "a row that came in between": IntegrityError("x", {}, sqlite3.IntegrityError("UNIQUE constraint failed")),
}


@pytest.mark.parametrize("error", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_another_process_was_in_the_way_of_is_undone_and_done_again(registry: Registry, error: Exception) -> None:
    assert transact(registry.database, failing(7, error)) == "done"
    assert tries(registry) == [0]


@pytest.mark.parametrize("error", IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_it_is_not_done_for_ever(registry: Registry, error: Exception) -> None:
    with pytest.raises(RegistryConflictError) as caught:
        transact(registry.database, failing(100, error))
    assert caught.value.message == (
        f"registry {registry.database.label}: other processes changed the same rows 8 times in a row"
    )
    assert caught.value.hint == "run the command again"
    assert tries(registry) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("x", {}, ServerError("53100")), RegistryUnavailableError),
        (OperationalError("x", {}, sqlite3.OperationalError("disk I/O error")), RegistryUnavailableError),
        (UALError("stop"), UALError),
    ],
)
def test_any_other_error_ends_it_at_once(registry: Registry, error: Exception, kind: type[Exception]) -> None:
    work = failing(1, error)
    with pytest.raises(kind):
        transact(registry.database, work)
    assert tries(registry) == []
    assert transact(registry.database, work) == "done"  # it had been run once


def test_two_that_wait_for_one_another_are_both_done_in_the_end(registry: Registry, files: Files) -> None:
    """On PostgreSQL this is a deadlock, of which one is ended and done again; SQLite lets one write at a time.

    The one that is done again may be back before the other one wakes, and then they meet a second time.
    """
    registry.add(files.make(), name="one")
    registry.add(files.make(), name="two")
    meet = threading.Barrier(2, timeout=2)
    runs: list[str] = []

    def work(first: str, second: str) -> Callable[[Session], None]:
        def lock(session: Session) -> None:
            runs.append(first)
            statement = text("UPDATE adapters SET owner = :owner WHERE name = :name")
            session.execute(statement, {"owner": first, "name": first})
            with contextlib.suppress(threading.BrokenBarrierError):  # the other one cannot come, or was here before
                meet.wait(0.5)
            session.execute(statement, {"owner": first, "name": second})

        return lock

    threads = [
        threading.Thread(target=transact, args=(registry.database, work(*names)))
        for names in (("one", "two"), ("two", "one"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if registry.database.engine.dialect.name == "postgresql":
        assert len(runs) > 2
    else:
        assert len(runs) == 2
    owners = {registry.describe(name).owner for name in ("one", "two")}
    assert len(owners) == 1  # whoever came last changed both
