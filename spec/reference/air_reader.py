"""A reader of AIR 1.0 files, written from the text of the specification and its schemas alone.

It needs nothing but Python 3.11 and the folder `schemas` two levels above.
Run as a program, it speaks the line protocol of conformance.md on standard input and output.
The sections that are cited are those of the pages in the folder above this one.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import math
import operator
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

MAX_HEADER = 100_000_000
MAX_TENSORS = 200_000
MAX_NAME = 1024
MAX_AXES = 16
MAX_SAFE = 2**53 - 1
MAX_BYTES = 2**63 - 1
MAX_SIZE = 2**31 - 1
MAX_DEPTH = 64
MAX_VALUES = 3_000_000
MAX_CONFIG = 16_777_216
MAX_COUNT = 10_000
ALIGNMENT = 64
CHUNK = 1 << 20

URN = "urn:ual-registry:schemas/1.0/"
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "1.0"

DTYPES = (
    dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 2)
    | dict.fromkeys(("I32", "U32", "F32"), 4)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 8)
)
"""tensors.md, Dtypes: the width of an element in bytes."""

EXPONENTS = {"F16": (0x7C, 0x00), "BF16": (0x7F, 0x80), "F32": (0x7F, 0x80), "F64": (0x7F, 0xF0)}
"""tensors.md, Dtypes: the bits of the exponent in the last byte of an element and in the one before it."""

ROLES = {
    "attention_query": ("hidden", "query_heads", True),
    "attention_key": ("hidden", "key_value_heads", True),
    "attention_value": ("hidden", "value_heads", True),
    "attention_output": ("attended_heads", "hidden", True),
    "mlp_up": ("hidden", "intermediate", True),
    "mlp_down": ("intermediate", "hidden", True),
    "mlp_gate": ("hidden", "intermediate", True),
    "cross_attention_query": ("hidden", "query_heads", True),
    "cross_attention_key": ("encoder_hidden", "key_value_heads", True),
    "cross_attention_value": ("encoder_hidden", "value_heads", True),
    "cross_attention_output": ("attended_heads", "hidden", True),
    "token_embedding": ("vocabulary", "embedding", False),
    "lm_head": ("embedding", "vocabulary", False),
    "moe_router": ("hidden", "experts", True),
    "shared_mlp_up": ("hidden", "shared_intermediate", True),
    "shared_mlp_down": ("shared_intermediate", "hidden", True),
    "shared_mlp_gate": ("hidden", "shared_intermediate", True),
    "shared_mlp_router": ("hidden", "one", True),
    "latent_query_down": ("hidden", "query_latent", True),
    "latent_query_up": ("query_latent", "query_heads", True),
    "latent_key_value_down": ("hidden", "key_value_latent", True),
    "latent_key_rotary": ("hidden", "rotary_key", True),
    "latent_key_up": ("key_value_latent", "unrotated_key_heads", True),
    "latent_value_up": ("key_value_latent", "value_heads", True),
    "attention_position_query": ("hidden", "query_heads", True),
    "attention_position_key": ("hidden", "query_heads", True),
    "state_space_in": ("hidden", "intermediate", True),
    "state_space_gate": ("hidden", "intermediate", True),
    "state_space_step_down": ("intermediate", "time_step", True),
    "state_space_input": ("intermediate", "state", True),
    "state_space_output": ("intermediate", "state", True),
    "state_space_step_up": ("time_step", "intermediate", True),
    "state_space_out": ("intermediate", "hidden", True),
}
"""roles.md, The table: in, out, per layer."""

EXPERT_ROLES = ("mlp_up", "mlp_down", "mlp_gate")
"""roles.md, The table: the roles that a block can have once for each expert."""

DIMENSIONS = {
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "experts": "num_experts",
    "shared_intermediate": "shared_intermediate_size",
    "query_latent": "query_latent_size",
    "key_value_latent": "key_value_latent_size",
    "rotary_key": "rotary_head_dim",
    "state": "state_size",
    "time_step": "time_step_rank",
}
"""roles.md, Axes: those whose length is one dimension of the stack."""

ROUTER_TENSORS = {
    "classifier.weight": (("clusters", "dimension"), frozenset(EXPONENTS)),
    "classifier.bias": (("clusters",), frozenset(EXPONENTS)),
    "classifier.domain": (("clusters",), frozenset({"I32"})),
    "prototypes.vector": (("prototypes", "dimension"), frozenset(EXPONENTS)),
    "prototypes.domain": (("prototypes",), frozenset({"I32"})),
}
"""router.md, Tensors: axes and dtypes, in the order of the table."""

FEATURES = ("dora", "extra-tensors", "lora-bias")
"""core.md, Features."""

FACTORS = ("lora_A", "lora_B", "magnitude", "bias")

NAME = re.compile(
    r"(?:(?P<stack>encoder|decoder)\.)?"
    r"(?:layers\.(?P<layer>0|[1-9][0-9]{0,8})\.)?"
    r"(?P<role>[a-z][a-z0-9_]*)\."
    r"(?:experts\.(?P<expert>0|[1-9][0-9]{0,8})\.)?"
    r"(?P<factor>lora_A|lora_B|magnitude|bias)"
)
"""tensors.md, Names."""

VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
"""core.md, Versions."""


class Fault(Exception):  # noqa: N818 - the word of the specification
    """conformance.md, Faults: a code and a place."""

    def __init__(self, code: str, place: str = "") -> None:
        super().__init__(code, place)
        self.code = code
        self.place = place


# Strict JSON


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """considerations.md, Strict JSON: no object has one name twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Fault("repeated-key")
    return result


def _constant(_text: str) -> Any:
    """considerations.md, Strict JSON: there is no NaN and no Infinity."""
    raise Fault("not-json")


def _double(text: str) -> float:
    """considerations.md, Strict JSON: no number is beyond the range of a double."""
    value = float(text)
    if math.isinf(value):
        raise Fault("not-json")
    return value


def _integer(text: str) -> int | float:
    """considerations.md, Strict JSON: an integer above 2^53-1 is read as the double nearest to it."""
    if len(text) > 17:
        return _double(text)
    value = int(text)
    return value if -MAX_SAFE <= value <= MAX_SAFE else float(value)


DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_double, parse_int=_integer, strict=True
)
QUOTED = re.compile(rb'"[^"]*"')
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord('"'): 0}


