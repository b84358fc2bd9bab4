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
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if is_required or not _is_empty(item):
            document[field.name] = _encode_value(item)
    return document


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
    decoders = _decoders(kind)  # type: ignore[arg-type]  # a class is hashable
    return kind(**{name: decoders[name](item) for name, item in document.items() if name in decoders})


@functools.cache
def _decoders(kind: type[Any]) -> dict[str, Callable[[Any], Any]]:
    return {name: _decoder(_without_none(hint)) for name, hint in typing.get_type_hints(kind).items()}


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint


def _decoder(hint: Any) -> Callable[[Any], Any]:
    """Return what turns a JSON value into what an annotation says."""
    if dataclasses.is_dataclass(hint):
        return functools.partial(decode, typing.cast("type[Any]", hint))
    if typing.get_origin(hint) is tuple:
        item_decoder = _decoder(typing.get_args(hint)[0])
        return lambda value: tuple([item_decoder(item) for item in value])  # faster than a generator
    return float if hint is float else freeze
