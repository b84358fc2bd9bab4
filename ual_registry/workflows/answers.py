"""This package as an implementation of the conformance protocol: one answer for each request (spec: conformance)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.air.header import open_header
from ual_registry.air.names import TensorName
from ual_registry.air.problem import Problem
from ual_registry.air.scan import scan_tensors
from ual_registry.air.tensor import FileSource
from ual_registry.air.validate import validate_file
from ual_registry.binders.base import load_base
from ual_registry.binders.bind import apply_binder
from ual_registry.binders.load import load_binder
from ual_registry.binders.slots import Slot
from ual_registry.errors import FormatError, UALError
from ual_registry.storage import read_at_most

__all__ = ["OPERATIONS", "answer", "serve"]

_MAX_BYTES = 100_000_000

Request = Mapping[str, Any]
Answer = dict[str, Any]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer one JSON object a line until the input ends.

    Args:
        requests: Where the requests are read.
        answers: Where the answers are written, each at once.

    Raises:
        FormatError: A line is no JSON object.
    """
    for line in requests:
        request = parse_json(line, what="request")
        if not isinstance(request, dict):
            raise FormatError("request: expected a JSON object")
        answers.write(json.dumps(answer(request)).encode() + b"\n")
        answers.flush()


def answer(request: Request) -> Answer:
    """Answer one request; a refusal is an answer, too."""
    operation = OPERATIONS.get(request.get("operation", ""))
    try:
        body = operation(request) if operation else {"code": "unknown-operation"}
    except UALError as error:
        body = {"code": error.problem_code}
    return {"id": request.get("id"), **body}


def _validate(request: Request) -> Answer:
    report = validate_file(Path(request["path"]))
    return {"valid": report.ok, "faults": _remarks(report.errors), "warnings": _remarks(report.warnings)}


def _remarks(problems: Iterable[Problem]) -> list[Answer]:
    return [{"code": problem.code, "place": problem.place} for problem in problems]


def _canonicalize(request: Request) -> Answer:
    data = read_at_most(Path(request["path"]), limit_bytes=_MAX_BYTES)
    if data is None:
        raise FormatError(f"file: over the limit of {_MAX_BYTES} bytes", code="not-json")
    return {"canonical": canonical_bytes(parse_json(data, what="file")).decode()}


def _tensor_digest(request: Request) -> Answer:
    source = FileSource(Path(request["path"]))
    try:
        return {"digest": str(scan_tensors(open_header(source).tensors(source)).tensor_digest)}
    finally:
        source.close()


def _parse_name(request: Request) -> Answer:
    return dataclasses.asdict(TensorName.parse(request["name"]))


def _resolve(request: Request) -> Answer:
    binder = load_binder(Path(request["binder"]))
    base, edition = load_base(Path(request["config"])), request.get("edition")
    binding = apply_binder(binder, base, request.get("model_class"), edition=edition)
    return {
        "slots": {
            path: _slots(binding.modules[path].slots) if path in binding.modules else None
            for path in request["modules"]
        }
    }


def _slots(slots: Iterable[Slot]) -> list[Answer]:
    return [dataclasses.asdict(slot) for slot in slots]


OPERATIONS: dict[str, Callable[[Request], Answer]] = {
    "validate": _validate,
    "canonicalize": _canonicalize,
    "tensor_digest": _tensor_digest,
    "parse_name": _parse_name,
    "resolve": _resolve,
}
"""What can be asked, by name."""
