"""Moments as the databases keep them: PostgreSQL with a time zone, SQLite without one; ours are always UTC."""

from __future__ import annotations

import datetime

__all__ = ["utc"]


def utc(moment: datetime.datetime | str) -> datetime.datetime:
    """Return a moment that came from a database, in UTC; the driver of SQLite gives a text."""
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    if moment.tzinfo is datetime.UTC:
        return moment
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