def _depth(data: bytes) -> int:
    """considerations.md, Strict JSON: how deeply objects and arrays nest; right for every text that is JSON."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, NOT_STRUCTURE)
    brackets = QUOTED.sub(b"", plain)
    return max(itertools.accumulate(map(STEP.__getitem__, brackets)), default=0)


def _has_surrogate(value: Any) -> bool:
    """considerations.md, Strict JSON: whether a string or a name holds half of a surrogate pair."""
    if isinstance(value, str):
        return SURROGATE.search(value) is not None
    if isinstance(value, list):
        return any(map(_has_surrogate, value))
    if isinstance(value, dict):
        return any(_has_surrogate(name) or _has_surrogate(item) for name, item in value.items())
    return False


def read_json(data: bytes) -> Any:
    """considerations.md, Strict JSON: the value, or a fault with an empty place.

    An integer is an `int` where it is written without fraction and exponent and is at most 2^53-1, else a `float`.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Fault("too-many-values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("not-json") from None
    if text.startswith("\ufeff"):
        raise Fault("not-json")
    if _depth(data) > MAX_DEPTH:
        raise Fault("too-deep")
    try:
        value = DECODER.decode(text)
    except RecursionError:
        raise Fault("too-deep") from None
    except ValueError:
        raise Fault("not-json") from None
    if SURROGATE_ESCAPE.search(text) and _has_surrogate(value):
        raise Fault("not-json")
    return value


# Canonical form

ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)}
ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
ESCAPED = re.compile(r'["\\\x00-\x1f]')


def _number_text(value: float) -> str:
    """considerations.md, Canonical form: a number as ECMAScript writes a double."""
    if isinstance(value, int) and -MAX_SAFE <= value <= MAX_SAFE:
        return str(value)
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(float(value))).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + int(exponent or 0)
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def _string_text(value: str) -> str:
    """considerations.md, Canonical form: strings."""
    return f'"{value.translate(ESCAPES) if ESCAPED.search(value) else value}"'


def _name_order(name: str) -> bytes:
    """considerations.md, Canonical form: names are sorted by UTF-16 code units."""
    return name.encode("utf-16-be")


def canonical(value: Any) -> str:
    """considerations.md, Canonical form: RFC 8785."""
    if isinstance(value, str):
        return _string_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    if isinstance(value, dict):
        names = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_name_order)
        return "{" + ",".join(f"{_string_text(name)}:{canonical(value[name])}" for name in names) + "}"
    return _number_text(value)


def _digest(data: bytes) -> str:
    """considerations.md, Digests."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


# JSON Schema, as far as the schemas of version 1.0 use it


@dataclass
class Check:
    """One run of a schema over a value: the places of its faults."""

    places: list[str]
    ignore_unknown: bool


Keyword = Callable[[dict[str, Any], Any, Any, str, Check], None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    """README.md, Conventions: an integer is a number without a fractional part, however it is written."""
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": _is_integer,
}


def _check_type(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    names = [argument] if isinstance(argument, str) else argument
    if not any(TYPES[name](value) for name in names):
        check.places.append(place)


def _check_enum(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if not any(type(value) is type(item) and value == item for item in argument):
        check.places.append(place)


def _check_const(schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    _check_enum(schema, [argument], value, place, check)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """README.md, Conventions: no line feed may follow what `$` ends."""
    return re.compile(text[:-1] + r"\Z" if text.endswith("$") and not text.endswith(r"\$") else text, re.ASCII)


def _check_pattern(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, str) and not _pattern(argument).search(value):
        check.places.append(place)


def _bound(kind: str, measure: Callable[[Any], Any], breaks: Callable[[Any, Any], bool]) -> Keyword:
    """A keyword that bounds a number, or the length of a string (in characters), an array or an object."""

    def run(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
        if TYPES[kind](value) and breaks(measure(value), argument):
            check.places.append(place)

    return run


def _check_unique(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if argument and isinstance(value, list) and len(set(map(canonical, value))) < len(value):
        check.places.append(place)


def _check_items(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_schema(argument, item, f"{place}[{index}]", check)


def _check_prefix(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, list):
        for index, (schema, item) in enumerate(zip(argument, value, strict=False)):
            check_schema(schema, item, f"{place}[{index}]", check)


def _check_required(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    """conformance.md, Faults: for a missing property, the path of the object."""
    if isinstance(value, dict) and any(name not in value for name in argument):
        check.places.append(place)


def _check_dependent(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, dict):
        for name, needed in argument.items():
            if name in value:
                _check_required({}, needed, value, place, check)


def _check_properties(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if name in argument:
                check_schema(argument[name], item, f"{place}.{name}", check)


def _check_additional(schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    """core.md, Versions: in a higher minor, unknown properties are ignored."""
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    for name, item in value.items():
        if name in known:
            continue
        if isinstance(argument, dict):
            check_schema(argument, item, f"{place}.{name}", check)
        elif argument is False and not check.ignore_unknown:
            check.places.append(place)


def _check_names(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if isinstance(value, dict):
        for name in value:
            check_schema(argument, name, place, check)


def _check_ref(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    check_schema(_target(argument), value, place, check)


def _check_all(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    for item in argument:
        check_schema(item, value, place, check)


def _holds(schema: dict[str, Any], value: Any, check: Check) -> bool:
    trial = Check([], check.ignore_unknown)
    check_schema(schema, value, "", trial)
    return not trial.places


def _check_one(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if sum(_holds(item, value, check) for item in argument) != 1:
        check.places.append(place)


def _check_any(_schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if not any(_holds(item, value, check) for item in argument):
        check.places.append(place)


def _check_if(schema: dict[str, Any], argument: Any, value: Any, place: str, check: Check) -> None:
    if "then" in schema and _holds(argument, value, check):
        check_schema(schema["then"], value, place, check)


KEYWORDS: dict[str, Keyword] = {
    "type": _check_type,
    "enum": _check_enum,
    "const": _check_const,
    "pattern": _check_pattern,
    "minLength": _bound("string", len, operator.lt),
    "maxLength": _bound("string", len, operator.gt),
    "minimum": _bound("number", operator.pos, operator.lt),
    "maximum": _bound("number", operator.pos, operator.gt),
    "exclusiveMinimum": _bound("number", operator.pos, operator.le),
    "minItems": _bound("array", len, operator.lt),
    "maxItems": _bound("array", len, operator.gt),
    "uniqueItems": _check_unique,
    "items": _check_items,
    "prefixItems": _check_prefix,
    "minProperties": _bound("object", len, operator.lt),
    "required": _check_required,
    "dependentRequired": _check_dependent,
    "properties": _check_properties,
    "additionalProperties": _check_additional,
    "propertyNames": _check_names,
    "$ref": _check_ref,
    "allOf": _check_all,
    "anyOf": _check_any,
    "oneOf": _check_one,
    "if": _check_if,
}
SILENT = {"$schema", "$id", "$defs", "title", "description", "then"}
"""Keywords that check nothing by themselves."""


def check_schema(schema: dict[str, Any], value: Any, place: str, check: Check) -> None:
    """README.md, Schemas: add the place of each fault."""
    for keyword, argument in schema.items():
        if keyword not in SILENT:
            KEYWORDS[keyword](schema, argument, value, place, check)


def _subschemas(schema: dict[str, Any]) -> Iterator[Any]:
    for keyword in ("properties", "$defs"):
        yield from schema.get(keyword, {}).values()
    for keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
        yield from schema.get(keyword, [])
    for keyword in ("items", "additionalProperties", "propertyNames", "if", "then"):
        if isinstance(schema.get(keyword), dict):
            yield schema[keyword]


def _prepare(schema: dict[str, Any], base: str) -> None:
    """Refuse what this file does not implement, and make each reference absolute."""
    unknown = set(schema) - set(KEYWORDS) - SILENT
    if unknown:
        raise ValueError(f"{base}: unknown keywords {sorted(unknown)}")
    if schema.get("$ref", "").startswith("#"):
        schema["$ref"] = base + schema["$ref"]
    for item in _subschemas(schema):
        _prepare(item, base)


@cache
def _documents() -> dict[str, dict[str, Any]]:
    """README.md, Schemas: each is named by its `$id`, and none is ever fetched."""
    result = {}
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        _prepare(schema, schema["$id"])
        result[schema["$id"]] = schema
    return result


@cache
def _target(reference: str) -> dict[str, Any]:
    name, _, pointer = reference.partition("#")
    schema: dict[str, Any] = _documents()[name]
    for part in pointer.split("/")[1:]:
        schema = schema[part]
    return schema


def schema_places(name: str, value: Any, place: str, *, ignore_unknown: bool = False) -> list[str]:
    """The places where a value does not follow a schema."""
    check = Check([], ignore_unknown)
    check_schema(_target(f"{URN}{name}.json"), value, place, check)
    return check.places


# Container


@dataclass(frozen=True)
class Tensor:
    """container.md, Header properties: a row of the tensor table."""

    name: str
    dtype: str
    shape: list[int]
    begin: int
    end: int

    @property
    def width(self) -> int:
        """The bytes of an element."""
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class Container:
    """A file that passed steps 1 to 9 of container.md."""

    file: BinaryIO
    raw: bytes
    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def start(self) -> int:
        """Where the tensor data begins in the file."""
        return 8 + len(self.raw)


def _open(path: str) -> BinaryIO:
    """Open a regular file; whatever is none has no bytes, and waiting on a pipe would hang."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise Fault("truncated")
        return Path(path).open("rb")
    except (OSError, ValueError):
        raise Fault("truncated") from None


