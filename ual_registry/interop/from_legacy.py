"""The JSON form of ual-adapter 0.1 to an adapter: what it says is carried, what it lost is told.

Its documentation defines the update as ``(alpha / rank) * B @ A`` with ``lora_A`` of shape (rank, in_features) and
``lora_B`` of shape (out_features, rank), which is AIR's own orientation.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import freeze
from ual_registry.air.model import Entry, Manifest, Method, Statement
from ual_registry.air.tensor import Tensor
from ual_registry.air.versions import AIR_VERSION
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import bind
from ual_registry.binders.describe import describe_base
from ual_registry.binders.slots import Slot, TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import ForeignFormatError
from ual_registry.interop.legacy import PRODUCT, read_document, refusal

__all__ = ["LegacyAdapter", "from_legacy"]

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z\Z")
_FIELDS = ("semantic_role", "layer_index", "lora_A", "lora_B", "original_shape", "rank")


@dataclass(frozen=True, slots=True)
class LegacyAdapter:
    """An adapter made of the predecessor's JSON form.

    Attributes:
        adapter: The adapter; its tensors are in memory.
        losses: What the form does not say and what was taken instead, one sentence each.
    """

    adapter: Adapter
    losses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One item of ``adapters``, its matrices as tensors."""

    place: str
    role: str
    layer: int
    rank: int
    lora_A: Tensor
    lora_B: Tensor


