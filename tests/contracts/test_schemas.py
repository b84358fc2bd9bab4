"""The schemas: closed objects, described fields, identifiers equal to their paths, and frozen once released."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ual_registry.air.schema import load_schema, schema_names

_SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


def _objects(value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every subschema that describes an object, with its path."""
    if isinstance(value, dict):
        if value.get("type") == "object":
            yield path, value
        for key, item in value.items():
            yield from _objects(item, f"{path}/{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, f"{path}/{index}")


@pytest.mark.parametrize("name", schema_names())
def test_a_schema_is_one_and_is_named_by_its_path(name: str) -> None:
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:ual-registry:schemas/{name}"
    assert schema["title"].endswith(name.split("/", maxsplit=1)[0])


@pytest.mark.parametrize("name", schema_names())
def test_every_object_is_closed_or_says_what_it_may_hold(name: str) -> None:
    free = {"settings", "annotations", "config", "facts"}  # as they were given, remarks, another format's own words
    for path, schema in _objects(load_schema(name), ""):
        is_closed = "additionalProperties" in schema or "allOf" in schema
        assert is_closed or path.rpartition("/")[2] in free, path


@pytest.mark.parametrize("name", schema_names())
def test_every_object_describes_itself(name: str) -> None:
    assert [path for path, schema in _objects(load_schema(name), "") if "description" not in schema] == []


def test_released_schemas_are_frozen() -> None:
    lines = (_SCHEMAS / "digests.txt").read_text(encoding="utf-8").splitlines()
    frozen = dict(reversed(line.split("  ")) for line in lines if not line.startswith("#"))
    actual = {name: hashlib.sha256((_SCHEMAS / name).read_bytes()).hexdigest() for name in schema_names()}
    assert frozen == actual
