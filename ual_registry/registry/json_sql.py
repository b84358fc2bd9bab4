"""JSON made by the database itself, which each engine does by functions of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["JsonAll", "JsonList", "JsonPairs", "JsonText", "JsonWritten"]


class _Json(FunctionElement[str]):
    """What each engine writes as JSON in a way of its own.

    Attributes:
        postgresql: How PostgreSQL is asked for it, with a place for the arguments.
        sqlite: The same for SQLite.
    """

    type = Text()
    postgresql: ClassVar[str]
    sqlite: ClassVar[str]


class JsonList(_Json):
    """A list of values."""

    name = "json_list"
    inherit_cache = True  # which SQLAlchemy reads of each class alone
    postgresql = "json_build_array({})"
    sqlite = "json_array({})"


class JsonAll(_Json):
    """A list of what every row has, empty where there is none."""

    name = "json_all"
    inherit_cache = True
    postgresql = "coalesce(json_agg({}), '[]'::json)"
    sqlite = "json_group_array({})"


class JsonPairs(_Json):
    """An object of what every row has, a key and a value."""

    name = "json_pairs"
    inherit_cache = True
    postgresql = "coalesce(json_object_agg({}), '{{}}'::json)"
    sqlite = "json_group_object({})"


class JsonText(_Json):
    """A text that is JSON already."""

    name = "json_text"
    inherit_cache = True
    postgresql = "CAST({} AS json)"
    sqlite = "json({})"


class JsonWritten(_Json):
    """JSON as a text."""

    name = "json_written"
    inherit_cache = True
    postgresql = "{}::text"
    sqlite = "{}"


@compiles(_Json)
def _compile(element: _Json, compiler: Any, **options: Any) -> str:
    form: str = getattr(element, compiler.dialect.name)
    return form.format(compiler.process(element.clauses, **options))