def _exactly(file: BinaryIO, count: int) -> bytes:
    """Read so many bytes; a file that shrinks while it is read is truncated."""
    try:
        data = file.read(count)
    except OSError:
        raise Fault("truncated") from None
    if len(data) < count:
        raise Fault("truncated")
    return data


def read_container(file: BinaryIO) -> Container:
    """container.md, Checks of a safetensors file: steps 1 to 9."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(_exactly(file, 8), "little")
    if length > MAX_HEADER:
        raise Fault("header-too-large")
    if length > size - 8:
        raise Fault("truncated")
    raw = _exactly(file, length)
    if not raw.startswith(b"{"):
        raise Fault("header-not-object")
    header = read_json(raw)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Fault("metadata-form")
    rows = [(name, row) for name, row in header.items() if name != "__metadata__"]
    if len(rows) > MAX_TENSORS:
        raise Fault("too-many-tensors")
    tensors = [_tensor(name, row) for name, row in rows]
    _check_tiling(tensors, size - 8 - length)
    return Container(file, raw, header, {tensor.name: tensor for tensor in tensors})


def _is_count(value: Any) -> bool:
    """container.md, Header properties: a JSON integer from 0, no boolean; larger ones were read as doubles."""
    return type(value) is int and value >= 0


def _tensor(name: str, row: Any) -> Tensor:
    """container.md, Checks of a safetensors file: step 8."""
    if not 1 <= len(name) <= MAX_NAME:
        raise Fault("tensor-name")
    if not isinstance(row, dict) or row.keys() != {"dtype", "shape", "data_offsets"}:
        raise Fault("tensor-form", name)
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Fault("unknown-dtype", name)
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise Fault("shape-form", name)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise Fault("offsets-form", name)
    if offsets[0] > offsets[1]:
        raise Fault("offsets-form", name)
    if len(shape) > MAX_AXES:
        raise Fault("shape-form", name)
    if _byte_size(name, dtype, shape) != offsets[1] - offsets[0]:
        raise Fault("size-mismatch", name)
    return Tensor(name, dtype, shape, offsets[0], offsets[1])


def _byte_size(name: str, dtype: str, shape: list[int]) -> int:
    """container.md, Checks of a safetensors file: step 8.7."""
    product = DTYPES[dtype]
    for axis in shape:
        product *= axis
        if product > MAX_BYTES:
            raise Fault("shape-overflow", name)
    return product


def _check_tiling(tensors: list[Tensor], length: int) -> None:
    """container.md, Checks of a safetensors file: step 9."""
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.end > length:
            raise Fault("truncated", tensor.name)
        if tensor.begin < end:
            raise Fault("overlap", tensor.name)
        if tensor.begin > end:
            raise Fault("hole", tensor.name)
        end = tensor.end
    if end < length:
        raise Fault("trailing-bytes")


def check_form(container: Container) -> None:
    """container.md, Checks of an AIR file: steps 10 to 13."""
    if container.header.get("__metadata__", {}).keys() != {"air"}:
        raise Fault("not-air")
    for tensor in container.tensors.values():
        if tensor.begin % tensor.width:
            raise Fault("misaligned", tensor.name)
    right = sorted(container.tensors.values(), key=lambda tensor: (-tensor.width, tensor.name))
    stored = sorted(right, key=lambda tensor: (tensor.begin, tensor.end))
    for found, wanted in zip(stored, right, strict=True):
        if found.name != wanted.name:
            raise Fault("unsorted", found.name)
    text = canonical(container.header).encode("utf-8")
    if text + b" " * (-(8 + len(text)) % ALIGNMENT) != container.raw:
        raise Fault("not-canonical")


# Tensor data


@cache
def _exponent_table(mask: int) -> bytes:
    return bytes(0x80 if byte & mask == mask else 0 for byte in range(256))


def _is_finite(data: bytes, dtype: str) -> bool:
    """tensors.md, Dtypes: a number is not finite exactly when all bits of its exponent are set."""
    width = DTYPES[dtype]
    last, previous = (
        int.from_bytes(data[width - 1 - back :: width].translate(_exponent_table(mask)), "little")
        for back, mask in enumerate(EXPONENTS[dtype])
    )
    return last & previous == 0


def read_tensors(container: Container, factors: set[str]) -> tuple[str, list[str]]:
    """considerations.md, Digests: `tensor_digest`, and which of the factors are not finite, in one pass."""
    rows: list[Any] = []
    infinite = []
    for name, tensor in sorted(container.tensors.items()):
        hasher = hashlib.sha256()
        finite = True
        container.file.seek(container.start + tensor.begin)
        for begin in range(tensor.begin, tensor.end, CHUNK):
            data = _exactly(container.file, min(CHUNK, tensor.end - begin))
            hasher.update(data)
            if finite and name in factors and tensor.dtype in EXPONENTS:
                finite = _is_finite(data, tensor.dtype)
        if not finite:
            infinite.append(name)
        rows.append([name, tensor.dtype, tensor.shape, hasher.hexdigest()])
    return _digest(canonical(rows).encode("utf-8")), infinite


# Report


class Report:
    """conformance.md, Faults: what a validator found, in the order of discovery."""

    def __init__(self) -> None:
        self.faults: list[dict[str, str]] = []
        self.warnings: list[dict[str, str]] = []

    def fault(self, code: str, place: str = "") -> None:
        """Add a fault."""
        self.faults.append({"code": code, "place": place})

    def warn(self, code: str, place: str) -> None:
        """Add a warning."""
        self.warnings.append({"code": code, "place": place})

    def answer(self) -> dict[str, Any]:
        """conformance.md, Protocol: the answer of `validate`."""
        return {"valid": not self.faults, "faults": self.faults, "warnings": self.warnings}


# Rules of an adapter


@dataclass(frozen=True)
class Entry:
    """manifest.md, Entry: one of `entries`, its integers as `int`."""

    stack: str | None
    layer: int | None
    role: str
    expert: int | None
    in_features: int
    out_features: int
    rank: int
    source: str | None
    slice: dict[str, int] | None
    factors: dict[str, str]

    @property
    def label(self) -> str:
        """rules.md, How rules are checked: `lora_B` up to the last dot."""
        return self.factors["lora_B"].rpartition(".")[0]

    @property
    def slot(self) -> tuple[str, int, str, int]:
        """core.md, Terms: stack, layer, role, expert; what is absent stands before what is present."""
        return (
            self.stack or "",
            -1 if self.layer is None else self.layer,
            self.role,
            -1 if self.expert is None else self.expert,
        )


def _entry(data: dict[str, Any]) -> Entry:
    return Entry(
        stack=data.get("stack"),
        layer=int(data["layer"]) if "layer" in data else None,
        role=data["role"],
        expert=int(data["expert"]) if "expert" in data else None,
        in_features=int(data["in_features"]),
        out_features=int(data["out_features"]),
        rank=int(data["rank"]),
        source=data.get("source"),
        slice={name: int(data["slice"][name]) for name in ("offset", "block", "stride", "count")}
        if "slice" in data
        else None,
        factors={factor: data[factor] for factor in FACTORS if factor in data},
    )


Stack = dict[str, Any]


def _find_stack(stacks: list[Stack], name: str | None) -> Stack | None:
    """rules.md, The rules, 4: the stack of that name; absent, the one without a name."""
    return next((stack for stack in stacks if stack.get("name") == name), None)


def axis_length(axis: str, stack: Stack, stacks: list[Stack], vocabulary: int, expert: int | None = None) -> int | None:
    """roles.md, Axes; `None` where the stack lacks a dimension."""
    if axis == "vocabulary":
        return vocabulary
    if axis == "one":
        return 1
    if axis == "encoder_hidden":
        stack, axis = _find_stack(stacks, "encoder") or stacks[0], "hidden"
    names = {"embedding": ("embedding_size", "hidden_size")}.get(axis, (DIMENSIONS.get(axis, ""),))
    if axis == "intermediate" and expert is not None:
        names = ("expert_intermediate_size", "intermediate_size")
    if axis in HEADS:
        return _heads_length(axis, stack)
    return next((int(stack[name]) for name in names if name in stack), None)


HEADS = {
    "query_heads": ("num_attention_heads", "head_dim"),
    "key_value_heads": ("num_key_value_heads", "head_dim"),
    "value_heads": ("num_key_value_heads", "value_head_dim"),
    "attended_heads": ("num_attention_heads", "value_head_dim"),
    "unrotated_key_heads": ("num_key_value_heads", "head_dim"),
}
"""roles.md, Axes: how many heads there are, and how wide one is."""


def _heads_length(axis: str, stack: Stack) -> int | None:
    """roles.md, Axes: the number of heads times the width of one."""
    count, width = (stack.get(name) for name in HEADS[axis])
    if HEADS[axis][1] == "value_head_dim" and width is None:
        width = stack.get("head_dim")
    if axis == "unrotated_key_heads":
        rotated = stack.get("rotary_head_dim")
        width = None if width is None or rotated is None else width - rotated
    return None if count is None or width is None else int(count) * int(width)


def check_adapter(manifest: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """rules.md, The rules."""
    base = manifest["base_model"]
    entries = [_entry(data) for data in manifest["entries"]]
    extra = manifest.get("extra", [])
    named = {name for entry in entries for name in entry.factors.values()} | {item["tensor"] for item in extra}
    _report_names(named, tensors, report)
    _check_stacks(base["stacks"], report)
    _check_slots(entries, report)
    _check_extra(extra, report)
    for entry in entries:
        _check_layer(entry, base["stacks"], report)
        _check_expert(entry, base["stacks"], report)
    _check_factor_names(entries, extra, report)
    for entry in entries:
        _check_factors(entry, tensors, report)
    for entry in entries:
        _check_dimensions(entry, base, report)
    _check_slices(entries, tensors, report)
    _check_features(manifest, entries, extra, report)
    if "revision" not in base:
        report.warn("unpinned-base", "manifest.base_model.revision")


def _report_names(named: set[str], tensors: dict[str, Tensor], report: Report) -> None:
    """rules.md, The rules, 1; router.md, Rules, 3 and 4."""
    for name in sorted(named - tensors.keys()):
        report.fault("missing-tensor", name)
    for name in sorted(tensors.keys() - named):
        report.fault("unnamed-tensor", name)


def _check_stacks(stacks: list[Stack], report: Report) -> None:
    """rules.md, The rules, 2."""
    if [stack.get("name") for stack in stacks] not in ([None], ["encoder", "decoder"]):
        report.fault("stacks", "manifest.base_model.stacks")


def _check_slots(entries: list[Entry], report: Report) -> None:
    """rules.md, The rules, 3."""
    slots: dict[tuple[str, int, str, int], list[Entry]] = {}
    for entry in entries:
        slots.setdefault(entry.slot, []).append(entry)
    for same in slots.values():
        if len(same) > 1:
            report.fault("repeated-entry", same[-1].label)
    if any(one.slot > other.slot for one, other in itertools.pairwise(entries)):
        report.fault("unsorted-entries", "manifest.entries")


def _check_extra(extra: list[dict[str, str]], report: Report) -> None:
    """rules.md, The rules, 3, last two parts."""
    names = [item["tensor"] for item in extra]
    for name, count in Counter(names).items():
        if count > 1:
            report.fault("repeated-extra", name)
    if any(one > other for one, other in itertools.pairwise(names)):
        report.fault("unsorted-extra", "manifest.extra")


def _check_layer(entry: Entry, stacks: list[Stack], report: Report) -> None:
    """rules.md, The rules, 4."""
    stack = _find_stack(stacks, entry.stack)
    if stack is None:
        report.fault("unknown-stack", entry.label)
    elif entry.layer is not None and entry.layer >= stack["num_layers"]:
        report.fault("layer-range", entry.label)
    if (entry.layer is not None) != ROLES[entry.role][2]:
        report.fault("layer-range", entry.label)


def _check_expert(entry: Entry, stacks: list[Stack], report: Report) -> None:
    """rules.md, The rules, 4, last part."""
    if entry.expert is None:
        return
    stack = _find_stack(stacks, entry.stack)
    is_beyond = stack is not None and entry.expert >= stack.get("num_experts", 0)
    if entry.role not in EXPERT_ROLES or is_beyond:
        report.fault("expert-range", entry.label)


def _is_right_name(entry: Entry, factor: str, name: str) -> bool:
    """tensors.md, Which name a factor has."""
    match = NAME.fullmatch(name)
    if match is None:
        return False
    layer, expert = (None if match[part] is None else int(match[part]) for part in ("layer", "expert"))
    if (match["stack"], layer, expert, match["factor"]) != (entry.stack, entry.layer, entry.expert, factor):
        return False
    if match["role"] == entry.role:
        return True
    role = ROLES.get(match["role"])
    if expert is not None and match["role"] not in EXPERT_ROLES:
        return False
    return factor == "lora_A" and entry.slice is not None and role is not None and role[2] == (layer is not None)


def _check_factor_names(entries: list[Entry], extra: list[dict[str, str]], report: Report) -> None:
    """rules.md, The rules, 5."""
    for entry in entries:
        for factor, name in entry.factors.items():
            if not _is_right_name(entry, factor, name):
                report.fault("tensor-name", name)
    for item in extra:
        if item["tensor"] != "extra." + item["name"]:
            report.fault("tensor-name", item["tensor"])


def _check_factors(entry: Entry, tensors: dict[str, Tensor], report: Report) -> None:
    """rules.md, The rules, 6."""
    shapes = {"lora_A": [entry.rank, entry.in_features], "lora_B": [entry.out_features, entry.rank]}
    for factor, name in entry.factors.items():
        if name not in tensors:
            continue
        if tensors[name].shape != shapes.get(factor, [entry.out_features]):
            report.fault("shape", name)
        if tensors[name].dtype not in EXPONENTS:
            report.fault("factor-dtype", name)


def _check_dimensions(entry: Entry, base: dict[str, Any], report: Report) -> None:
    """rules.md, The rules, 7."""
    stack = _find_stack(base["stacks"], entry.stack)
    if stack is None:
        return
    for axis, found in zip(ROLES[entry.role], (entry.in_features, entry.out_features), strict=False):
        if found == axis_length(str(axis), stack, base["stacks"], int(base["vocab_size"]), entry.expert):
            continue
        if axis == "vocabulary":
            report.warn("dimension", entry.label)
        else:
            report.fault("dimension", entry.label)


def _is_whole_slice(entry: Entry) -> bool:
    """rules.md, The rules, 8, second part."""
    rows = entry.slice
    if rows is None:
        return True
    return rows["block"] * rows["count"] == entry.out_features and (
        rows["count"] == 1 or rows["block"] <= rows["stride"]
    )


def _check_slices(entries: list[Entry], tensors: dict[str, Tensor], report: Report) -> None:
    """rules.md, The rules, 8."""
    sources: dict[str, str | None] = {}
    for entry in entries:
        if sources.setdefault(entry.factors["lora_A"], entry.source) != entry.source:
            report.fault("shared-factor", entry.label)
        if not _is_whole_slice(entry):
            report.fault("slice", entry.label)
    groups: dict[tuple[str | None, str | None, int | None], dict[str, Entry]] = {}
    for entry in entries:
        name = entry.factors["lora_B"]
        if entry.slice and _is_whole_slice(entry) and _holds_rows(entry, tensors.get(name)):
            groups.setdefault((entry.stack, entry.source, entry.expert), {}).setdefault(name, entry)
    for group in groups.values():
        for entry in _overlapping(list(group.values())):
            report.fault("slice", entry.label)


def _holds_rows(entry: Entry, tensor: Tensor | None) -> bool:
    """rules.md, Overlapping slices; considerations.md, Hostile input: rows count only where the file holds them."""
    return tensor is not None and tensor.shape == [entry.out_features, entry.rank]


def _blocks(rows: dict[str, int], position: int) -> Iterator[tuple[int, int, int]]:
    """rules.md, Overlapping slices: first row, row after the last, position of the entry, in their order."""
    for index in range(rows["count"]):
        begin = rows["offset"] + index * rows["stride"]
        yield begin, begin + rows["block"], position


def _overlapping(group: list[Entry]) -> list[Entry]:
    """rules.md, Overlapping slices: the entries of a group whose blocks begin before the largest end so far."""
    wrong: dict[int, None] = {}
    largest = 0
    blocks = (_blocks(entry.slice, position) for position, entry in enumerate(group) if entry.slice)
    for begin, end, position in heapq.merge(*blocks):
        if begin < largest:
            wrong[position] = None
        largest = max(largest, end)
    return [group[position] for position in wrong]


def _check_features(manifest: dict[str, Any], entries: list[Entry], extra: list[Any], report: Report) -> None:
    """rules.md, The rules, 9; core.md, Features."""
    used = {
        "dora": any("magnitude" in entry.factors for entry in entries),
        "lora-bias": any("bias" in entry.factors for entry in entries),
        "extra-tensors": bool(extra),
    }
    if manifest.get("features", []) != sorted(name for name, is_used in used.items() if is_used):
        report.fault("features", "manifest.features")


# Rules of a router


def check_router(manifest: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """router.md, Rules."""
    names = [domain["name"] for domain in manifest["domains"]]
    if any(one >= other for one, other in itertools.pairwise(names)):
        report.fault("domains", "manifest.domains")
    if "features" in manifest:
        report.fault("features", "manifest.features")
    _report_names(set(ROUTER_TENSORS), tensors, report)
    lengths = {"dimension": int(manifest["encoder"]["dimension"])}
    for name, (axes, dtypes) in ROUTER_TENSORS.items():
        if name not in tensors:
            continue
        shape = tensors[name].shape
        if tensors[name].dtype not in dtypes:
            report.fault("factor-dtype", name)
        if len(shape) == len(axes):
            lengths.setdefault(axes[0], shape[0])
        if shape != [lengths.get(axis) for axis in axes] or 0 in shape:
            report.fault("shape", name)


# Validation


def validate(path: str) -> dict[str, Any]:
    """conformance.md, Order of discovery."""
    report = Report()
    try:
        with _open(path) as file:
            _validate(file, report)
    except Fault as fault:
        report.fault(fault.code, fault.place)
    return report.answer()


def _validate(file: BinaryIO, report: Report) -> None:
    """conformance.md, Order of discovery: steps 1 to 12; a fault that is raised ends the validation."""
    container = read_container(file)
    try:
        check_form(container)
    except Fault as fault:
        report.fault(fault.code, fault.place)
    text = container.header.get("__metadata__", {}).get("air")
    if text is None:
        return
    manifest = read_json(text.encode("utf-8"))
    if not _check_manifest(manifest, text, report):
        return
    if manifest["kind"] == "router":
        check_router(manifest, container.tensors, report)
        factors = set(container.tensors)
    else:
        check_adapter(manifest, container.tensors, report)
        factors = {entry[factor] for entry in manifest["entries"] for factor in FACTORS if factor in entry}
    digest, infinite = read_tensors(container, factors)
    for name in infinite:
        report.fault("non-finite", name)
    if digest != manifest["tensor_digest"]:
        report.fault("tensor-digest", "manifest.tensor_digest")


def _check_manifest(manifest: Any, text: str, report: Report) -> bool:
    """conformance.md, Order of discovery: steps 4 to 9; whether the manifest follows its schema."""
    properties = manifest if isinstance(manifest, dict) else {}
    is_newer = _check_version(properties.get("air_version"), report)
    features = properties.get("features")
    for name in features if isinstance(features, list) else []:
        if isinstance(name, str) and name not in FEATURES:
            report.fault("unknown-feature", "manifest.features")
    schema = "router" if properties.get("kind") == "router" else "manifest"
    places = schema_places(schema, manifest, "manifest", ignore_unknown=is_newer)
    for place in places:
        report.fault("schema", place)
    if canonical(manifest) != text:
        report.fault("not-canonical", "manifest")
    stored = properties.get("manifest_digest")
    if isinstance(stored, str):
        rest = {name: value for name, value in properties.items() if name != "manifest_digest"}
        if stored != _digest(canonical(rest).encode("utf-8")):
            report.fault("manifest-digest", "manifest.manifest_digest")
    return not places


def _check_version(version: Any, report: Report) -> bool:
    """core.md, Versions: refuse another major, and say whether the minor is higher; the schema checks the form."""
    match = VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        return False
    if match[1] != "1":
        raise Fault("unsupported-version", "manifest.air_version")
    if match[2] == "0":
        return False
    report.warn("newer-version", "manifest.air_version")
    return True


# Other operations


def _read_document(path: str, limit: int) -> Any:
    """A JSON document of its own, read no further than its limit."""
    try:
        with _open(path) as file:
            data = file.read(limit + 1)
    except (Fault, OSError):
        raise Fault("not-json") from None
    if len(data) > limit:
        raise Fault("not-json")
    return read_json(data)


def canonicalize(path: str) -> str:
    """conformance.md, Protocol: the canonical form of a JSON file."""
    return canonical(_read_document(path, MAX_HEADER))


def tensor_digest(path: str) -> str:
    """conformance.md, Protocol: the digest of the tensors of any safetensors file."""
    with _open(path) as file:
        return read_tensors(read_container(file), set())[0]


def parse_name(name: Any) -> dict[str, Any]:
    """tensors.md, Names: the parts of a name."""
    match = NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise Fault("tensor-name")
    layer, expert = match["layer"], match["expert"]
    return {
        "stack": match["stack"],
        "layer": None if layer is None else int(layer),
        "role": match["role"],
        "expert": None if expert is None else int(expert),
        "factor": match["factor"],
    }


# Binders


class Config:
    """binding.md, How a field is looked up: the config of one model, as its model type reads it."""

    def __init__(self, whole: dict[str, Any], model_type: dict[str, Any]) -> None:
        self.whole = whole
        self.inner = _descend(whole, model_type["config"]) if "config" in model_type else whole
        self.defaults: dict[str, Any] = model_type.get("defaults", {})

    def field(self, name: str) -> Any:
        """The value of a field; `None` where it is absent, since every use takes that as `null`."""
        value = self.whole["model_type"] if name == "model_type" else _descend(self.inner, name)
        return self.defaults.get(name) if value is ABSENT else value

    def yielded(self, way: Any) -> Any:
        """binding.md, How a number is found: step 2; an integer is an `int`."""
        if not isinstance(way, dict):
            return _plain_number(self.field(way) if isinstance(way, str) else way)
        [(kind, (first, second))] = way.items()
        if kind == "when":
            return self.yielded(second) if self.holds(first) else None
        if kind == "item":
            return _plain_number(_list_item(self.field(first), int(second)))
        a, b = self.yielded(first), self.yielded(second)
        return None if a is None or b is None else _computed(kind, a, b)

    def number(self, ways: list[Any]) -> Any:
        """binding.md, How a number is found: the first way that yields a number above 0."""
        return next((value for value in map(self.yielded, ways) if value is not None and value > 0), None)

    def size(self, ways: list[Any], limit: int = MAX_SIZE) -> int | None:
        """binding.md, How a number is found: a dimension or `vocab_size` is whole and not above its limit."""
        value = self.number(ways)
        if value is not None and (not isinstance(value, int) or value > limit):
            raise Fault("binder-data")
        return value

    def holds(self, condition: dict[str, Any]) -> bool:
        """binding.md, Conditions."""
        return _is_one_of(self.field(condition["field"]), condition["values"])

    def admits(self, item: dict[str, Any]) -> bool:
        """binder.md, Property descriptions: `when` and `unless` of a module."""
        if not all(map(self.holds, item.get("when", []))):
            return False
        return "unless" not in item or not all(map(self.holds, item["unless"]))


ABSENT = object()


def _descend(value: Any, path: str) -> Any:
    """binding.md, How a field is looked up: level by level."""
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return ABSENT
        value = value[name]
    return value


def _plain_number(value: Any) -> Any:
    """binding.md, How a number is found: a number, an integer as `int`; `None` for anything else."""
    if not _is_number(value) or math.isnan(_nearest_double(value)):
        return None
    if math.isinf(_nearest_double(value)):
        return _nearest_double(value)
    return int(value) if _is_integer(value) else value


def _list_item(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list) and index < len(value) else None


def _nearest_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _computed(kind: str, a: Any, b: Any) -> Any:
    """binding.md, How a number is found: step 2, of two numbers."""
    if kind == "quotient":
        return None if b == 0 else _plain_number(_nearest_double(a) / _nearest_double(b))
    if not (isinstance(a, int) and isinstance(b, int)):
        a, b = _nearest_double(a), _nearest_double(b)
    return _plain_number(a * b if kind == "product" else a + b)


def _is_one_of(value: Any, values: list[Any]) -> bool:
    """binding.md, Conditions: two values are equal where their canonical forms are."""
    found = canonical(value)
    return any(found == canonical(item) for item in values)


def _block_condition(config: Config, condition: dict[str, Any]) -> Callable[[int], bool]:
    """binding.md, Conditions on a block."""
    if "item_of" in condition:
        items, values = config.field(condition["item_of"]), condition["values"]
        return lambda block: _is_one_of(_list_item(items, block), values)
    if "every" in condition:
        period, shift = config.yielded(condition["every"]), int(condition.get("shift", 0))
        if not isinstance(period, int) or period <= 0:
            raise Fault("binder-data")
        return lambda block: (block + shift) % period == 0
    for name, is_wanted in (("in", True), ("not_in", False)):
        if name in condition:
            listed = _indices(config.field(condition[name]))
            return lambda block: (block in listed) is is_wanted
    first, end = (config.yielded(condition[name]) if name in condition else None for name in ("from", "before"))
    return lambda block: (first is None or block >= first) and (end is None or block < end)


def _indices(value: Any) -> set[int]:
    """binding.md, Conditions on a block: the list of `in` or `not_in`."""
    if value is None:
        return set()
    if not isinstance(value, list) or not all(map(_is_integer, value)):
        raise Fault("binder-data")
    return set(map(int, value))


def _existing_layers(config: Config, module: dict[str, Any], count: int) -> set[int]:
    """binder.md, Property descriptions: the blocks that `layers` and `unless_layers` leave."""
    wanted = [_block_condition(config, item) for item in module.get("layers", [])]
    unwanted = [_block_condition(config, item) for item in module.get("unless_layers", [])]
    return {
        block
        for block in range(count)
        if all(holds(block) for holds in wanted) and not (unwanted and all(holds(block) for holds in unwanted))
    }


def _find_edition(binder: dict[str, Any], model_type: dict[str, Any], wanted: str | None) -> str | None:
    """binding.md, Edition."""
    editions = binder.get("editions", [])
    if wanted is None:
        return editions[0] if editions else None
    if wanted not in editions[:1] and wanted not in model_type.get("older_editions", {}):
        raise Fault("binder-data")
    return wanted


def _classes(model_type: dict[str, Any], edition: str | None) -> dict[str, list[str]]:
    """binding.md, Edition: what `classes` is."""
    classes: dict[str, list[str]] = model_type.get("older_editions", {}).get(edition) or model_type["classes"]
    return classes


def _find_class(
    model_type: dict[str, Any], classes: dict[str, list[str]], config: dict[str, Any], model_class: str | None
) -> tuple[str, str]:
    """binding.md, Prefix: the prefix, and the class that decides."""
    architectures = config.get("architectures")
    named = [model_class, *(architectures if isinstance(architectures, list) else []), model_type["default_class"]]
    prefixes = {name: prefix for prefix, names in classes.items() for name in names}
    return next((prefixes[name], name) for name in named if isinstance(name, str) and name in prefixes)


@dataclass(frozen=True)
class Module:
    """binding.md, Slots of a module: a module of a stack, with the blocks in which it exists."""

    stack: Stack
    data: dict[str, Any]
    layers: set[int]
    ending: re.Pattern[str]


OPTIONAL_SIZES = frozenset(
    (
        "value_head_dim",
        "rotary_head_dim",
        "embedding_size",
        "num_experts",
        "expert_intermediate_size",
        "shared_intermediate_size",
        "query_latent_size",
        "key_value_latent_size",
        "state_size",
        "time_step_rank",
        "layer_repeats",
    )
)
"""binding.md, How a number is found: the dimensions that may be absent where no way yields them."""

COUNTS = {"per_head": "num_attention_heads", "grouped": "num_key_value_heads"}
"""binding.md, Slots of a module: the layouts whose `count` is a dimension."""


class Modules:
    """binding.md, Slots of a module: the modules of one model; a path is looked up, the map is never written out."""

    def __init__(
        self, binder: dict[str, Any], config: dict[str, Any], model_class: str | None, edition: str | None
    ) -> None:
        model_type = binder["model_types"][config["model_type"]]
        self.config = Config(config, model_type)
        self.edition = _find_edition(binder, model_type, edition)
        self.prefix, name = _find_class(model_type, _classes(model_type, self.edition), config, model_class)
        self.held = model_type.get("partial", {}).get(name)
        self._check_known(binder.get("known_values", {}))
        self.vocabulary = self._required(self.config.size(binder["vocab_size"]))
        self.stacks = [self._dimensions(stack) for stack in binder["stacks"]]
        pairs = zip(self.stacks, binder["stacks"], strict=True)
        self.modules = [module for stack, data in pairs for module in self._modules(stack, data["modules"])]
        self.outer = dict(map(self._outer, filter(self._has_outer, binder["outer"])))

    @staticmethod
    def _required(size: int | None) -> int:
        if size is None:
            raise Fault("binder-data")
        return size

    def _check_known(self, known: dict[str, list[Any]]) -> None:
        """binder.md, Property descriptions: `known_values`."""
        if not all(_is_one_of(self.config.field(name), values) for name, values in known.items()):
            raise Fault("binder-data")

    def _dimensions(self, data: dict[str, Any]) -> Stack:
        """binding.md, How a number is found: every dimension that a stack names."""
        head, _, tail = data["path"].partition("{layer}.")
        stack: Stack = {"name": data.get("name"), "head": self.prefix + head, "tail": tail}
        for name, ways in data["dimensions"].items():
            size = self.config.size(ways, MAX_COUNT if name in ("num_layers", "num_experts") else MAX_SIZE)
            if name not in OPTIONAL_SIZES:
                size = self._required(size)
            stack |= {} if size is None else {name: size}
        return stack

    def _holds_stack(self, stack: Stack) -> bool:
        """binding.md, Prefix: step 3."""
        return self.held is None or stack["name"] in self.held

    def _exists(self, item: dict[str, Any]) -> bool:
        """binding.md, Edition; binder.md, Property descriptions: `when` and `unless`."""
        return item.get("edition", self.edition) == self.edition and self.config.admits(item)

    def _modules(self, stack: Stack, items: list[dict[str, Any]]) -> Iterator[Module]:
        """binding.md, Slots of a module: those that exist; whatever is wrong with one is found here."""
        for data in items if self._holds_stack(stack) else []:
            if not self._exists(data):
                continue
            layers = _existing_layers(self.config, data, stack["num_layers"])
            module = Module(stack, data, layers, _ending(stack["tail"], data))
            has_experts = "parameter" in data or "{expert}" in data["path"]
            if layers and (not has_experts or "num_experts" in stack):
                self._one_matrix(module, 0, 0 if has_experts else None)
                yield module

    def _stack_of_outer(self, item: dict[str, Any]) -> Stack:
        return next((stack for stack in self.stacks if stack["name"] == item.get("stack")), self.stacks[0])

    def _has_outer(self, item: dict[str, Any]) -> bool:
        return self._holds_stack(self._stack_of_outer(item)) and self._exists(item)

    def _outer(self, item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        path = (self.prefix if item["within"] == "backbone" else "") + item["path"]
        return path, self._slot(self._stack_of_outer(item), None, item["role"], None)

    def slots(self, path: str) -> list[dict[str, Any]] | None:
        """binding.md, Resolving a path: where two modules have one path, the later decides."""
        if path in self.outer:
            return [self.outer[path]]
        for module in reversed(self.modules):
            head = module.stack["head"]
            digits, dot, rest = path.removeprefix(head).partition(".")
            if not path.startswith(head) or not dot or not re.fullmatch("0|[1-9][0-9]{0,8}", digits):
                continue
            match = module.ending.fullmatch(rest)
            expert = int(match[1]) if match and module.ending.groups else None
            is_expert = expert is None or expert < module.stack["num_experts"]
            if match and is_expert and int(digits) in module.layers:
                return self._module_slots(module, int(digits), expert)
        return None

    def _module_slots(self, module: Module, layer: int, expert: int | None) -> list[dict[str, Any]]:
        """binding.md, Slots of a module: those of one path."""
        experts = range(module.stack["num_experts"]) if "parameter" in module.data else [expert]
        return [slot for index in experts for slot in self._one_matrix(module, layer, index)]

    def _one_matrix(self, module: Module, layer: int, expert: int | None) -> list[dict[str, Any]]:
        """binding.md, Slots of a module: those of a module or of one expert's matrix, with their rows."""
        slots = [self._slot(module.stack, layer, role, expert) for role in module.data["roles"]]
        if len(slots) > 1:
            lengths = [slot["out_features"] for slot in slots]
            for index, slot in enumerate(slots):
                slot["rows"] = _rows(module.data["layout"], module.stack, lengths, index)
        return slots

    def _slot(self, stack: Stack, layer: int | None, role: str, expert: int | None) -> dict[str, Any]:
        into, out = (axis_length(axis, stack, self.stacks, self.vocabulary, expert) for axis in ROLES[role][:2])
        if into is None or out is None or into <= 0 or out <= 0:
            raise Fault("binder-data")
        return {
            "stack": stack["name"],
            "layer": layer,
            "role": role,
            "expert": expert,
            "in_features": into,
            "out_features": out,
            "rows": None,
        }