class _Reader:
    """Takes fields out of one document and says where it is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fault(self, place: str, message: str) -> ForeignFormatError:
        return refusal(f"{place}: {message}", code="legacy-document", path=self.path)

    def object(self, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fault(place, "expected an object")
        return value

    def text(self, document: Mapping[str, Any], key: str, place: str) -> str:
        value = document.get(key) or ""
        if not isinstance(value, str):
            raise self.fault(f"{place}.{key}", "expected a string")
        return value

    def whole(self, document: Mapping[str, Any], key: str, place: str, *, least: int) -> int:
        value = document.get(key)
        if type(value) is not int or value < least:
            raise self.fault(f"{place}.{key}", f"{value!r}: expected an integer from {least}")
        return value

    def number(self, document: Mapping[str, Any], key: str, place: str) -> float:
        value = document.get(key)
        if type(value) not in (int, float):
            raise self.fault(f"{place}.{key}", f"{value!r}: expected a number; without it the scaling is unknown")
        return float(value)  # type: ignore[arg-type]  # a number, as was checked

    def matrix(self, value: Any, place: str) -> Tensor:
        """Read a list of rows; F32 where that holds every number exactly, F64 where it does not."""
        if not isinstance(value, list) or not value or not all(isinstance(row, list) and row for row in value):
            raise self.fault(place, "expected a list of rows")
        if len({len(row) for row in value}) > 1:
            raise self.fault(place, "expected rows of one length")
        numbers = [number for row in value for number in row]
        if not {type(number) for number in numbers} <= {int, float}:
            raise self.fault(place, "expected numbers")
        return _tensor(numbers, (len(value), len(value[0])))


def _tensor(numbers: list[float], shape: tuple[int, int]) -> Tensor:
    try:
        data = struct.pack(f"<{len(numbers)}f", *numbers)
        is_exact = list(struct.unpack(f"<{len(numbers)}f", data)) == numbers
    except OverflowError:
        is_exact = False
    if is_exact:
        return Tensor.of_bytes("F32", shape, data)
    return Tensor.of_bytes("F64", shape, struct.pack(f"<{len(numbers)}d", *numbers))


def from_legacy(
    path: Path, base: BaseConfig, *, base_id: str | None = None, base_revision: str | None = None
) -> LegacyAdapter:
    """Describe a JSON file of the predecessor in AIR's terms.

    Args:
        path: The file.
        base: The base model that the adapter was trained on.
        base_id: Its label; by default the one in the file.
        base_revision: Its commit; the file never names one.

    Raises:
        ForeignFormatError: The file is no such document, or does not fit the base model.
        BinderError: The base model is unknown.
        StorageError: The file cannot be read.
    """
    reader = _Reader(path)
    document = reader.object(read_document(path), "document")
    metadata = reader.object(document.get("metadata"), "metadata")
    alpha = reader.number(metadata, "alpha", "metadata")
    records = _records(reader, document)
    label = base_id or reader.text(metadata, "source_model", "metadata") or None
    places = _Places(path, base)
    model = replace(describe_base(base, id=label, revision=base_revision), model_class=places.model_class)
    tensors: dict[str, Tensor] = {}
    entries: dict[tuple[str, int, str, int], Entry] = {}
    for record in records:
        for entry, parts in places.entries(record, alpha / record.rank):
            if entry.key in entries:
                raise reader.fault(record.place, f"{entry.label} is held twice")
            entries[entry.key] = entry
            tensors.update(parts)
    manifest = Manifest(
        air_version=AIR_VERSION,
        kind="adapter",
        base_model=model,
        method=_method(reader, metadata, records, alpha),
        entries=tuple(entries[key] for key in sorted(entries)),
        description=reader.text(metadata, "description", "metadata") or None,
        domain=reader.text(metadata, "domain", "metadata") or None,
        created_at=_time(metadata),
    )
    losses = tuple(_losses(manifest, places))
    manifest = replace(manifest, provenance=(_statement(path, metadata, base, losses),))
    return LegacyAdapter(Adapter(manifest, tensors), losses)


def _records(reader: _Reader, document: Mapping[str, Any]) -> list[_Record]:
    unknown = sorted(document.keys() - {"metadata", "adapters"})
    if unknown:
        raise reader.fault(unknown[0], "unknown field, which may change what the adapter does")
    found = document.get("adapters")
    if not isinstance(found, list) or not found:
        raise reader.fault("adapters", "expected a list of entries")
    return [_record(reader, item, f"adapters[{index}]") for index, item in enumerate(found)]


def _record(reader: _Reader, value: Any, place: str) -> _Record:
    item = reader.object(value, place)
    unknown = sorted(item.keys() - set(_FIELDS))
    if unknown:
        raise reader.fault(f"{place}.{unknown[0]}", "unknown field, which may change what the entry does")
    role = reader.text(item, "semantic_role", place)
    layer, rank = (reader.whole(item, key, place, least=least) for key, least in (("layer_index", 0), ("rank", 1)))
    lora_A, lora_B = (reader.matrix(item.get(key), f"{place}.{key}") for key in ("lora_A", "lora_B"))
    if lora_A.shape[0] != rank or lora_B.shape[1] != rank:
        raise reader.fault(place, f"lora_A {lora_A.shape} and lora_B {lora_B.shape} do not match rank {rank}")
    sizes = [lora_B.shape[0], lora_A.shape[1]]
    stated = item.get("original_shape", sizes)
    if stated not in (sizes, sizes[::-1]):  # Conv1D weights stand transposed
        raise reader.fault(f"{place}.original_shape", f"{stated!r} does not match the factors, which are of {sizes}")
    return _Record(place=place, role=role, layer=layer, rank=rank, lora_A=lora_A, lora_B=lora_B)


class _Places:
    """Finds the place of each record in the base model."""

    def __init__(self, path: Path, base: BaseConfig) -> None:
        self.path = path
        self.base = base
        binding = bind(base)
        kind = binding.binder.model_types[base.model_type]
        self.model_class = next((name for name in base.model_classes if name in kind.class_names), kind.default_class)
        self.slots = binding.slots()
        self.fused: set[str] = set()

    def entries(self, record: _Record, scaling: float) -> Iterator[tuple[Entry, dict[str, Tensor]]]:
        """Yield the entries of a record: one, or one for each role where the record holds a whole fused module."""
        module, slot = self._slot(record)
        got = (record.lora_B.shape[0], record.lora_A.shape[1])
        whole = (sum(item.out_features for item in module.slots), slot.in_features)
        if got == (slot.out_features, slot.in_features):
            yield _entry(record, module, (slot, slot), scaling, record.lora_B)
        elif got == whole and record.role == module.slots[0].role:
            self.fused.add(module.path)
            for own in module.slots:
                assert own.rows is not None  # more than one slot: fused
                yield _entry(record, module, (own, module.slots[0]), scaling, record.lora_B.take_rows(own.rows))
        else:
            raise self._misfit(
                record, f"update of {got[0]} x {got[1]}, the base model has {slot.out_features} x {slot.in_features}"
            )

    def _slot(self, record: _Record) -> tuple[TargetModule, Slot]:
        found = self.slots.get((None, record.layer, record.role, None))
        if found is None:
            raise self._misfit(record, f"{self.base.label} has no {record.role or 'role'} in layer {record.layer}")
        return found

    def _misfit(self, record: _Record, message: str) -> ForeignFormatError:
        return refusal(
            f"{record.place}: {message}",
            code="legacy-misfit",
            path=self.path,
            hint="give the base model that it was trained on; the format also took some modules for others, "
            "such as a second MLP projection for attention_output, and such an entry has no place to go to",
        )


def _entry(
    record: _Record, module: TargetModule, slots: tuple[Slot, Slot], scaling: float, lora_B: Tensor
) -> tuple[Entry, dict[str, Tensor]]:
    """Make an entry of one slot, which takes its ``lora_A`` from the second."""
    slot, shared = slots
    name_a = shared.tensor_name("lora_A")
    name_b = slot.tensor_name("lora_B")
    entry = Entry(
        layer=slot.layer,
        role=slot.role,
        in_features=slot.in_features,
        out_features=slot.out_features,
        rank=record.rank,
        scaling=scaling,
        source=module.path,
        slice=slot.rows,
        lora_A=name_a,
        lora_B=name_b,
    )
    return entry, {name_a: record.lora_A, name_b: lora_B}


def _method(reader: _Reader, metadata: Mapping[str, Any], records: list[_Record], alpha: float) -> Method:
    rank = reader.whole(metadata, "rank", "metadata", least=1) if "rank" in metadata else records[0].rank
    return Method(type="lora", rank=rank, alpha=alpha, scaling_rule="alpha/rank", dropout=0.0, bias="none", dora=False)


def _time(metadata: Mapping[str, Any]) -> str | None:
    value = metadata.get("created_at")
    return value if isinstance(value, str) and _TIME.match(value) else None


def _losses(manifest: Manifest, places: _Places) -> Iterator[str]:
    yield "tensors that had no role were dropped when the file was made, without a record"
    if manifest.base_model.revision is None:
        yield "the base model was not pinned to a commit"
    yield f"alpha {manifest.method.alpha:g} stands in the file alone; nothing ties it to the factors"
    yield "dropout was not recorded and is written as 0"
    yield "module paths were not recorded; those of the architecture were taken"
    if places.fused:
        names = ", ".join(sorted(places.fused))
        yield f"fused modules stood under one role and were split by the architecture: {names}"


def _statement(path: Path, metadata: Mapping[str, Any], base: BaseConfig, losses: tuple[str, ...]) -> Statement:
    """Record the conversion, the file's metadata verbatim among its settings."""
    return Statement(
        type="conversion",
        builder={"name": "ual-registry", "version": version("ual-registry")},
        parameters={"from_format": PRODUCT, "to_format": "air", "settings": {"metadata": freeze(metadata)}},
        materials=(
            {"name": "source file", "digest": str(Digest.of_file(path))},
            {"name": "base config", "digest": str(base.digest)},
        ),
        byproducts={"lost": losses},
    )
