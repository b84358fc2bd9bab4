"""One transaction that writes, tried again where another process was in its way.

The database lets two writers wait for each other where it can. Where it cannot, it ends one of them with an error that
says so; all of that transaction is undone, and it is done again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from ual_registry.errors import RegistryConflictError, RegistryUnavailableError
from ual_registry.registry.session import Database

__all__ = ["transact"]

T = TypeVar("T")

_ATTEMPTS = 8
_LONGEST_PAUSE_S = 0.2
_IN_THE_WAY = frozenset({"40001", "40P01"})
"""What PostgreSQL calls a serialization failure and a deadlock."""


def transact(database: Database, work: Callable[[Session], T]) -> T:
    """Run ``work`` in a transaction that writes.

    Args:
        database: The database.
        work: What is done; it may run several times, each time from the beginning.

    Raises:
        RegistryConflictError: Other processes were in the way every time.
        UALError: What ``work`` raises.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with database.session(writes=True) as session:
                return work(session)
        except RegistryUnavailableError as error:
            if not _is_conflict(error.__cause__):
                raise
            last = error
        time.sleep(random.uniform(0, _LONGEST_PAUSE_S) * attempt / _ATTEMPTS)  # noqa: S311  # spread, not secret
    raise RegistryConflictError(
        f"registry {database.label}: other processes changed the same rows {_ATTEMPTS} times in a row",
        hint="run the command again",
    ) from last


def _is_conflict(cause: BaseException | None) -> bool:
    """Tell whether a transaction failed because of another one: a deadlock, or a row that came in between."""
    state = getattr(cause.orig, "sqlstate", None) if isinstance(cause, DBAPIError) else None
    return isinstance(cause, IntegrityError) or state in _IN_THE_WAY
