"""Two independent validators say the same of good and of mutated documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing

from tests.handmade import small_adapter, split_container
from ual_registry.air.schema import load_schema, schema_names, schema_problems
from ual_registry.air.write import write
from ual_registry.binders import load

REFEREE = referencing.Registry().with_resources(
    (schema["$id"], referencing.Resource.from_contents(schema)) for schema in map(load_schema, schema_names())
)
BINDERS = sorted((Path(load.__file__).parent / "data").glob("*.json"))
WRONG: tuple[Any, ...] = (None, True, -1, 0, 1.5, 2**40, "", "x", "sha256:0", [], {}, [None], {"x": 1}, ["a", "a"])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutants(document: Any) -> Iterator[Any]:
    """Yield the document with each value replaced by wrong ones, removed, and with an unknown field beside it."""
    for number, path in enumerate(places(document)):
        if not path:
            continue
        for index in range(3):
            yield _changed(
                document, path, lambda holder, key, n=number + 5 * index: _set(holder, key, WRONG[n % len(WRONG)])
            )
        yield _changed(document, path, lambda holder, key: holder.pop(key))
        yield _changed(document, path, lambda holder, key: isinstance(holder, dict) and _set(holder, "unknown", 1))


def _set(holder: Any, key: Any, value: Any) -> None:
    holder[key] = value


def _changed(document: Any, path: tuple[Any, ...], change: Any) -> Any:
    copied = copy.deepcopy(document)
    holder = copied
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return copied


def agree(schema: str, document: Any) -> bool:
    """Return what both validators say, which must be the same."""
    ours = not list(schema_problems(schema, document, root="document"))
    theirs = jsonschema.Draft202012Validator(load_schema(schema), registry=REFEREE).is_valid(document)
    assert ours == theirs, json.dumps(document)[:2000]
    return ours


def manifest_document(tmp_path: Path) -> Any:
    write(small_adapter(name="small", tags=("a",), annotations={"org.example.note": [1]}), tmp_path / "a.air")
    header, _ = split_container((tmp_path / "a.air").read_bytes())
    return json.loads(header["__metadata__"]["air"])


def test_two_validators_agree_on_manifests(tmp_path: Path) -> None:
    document = manifest_document(tmp_path)
    assert agree("1.0/manifest.json", document)
    verdicts = [agree("1.0/manifest.json", mutant) for mutant in mutants(document)]
    assert {True, False} == set(verdicts)


@pytest.mark.parametrize("path", BINDERS, ids=[path.stem for path in BINDERS])
def test_two_validators_agree_on_binders(path: Path) -> None:
    document = json.loads(path.read_text())
    assert agree("1.0/binder.json", document)
    if path.stem in ("gpt_neox", "t5"):
        verdicts = [agree("1.0/binder.json", mutant) for mutant in mutants(document)]
        assert {True, False} == set(verdicts)


@pytest.mark.parametrize("name", ["1.0/manifest.json", "1.0/binder.json"])
def test_a_schema_is_a_legal_schema(name: str) -> None:
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:ual-registry:schemas/{name}"
