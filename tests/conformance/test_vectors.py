"""This package gives the answer of every vector, and the stored vectors are those that the generator writes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from spec.vectors.generate import write_cases
from tests.hostile.fuzzing import reference_reader
from ual_registry.air.canonical import parse_json
from ual_registry.air.read import read
from ual_registry.air.schema import load_schema, schema_names, schema_problems
from ual_registry.air.write import write
from ual_registry.errors import FormatError
from ual_registry.workflows.answers import OPERATIONS, answer, serve
from ual_registry.workflows.conformance import Case, judge, load_cases

_ROOT = Path(__file__).resolve().parents[2]
_VECTORS = _ROOT / "spec" / "vectors"
_CASES = load_cases()


@pytest.mark.parametrize("case", _CASES, ids=[case.name for case in _CASES])
def test_the_answer_is_the_expected_one(case: Case) -> None:
    got = answer({"id": 7, "operation": case.operation, **case.request})
    assert got.pop("id") == 7
    assert judge(case, got).reason is None, got


def test_the_command_line_passes_every_vector() -> None:
    ual = f"{sys.executable} -m ual_registry"
    words = [*ual.split(), "conformance", "--implementation", f"{ual} conformance --serve"]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{len(_CASES)} passed, 0 failed\n"


def test_the_independent_reader_passes_every_vector() -> None:
    """What it imports is held to its own folder by ``tests/hostile``."""
    reader = reference_reader()
    failed = {}
    for number, case in enumerate(_CASES, start=1):
        request = {"id": number, "operation": case.operation, **case.request}
        got = json.loads(json.dumps(reader._reply(json.dumps(request).encode())))  # as the line protocol carries it
        if got.pop("id") != number or judge(case, got).reason is not None:
            failed[case.name] = got
    assert failed == {}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_stored_vectors_are_those_that_the_generator_writes(tmp_path: Path) -> None:
    assert write_cases(tmp_path) == len(_CASES)
    made, stored = _files(tmp_path / "1.0"), _files(_VECTORS / "1.0")
    assert sorted(made) == sorted(stored)
    assert [name for name in made if made[name] != stored[name]] == []


def test_the_vectors_are_many_and_small() -> None:
    sizes = [len(data) for data in _files(_VECTORS / "1.0").values()]
    assert len(_CASES) >= 170
    assert sum(sizes) < 2_000_000
    assert max(sizes) < 12_000
    assert {case.operation for case in _CASES} == set(OPERATIONS)


_NOT_SHOWN = {
    "kind": "of a reader that expects one kind",
    "too-many-tensors": "takes 200,001 tensors",
    "too-many-values": "takes 3,000,001 commas",
    "unresolved-module": "of a caller who needs every path to be known",
}


def test_every_code_of_the_specification_is_shown_by_a_vector() -> None:
    text = (_ROOT / "spec" / "conformance.md").read_text(encoding="utf-8")
    section = text.partition("\n## Codes\n")[2].partition("\n## ")[0]
    known = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    shown = {case.expected["code"] for case in _CASES if "code" in case.expected}
    for case in _CASES:
        shown |= {item["code"] for item in (*case.expected.get("faults", ()), *case.expected.get("warnings", ()))}
    assert shown == known - _NOT_SHOWN.keys()


def _manifest(path: str) -> Any:
    data = Path(path).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return parse_json(header["__metadata__"]["air"].encode(), what="manifest")


def _with_manifest() -> dict[str, Any]:
    """Return the manifest of every vector where one can be read and has no newer version."""
    found = {}
    for case in _CASES:
        faults = case.expected.get("faults", ())
        first = faults[0]["code"] if faults else "none"
        is_of_manifest = case.name.startswith(("1.0/valid-", "1.0/manifest-"))
        unread = {"not-json", "repeated-key", "too-deep", "unsupported-version"}
        if is_of_manifest and first not in unread and "newer" not in case.name and "three-remarks" not in case.name:
            found[case.name] = (_manifest(case.request["path"]), first == "schema")
    return found


def _validators(names: Iterable[str]) -> dict[str, Any]:
    """Return the plain validator of each schema, one for all documents: it remembers what it has resolved."""
    registry = [Resource.from_contents(load_schema(name)) for name in schema_names()] @ Registry()
    return {name: jsonschema.Draft202012Validator(load_schema(name), registry=registry) for name in names}


def test_two_validators_of_json_schema_agree_on_every_manifest() -> None:
    validators = _validators(("1.0/router.json", "1.0/manifest.json"))
    manifests = _with_manifest()
    assert len(manifests) > 150
    for name, (manifest, is_faulty) in manifests.items():
        kind = manifest.get("kind") if isinstance(manifest, dict) else None
        schema = "1.0/router.json" if kind == "router" else "1.0/manifest.json"
        theirs = validators[schema].is_valid(manifest)
        ours = not list(schema_problems(schema, manifest, root="manifest"))
        assert (name, theirs, ours) == (name, not is_faulty, not is_faulty)


def test_two_validators_of_json_schema_agree_on_every_binder() -> None:
    schema = "1.0/binder.json"
    validator = _validators((schema,))[schema]
    documents = {Path(case.request["binder"]).read_bytes(): case.name for case in _CASES if "binder" in case.request}
    verdicts = []
    for data, name in documents.items():
        try:
            binder = parse_json(data, what="binder")
        except FormatError:
            continue
        verdicts.append(validator.is_valid(binder))
        assert (name, verdicts[-1]) == (name, not list(schema_problems(schema, binder, root="binder")))
    assert min(verdicts.count(True) - 200, verdicts.count(False)) > 40  # many of both


def test_an_unknown_operation_is_answered_as_such() -> None:
    assert answer({"id": 3, "operation": "guess"}) == {"id": 3, "code": "unknown-operation"}
    assert answer({"id": 4}) == {"id": 4, "code": "unknown-operation"}


def test_requests_are_answered_in_order_until_they_end() -> None:
    requests = [
        {"id": 2, "operation": "parse_name", "name": "lm_head.bias"},
        {"id": 1, "operation": "parse_name", "name": ""},
    ]
    written = io.BytesIO()
    serve(io.BytesIO("".join(json.dumps(request) + "\n" for request in requests).encode()), written)
    assert [json.loads(line) for line in written.getvalue().splitlines()] == [
        {"id": 2, "stack": None, "layer": None, "role": "lm_head", "expert": None, "factor": "bias"},
        {"id": 1, "code": "tensor-name"},
    ]


@pytest.mark.parametrize("line", [b"[]\n", b"1\n", b"no json\n"])
def test_a_request_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError, match=r"^request: "):
        serve(io.BytesIO(line), io.BytesIO())


def _written_by_us() -> list[Case]:
    """Return the legal adapters of the version that this package writes."""
    legal = [case for case in _CASES if case.operation == "validate" and case.expected["valid"]]
    return [case for case in legal if _manifest(case.request["path"])["kind"] == "adapter" and "newer" not in str(case)]


@pytest.mark.parametrize("case", _written_by_us(), ids=lambda case: case.name)
def test_a_legal_adapter_that_is_written_again_has_the_same_bytes(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "again.air"
    with read(case.request["path"]) as adapter:
        write(adapter, file)
    assert file.read_bytes() == Path(case.request["path"]).read_bytes()
