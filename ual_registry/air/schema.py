"""Documents against their JSON Schemas: every fault at once, each with its place.

The validator is ``jsonschema-rs``; the tests hold it against ``jsonschema`` on every vector (ADR-0004).
No reference leaves the shipped folder: schemas refer only to themselves.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from ual_registry.air.problem import Problem
from ual_registry.resources import resource_folder

__all__ = ["load_schema", "schema_names", "schema_problems"]


def load_schema(name: str) -> dict[str, Any]:
    """Return a shipped schema, such as ``1.0/manifest.json``."""
    schema: dict[str, Any] = json.loads((resource_folder("schemas") / name).read_text(encoding="utf-8"))
    return schema


def schema_names() -> tuple[str, ...]:
    """Return every shipped schema, sorted."""
    folder = resource_folder("schemas")
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json")))


@functools.cache
def _registry() -> jsonschema_rs.Registry:
    """Every shipped schema under its ``$id``; what is not here is not found, because nothing is ever fetched."""
    schemas = [load_schema(name) for name in schema_names()]
    return jsonschema_rs.Registry([(schema["$id"], schema) for schema in schemas])


@functools.cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(load_schema(name), registry=_registry())


def schema_problems(name: str, document: Any, *, root: str, allow_unknown_fields: bool = False) -> Iterator[Problem]:
    """Yield every place where a document breaks its schema.

    Args:
        name: The schema, such as ``1.0/manifest.json``.
        document: A parsed JSON value.
        root: What the document is called in the places, such as ``manifest``.
        allow_unknown_fields: Whether fields that the schema does not know are no fault.
    """
    for error in _validator(name).iter_errors(document):
        if allow_unknown_fields and isinstance(error.kind, ValidationErrorKind.AdditionalProperties):
            continue
        yield Problem(code="schema", place=_place(root, error.instance_path), message=_shortened(error.message))


def _place(root: str, path: list[str | int]) -> str:
    """Write a path as ``manifest.entries[3].rank``."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _shortened(message: str, limit: int = 300) -> str:
    """Keep a message readable where the document holds a very long value."""
    return message if len(message) <= limit else f"{message[:limit]} ..."
