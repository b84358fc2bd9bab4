"""Files of ual-adapter 0.1, the predecessor: which they are, what of them can be read, and what they lost.

There are two forms. The one that its code wrote is a pair, ``NAME.weights.safetensors`` with ``NAME.metadata.json``,
whose tensors are named ``layer_3.attention_query``: both factors of a module had that one name, the second replaced
the first, so that no update can be made of a pair. The one that its documentation describes is a JSON file, mostly
called ``NAME.air``, with ``metadata`` and a list ``adapters`` of entries with their matrices inline; that can be
read, for the base model that it was trained on, which it does not name well enough.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.air.finite import is_finite
from ual_registry.air.header import METADATA_KEY, Header, open_header
from ual_registry.air.tensor import FLOAT_DTYPES, FileSource, Tensor
from ual_registry.errors import ContainerError, ForeignFormatError, FormatError, StorageError, UALError
from ual_registry.storage import read_file

__all__ = ["PRODUCT", "LegacyForm", "legacy_form", "legacy_hint", "pair_refusal", "read_document", "refusal"]

PRODUCT = "ual-adapter 0.1"
"""What the predecessor is called."""

_WEIGHTS = ".weights.safetensors"
_METADATA = ".metadata.json"
_MAX_METADATA_BYTES = 16 << 20
_MAX_DOCUMENT_BYTES = 256 << 20  # about ten million numbers, which take a gigabyte while they are read
_HEAD_BYTES = 4096
_PAIR_NAME = re.compile(r"layer_(?P<layer>0|[1-9][0-9]{0,8})\.(?P<role>[a-z_]+)\Z")
_DOCUMENT_KEY = re.compile(rb'"(adapters|metadata)"\s*:')
_PAIR_KEYS = {"source_architecture", "adapter_rank", "adapter_alpha"}


class LegacyForm(StrEnum):
    """The two forms."""

    PAIR = "pair"
    DOCUMENT = "document"


def legacy_form(path: Path) -> LegacyForm | None:
    """Tell which of the predecessor's forms a file has, by its own words; ``None`` for any other file."""
    try:
        if path.name.endswith(_METADATA):
            return LegacyForm.PAIR if _is_metadata(path) else None
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        return LegacyForm.DOCUMENT if _is_document(head) else LegacyForm.PAIR if _is_weights(path) else None
    except (OSError, UALError):
        return None


def _is_metadata(path: Path) -> bool:
    document = parse_json(read_file(path, limit_bytes=_MAX_METADATA_BYTES), what=path.name)
    return isinstance(document, dict) and document.keys() >= _PAIR_KEYS


def _is_document(head: bytes) -> bool:
    """A JSON text starts with a brace where a container has the length of its header, which holds zeros."""
    return (
        head.lstrip()[:1] == b"{"
        and b"\0" not in head[:8]
        and re.search(rb'"(adapters|metadata)"\s*:', head) is not None
    )


def _is_weights(path: Path) -> bool:
    header = _header(path)[0]
    return header.metadata.get("format") == METADATA_KEY and any(_PAIR_NAME.match(name) for name in header.infos)


def _header(path: Path) -> tuple[Header, dict[str, Tensor]]:
    source = FileSource(path)
    try:
        header = open_header(source)
    except ContainerError:
        source.close()
        raise
    return header, header.tensors(source)


def legacy_hint(path: Path) -> str | None:
    """Say what to do with a file of the predecessor; ``None`` for any other file."""
    form = legacy_form(path)
    if form is LegacyForm.DOCUMENT:
        return f"this is a JSON file of {PRODUCT}: 'ual convert {path} FILE.air --base BASE' first"
    if form is LegacyForm.PAIR:
        return f"this is a file of {PRODUCT}, which kept one factor of each module; convert the PEFT folder instead"
    return None


def refusal(message: str, *, code: str, path: Path, hint: str | None = None) -> ForeignFormatError:
    """Return the error for a file of the predecessor that nothing honest can be made of."""
    return ForeignFormatError(f"{path}: {message}", code=code, hint=hint, context={"path": str(path)})


def read_document(path: Path) -> Any:
    """Read a JSON file of the predecessor, strictly.

    Raises:
        ForeignFormatError: It is no strict JSON; a NaN in a factor is told here.
        StorageError: It cannot be read, or is over the limit.
    """
    data = read_file(path, limit_bytes=_MAX_DOCUMENT_BYTES)
    try:
        return parse_json(data, what=f"{PRODUCT} file")
    except FormatError as error:
        raise refusal(error.message, code="legacy-document", path=path) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """What a pair tells: its metadata, where there are any, and its tensors by layer and role."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def pair_refusal(path: Path) -> ForeignFormatError:
    """Return the error that says what a pair holds and why no adapter can be made of it.

    Raises:
        FormatError: A file of the pair is broken.
        StorageError: A file of the pair cannot be read.
    """
    stem = path.name.removesuffix(_METADATA).removesuffix(_WEIGHTS)
    pair = _Pair(
        metadata=_pair_metadata(path.with_name(stem + _METADATA)),
        tensors=_header(path.with_name(stem + _WEIGHTS) if path.name.endswith(_METADATA) else path)[1],
    )
    return refusal(
        f"holds one factor of each module where an update needs two: {PRODUCT} wrote lora_A and lora_B under one name, "
        f"and the second replaced the first; {_told(pair)}",
        code="legacy-overwritten",
        path=path,
        hint="convert the PEFT folder that it was made from: 'ual convert FOLDER FILE.air --base BASE'",
    )


def _pair_metadata(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(read_file(path, limit_bytes=_MAX_METADATA_BYTES), what=path.name)
    except StorageError:
        return {}
    return document if isinstance(document, dict) else {}


def _told(pair: _Pair) -> str:
    """Say what can still be read of a pair."""
    found = [match for name in pair.tensors if (match := _PAIR_NAME.match(name))]
    roles = Counter(match["role"] for match in found)
    layers = {int(match["layer"]) for match in found}
    parts = [f"{len(pair.tensors)} tensors in {len(layers)} layers ({', '.join(sorted(roles)) or 'no role'})"]
    parts += [
        f"{word} {pair.metadata[key]}"
        for key, word in (("source_model", "of"), ("adapter_rank", "rank"), ("adapter_alpha", "alpha"))
        if pair.metadata.get(key)
    ]
    broken = [
        name
        for name, tensor in sorted(pair.tensors.items())
        if tensor.dtype in FLOAT_DTYPES and not all(is_finite(tensor.dtype, chunk) for chunk in tensor.chunks())
    ]
    parts += [f"NaN or infinity in {', '.join(broken[:3])}"] if broken else []
    return "it still tells: " + ", ".join(parts)
