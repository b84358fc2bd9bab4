"""Statements that are made once and asked often, as the driver takes them: to make one costs more than to answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Connection, DateTime, Select
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import DBAPIError

from ual_registry.registry.blanks import reading_of

__all__ = ["Statement", "is_sqlite", "prepared"]

_DIALECTS: Mapping[bool, Any] = {
    True: pysqlite.dialect(),
    False: psycopg.dialect(),  # type: ignore[no-untyped-call]
}

Reading = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement for one engine.

    Attributes:
        text: The statement.
        fixed: Parameters that are always the same.
        blanks: The parameters of blanks: name, what is made of the value, and its number.
        others: What is made of the other parameters, by name; one that is not there is bound as it is.
        places: The names in the order of the question marks; ``None`` where the driver takes names.
        is_planned_once: Whether one plan is good for all values.
    """

    text: str
    fixed: Mapping[str, Any]
    blanks: tuple[tuple[str, Reading, int], ...]
    others: Mapping[str, Reading]
    places: tuple[str, ...] | None
    is_planned_once: bool

    def rows(self, connection: Connection, values: Sequence[Any] = (), /, **others: Any) -> Sequence[Any]:
        """Ask the driver itself and return its rows, which costs half of SQLAlchemy's.

        Args:
            connection: Of the engine that the statement was made for.
            values: What the blanks stand for.
            others: Other parameters by name.
        """
        bound = dict(self.fixed)
        for name, value in others.items():
            read = self.others.get(name)
            bound[name] = value if read is None else read(value)
        for name, read, number in self.blanks:
            bound[name] = read(values[number])
        if self.places is None:
            prepare = None if self.is_planned_once else False
            return _asked(
                connection, self.text, bound, prepare=prepare, binary=True
            )  # times and numbers are read sooner
        return _asked(connection, self.text, tuple([bound[name] for name in self.places]))


def _asked(connection: Connection, text: str, parameters: Any, **options: Any) -> Sequence[Any]:
    """Ask the driver, and raise what SQLAlchemy would have raised.

    Args:
        connection: An open connection; a transaction has begun where its engine begins one.
        text: The statement.
        parameters: As the driver takes them.
        options: Of the driver alone.
    """
    driver: Any = connection.connection.driver_connection
    dialect: Any = connection.dialect
    try:
        cursor = driver.cursor()
        for note in connection.dispatch.before_cursor_execute:  # whoever counts or traces statements
            note(connection, cursor, text, parameters, None, False)
        rows: Sequence[Any] = cursor.execute(text, parameters, **options).fetchall()
    except dialect.dbapi.Error as error:
        is_lost = dialect.is_disconnect(error, driver, None)
        if is_lost:
            connection.invalidate(error)
        known = (text, parameters, error, dialect.dbapi.Error)
        raise DBAPIError.instance(*known, connection_invalidated=is_lost, dialect=dialect) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # the interrupt key: nobody knows what the server still says
            connection.invalidate(error)
        raise
    return rows


def prepared(
    statement: Select[Any] | CompoundSelect[Any],
    *,
    is_sqlite: bool,
    is_planned_once: bool = True,
    is_explained: bool = False,
) -> Statement:
    """Make a statement for one engine.

    Args:
        statement: The statement.
        is_sqlite: For which engine.
        is_planned_once: Whether PostgreSQL may keep one plan for all values; otherwise it plans with each, which it
            must where some are common and others rare.
        is_explained: Whether the plan is asked for instead of the rows; of PostgreSQL alone.
    """
    dialect = _DIALECTS[is_sqlite]
    compiled: Any = statement.compile(dialect=dialect)
    found = {name: reading_of(name) for name in compiled.binds}
    kept = {name: _kept(bind.type, dialect) for name, bind in compiled.binds.items()}
    return Statement(
        text="EXPLAIN (FORMAT JSON) " * is_explained + str(compiled),
        fixed={name: value for name, value in compiled.params.items() if value is not None},
        blanks=tuple((name, _both(read[0], kept[name]), read[1]) for name, read in found.items() if read is not None),
        others={name: read for name, read in kept.items() if read is not None and found[name] is None},
        places=tuple(compiled.positiontup) if compiled.positional else None,
        is_planned_once=is_planned_once,
    )


def _kept(kind: Any, dialect: Any) -> Reading | None:
    """Return what makes of a moment what the engine keeps; the driver knows all else."""
    found: Reading | None = kind.dialect_impl(dialect).bind_processor(dialect) if isinstance(kind, DateTime) else None
    return found


def _both(read: Reading, processed: Reading | None) -> Reading:
    """Return a value's reading as its type wants it, such as a moment as text."""
    return read if processed is None else lambda value: processed(read(value))


def is_sqlite(connection: Connection) -> bool:
    """Tell whether a connection is to SQLite."""
    return connection.dialect.name == "sqlite"
