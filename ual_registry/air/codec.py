"""Dataclass to document and back, in one place for every document of the package.

A document is decoded only after its schema was checked, so decoding decides nothing: it follows the annotations.
Fields that are ``None`` or empty are left out of the document, unless the class says that they are required.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ual_registry.air.canonical import freeze

__all__ = ["decode", "encode"]

T = TypeVar("T")


def encode(value: Any) -> dict[str, Any]:
    """Turn a dataclass into a JSON object, defaults of absent fields left out."""
    document: dict[str, Any] = {}
    for name, is_required in _members(type(value)):  # type: ignore[arg-type]  # a class is hashable
        item = getattr(value, name)
        if type(item) in _AS_THEY_ARE and item != "":
            document[name] = item
        elif is_required or not _is_empty(item):
            document[name] = _encode_value(item)
    return document


@functools.cache
def _members(kind: type[Any]) -> tuple[tuple[str, bool], ...]:
    """Return the name of every field, and whether the class requires it."""
    return tuple(
        (field.name, field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
        for field in dataclasses.fields(kind)
    )


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, tuple, Mapping)) and not value)


def _encode_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    if isinstance(value, tuple):
        return [_encode_value(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _encode_value(item) for key, item in value.items()}
    return value


def decode(kind: type[T], document: Mapping[str, Any]) -> T:
    """Turn a JSON object that follows its schema into the dataclass ``kind``.

    Unknown fields, which a newer minor version may add, are left out.
    """
    made: T = _builder(kind)(document)  # type: ignore[arg-type]  # a class is hashable
    return made


@functools.cache
def _builder(kind: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return what makes a ``kind`` of a JSON object.

    A frozen class sets every field through ``object.__setattr__``, which takes most of the time of reading a manifest.
    So each object is made by a class with the same slots that is not frozen, and then becomes what it shall be.
    """
    hints = {name: _without_none(hint) for name, hint in typing.get_type_hints(kind).items()}
    decoders = [(name, _decoder(hint)) for name, hint in hints.items() if hint not in _AS_THEY_ARE]
    thawed = dataclasses.make_dataclass(kind.__name__, _fields(kind), slots=True, kw_only=True)

    def build(document: Mapping[str, Any]) -> Any:
        found = {**document} if document.keys() <= hints.keys() else {k: document[k] for k in document if k in hints}
        for name, decoder in decoders:
            if name in found:
                found[name] = decoder(found[name])
        made = thawed(**found)
        made.__class__ = kind
        return made

    return build


def _fields(kind: type[Any]) -> list[tuple[str, Any, Any]]:
    return [
        (item.name, item.type, dataclasses.field(default=item.default, default_factory=item.default_factory))
        for item in dataclasses.fields(kind)
    ]


_AS_THEY_ARE = (str, int, bool)
"""What a document that follows its schema holds in the form of the dataclass."""


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _decoder(hint: Any) -> Callable[[Any], Any]:
    """Return what turns a JSON value into what an annotation says."""
    if dataclasses.is_dataclass(hint):
        return _builder(typing.cast("type[Any]", hint))  # type: ignore[arg-type]  # a class is hashable
    if typing.get_origin(hint) is tuple:
        item_decoder = _decoder(typing.get_args(hint)[0])
        return lambda value: tuple([item_decoder(item) for item in value])  # faster than a generator
    if typing.get_origin(hint) is Mapping and dataclasses.is_dataclass(typing.get_args(hint)[1]):
        value_decoder = _decoder(typing.get_args(hint)[1])
        return lambda value: types.MappingProxyType({key: value_decoder(item) for key, item in value.items()})
    return float if hint is float else freeze