def _ending(tail: str, module: dict[str, Any]) -> re.Pattern[str]:
    """binding.md, Slots of a module: what follows the layer in a path; a group for the index of an expert."""
    text = tail + module["path"] + (f".{module['parameter']}" if "parameter" in module else "")
    first, *others = map(re.escape, text.split("{expert}"))
    return re.compile(first + "".join((r"\1" if i else "(0|[1-9][0-9]{0,9})") + part for i, part in enumerate(others)))


def _rows(layout: str, stack: Stack, lengths: list[int], index: int) -> dict[str, int]:
    """binding.md, Slots of a module: the rows of one role of a fused module."""
    count = {"contiguous": 1, "interleaved": lengths[index]}.get(layout) or stack.get(COUNTS.get(layout, ""))
    if not count or any(length % count for length in lengths):
        raise Fault("binder-data")
    blocks = [length // count for length in lengths]
    stride = blocks[index] if layout == "contiguous" else sum(blocks)
    return {"offset": sum(blocks[:index]), "block": blocks[index], "stride": stride, "count": count}


def _read_binder(path: str) -> dict[str, Any]:
    """binder.md, Property descriptions."""
    binder: dict[str, Any] = _read_document(path, MAX_HEADER)
    if schema_places("binder", binder, "binder"):
        raise Fault("binder-data")
    editions = binder.get("editions", [])
    for model_type in binder["model_types"].values():
        older = model_type.get("older_editions", {})
        for classes in (_classes(model_type, edition) for edition in (None, *older)):
            if not any(model_type["default_class"] in names for names in classes.values()):
                raise Fault("binder-data")
        if not set(older) <= set(editions[1:]):
            raise Fault("binder-data")
    modules = [*binder["outer"], *(module for stack in binder["stacks"] for module in stack["modules"])]
    if any(module["edition"] not in editions for module in modules if "edition" in module):
        raise Fault("binder-data")
    return binder


def _read_config(path: str) -> dict[str, Any]:
    """binding.md, The config."""
    config = _read_document(path, MAX_CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise Fault("binder-data")
    return config


def resolve(
    binder: str, config: str, model_class: str | None, edition: str | None, modules: list[str]
) -> dict[str, Any]:
    """conformance.md, Protocol: the slots of module paths."""
    try:
        document, values = _read_binder(binder), _read_config(config)
    except Fault:
        raise Fault("binder-data") from None
    if values["model_type"] not in document["model_types"]:
        raise Fault("unknown-architecture")
    model = Modules(document, values, model_class, edition)
    return {path: model.slots(path) for path in modules}


# Line protocol


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """conformance.md, Protocol: the answer to a request, without its id."""
    operation = request.get("operation")
    if operation == "validate":
        return validate(request["path"])
    if operation == "canonicalize":
        return {"canonical": canonicalize(request["path"])}
    if operation == "tensor_digest":
        return {"digest": tensor_digest(request["path"])}
    if operation == "parse_name":
        return parse_name(request["name"])
    if operation == "resolve":
        options = (request.get("model_class"), request.get("edition"))
        return {"slots": resolve(request["binder"], request["config"], *options, request["modules"])}
    raise Fault("unknown-operation")


def _reply(line: bytes) -> dict[str, Any]:
    """conformance.md, Protocol: a request that cannot be understood is one of an unknown operation."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return {"id": None, "code": "unknown-operation"}
    identity = {"id": request.get("id")}
    try:
        return identity | _answer(request)
    except Fault as fault:
        return identity | {"code": fault.code}
    except (KeyError, TypeError, AttributeError):
        return identity | {"code": "unknown-operation"}


def main() -> None:
    """conformance.md, Protocol: one request a line, one answer a line."""
    _documents()
    for line in sys.stdin.buffer:
        if line.strip():
            sys.stdout.write(json.dumps(_reply(line)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
