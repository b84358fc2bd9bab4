"""Find, check and decode binder documents: the shipped ones, those of installed packages, and those a user names.

An index says which shipped document holds a model type, so that a look-up reads one document and not all of them.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.canonical import parse_json
from ual_registry.air.codec import decode
from ual_registry.air.schema import schema_problems
from ual_registry.binders.model import Binder
from ual_registry.errors import (
    AmbiguousArchitectureError,
    BinderDataError,
    FormatError,
    UnknownArchitectureError,
)
from ual_registry.storage import read_at_most

__all__ = [
    "BINDERS_VARIABLE",
    "BINDER_SCHEMA",
    "ENTRY_POINTS",
    "INDEX",
    "binder_for",
    "decode_binder",
    "find_binder",
    "forget",
    "known_model_types",
    "load_binder",
    "load_binders",
    "make_index",
]

BINDER_SCHEMA = "1.0/binder.json"
BINDERS_VARIABLE = "UAL_BINDERS"
"""Environment variable: paths of further binder documents, separated as in ``PATH``."""
ENTRY_POINTS = "ual_registry.binders"
"""Entry points of installed packages: each names a package whose folder holds binder documents."""

_DATA = Path(__file__).resolve().parent / "data"
INDEX = _DATA.parent / "index.json"
"""Where the index of the shipped documents stands: architecture by model type."""

_MAX_BYTES = 100_000_000
"""Size of a document that must be read (spec: considerations, limits)."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A document and where it comes from."""

    path: Path
    what: str


def load_binders() -> tuple[Binder, ...]:
    """Return every binder, sorted by architecture: shipped, of installed packages, and of ``UAL_BINDERS``.

    Raises:
        BinderDataError: A document is wrong.
        AmbiguousArchitectureError: Two documents hold the same model type.
        StorageError: A document cannot be read.
    """
    shipped = tuple(_Source(path, path.name) for path in sorted(_DATA.glob("*.json")))
    found = [_read(source) for source in (*shipped, *_further(os.environ.get(BINDERS_VARIABLE, "")))]
    holders: dict[str, Binder] = {}
    for binder in found:
        for model_type in binder.model_types:
            if model_type in holders:
                raise _ambiguous(model_type, holders[model_type].architecture, binder.architecture)
            holders[model_type] = binder
    return tuple(sorted(found, key=lambda binder: binder.architecture))


def binder_for(model_type: str) -> Binder:
    """Return the binder of a model type, by exact look-up.

    Raises:
        UnknownArchitectureError: No binder holds this model type; the message names those that are known.
        AmbiguousArchitectureError: Two binders hold it.
        BinderDataError: A document is wrong.
    """
    found = [binder for binder in map(_read, _sources(model_type)) if model_type in binder.model_types]
    if len(found) > 1:
        raise _ambiguous(model_type, found[0].architecture, found[1].architecture)
    if not found:
        raise UnknownArchitectureError(
            f"no binder for model_type {model_type!r} ({_alike(model_type)})",
            context={"model_type": model_type},
            hint="'ual binder list' shows those that are known, 'ual binder infer BASE' may find one; "
            "see CONTRIBUTING.md, 'Add a binder'",
        )
    return found[0]


def _alike(model_type: str) -> str:
    """Name the known model types that are spelled alike, and say how many there are."""
    known = known_model_types()
    alike = difflib.get_close_matches(model_type.lower(), known, n=4)
    return f"alike: {', '.join(alike)}; known: {len(known)}" if alike else f"known: {len(known)}"


def find_binder(name: str) -> Binder:
    """Return a binder by its architecture or by one of its model types.

    Raises:
        UnknownArchitectureError: There is none; the message names those that are known.
    """
    binders = load_binders()
    for binder in binders:
        if name == binder.architecture or name in binder.model_types:
            return binder
    known = ", ".join(binder.architecture for binder in binders)
    raise UnknownArchitectureError(
        f"no binder for architecture or model_type {name!r} (architectures: {known})",
        context={"architecture": name},
        hint="`ual binder list` shows the model types of each",
    )


def known_model_types() -> list[str]:
    """Return every model type that some binder holds, sorted."""
    further = [_read(source) for source in _further(os.environ.get(BINDERS_VARIABLE, ""))]
    return sorted({*_index(), *(model_type for binder in further for model_type in binder.model_types)})


def load_binder(path: Path) -> Binder:
    """Read one binder document.

    Raises:
        BinderDataError: The document is not legal.
        StorageError: The file cannot be read.
    """
    return decode_binder(_bytes(path, path.name), what=path.name)


def decode_binder(data: bytes, *, what: str) -> Binder:
    """Check and decode one binder document.

    Args:
        data: The document's bytes.
        what: What to call it in messages.

    Raises:
        BinderDataError: The document is not legal.
    """
    try:
        document = parse_json(data, what=what)
    except FormatError as error:
        raise BinderDataError(error.message) from error
    for problem in schema_problems(BINDER_SCHEMA, document, root=what):
        raise BinderDataError(str(problem), context={"place": problem.place})
    binder = decode(Binder, document)
    for place, text in _faults(binder):
        raise BinderDataError(f"{what}.{place}: {text}", context={"place": f"{what}.{place}"})
    return binder


def _faults(binder: Binder) -> Iterator[tuple[str, str]]:
    """Yield place and text of what a schema cannot find."""
    older = binder.editions[1:]
    for model_type, kind in binder.model_types.items():
        place = f"model_types.{model_type}"
        for name in kind.older_editions:
            if name not in older:
                yield f"{place}.older_editions", f"{name!r} is no older one of editions"
        for edition in (None, *kind.older_editions):
            if kind.prefix_of(kind.default_class, edition) is None:
                classes = f"older_editions.{edition}" if edition else "classes"
                yield f"{place}.default_class", f"{kind.default_class!r} is not in {classes}"
    modules = [
        (f"stacks[{number}].modules[{index}]", module.edition)
        for number, stack in enumerate(binder.stacks)
        for index, module in enumerate(stack.modules)
    ]
    modules += [(f"outer[{index}]", item.edition) for index, item in enumerate(binder.outer)]
    for place, own in modules:
        if own is not None and own not in binder.editions:
            yield f"{place}.edition", f"{own!r} is none of editions"


def make_index() -> str:
    """Return the text of the index of the shipped documents."""
    index: dict[str, str] = {}
    for path in sorted(_DATA.glob("*.json")):
        for model_type in load_binder(path).model_types:
            if model_type in index:
                raise _ambiguous(model_type, index[model_type], path.stem)
            index[model_type] = path.stem
    return json.dumps(dict(sorted(index.items())), indent=2) + "\n"


def _sources(model_type: str) -> Iterator[_Source]:
    """Yield the documents that can hold a model type: the one that the index names, and all that are not shipped."""
    architecture = _index().get(model_type)
    if architecture is not None:
        yield _Source(_DATA / f"{architecture}.json", f"{architecture}.json")
    yield from _further(os.environ.get(BINDERS_VARIABLE, ""))


@functools.cache
def _index() -> Mapping[str, str]:
    index: Mapping[str, str] = json.loads(INDEX.read_bytes())
    return index


@functools.cache
def _further(variable: str) -> tuple[_Source, ...]:
    """Return the documents of installed packages and those that the variable names."""
    named = tuple(_Source(Path(path), path) for path in variable.split(os.pathsep) if path)
    return (*_installed(), *named)


def _installed() -> Iterator[_Source]:
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(point.value)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise BinderDataError(
                f"entry point {point.name!r} of {ENTRY_POINTS}: {point.value!r} is no installed package",
                context={"entry_point": point.name},
            )
        for folder in folders:
            for path in sorted(Path(folder).glob("*.json")):
                yield _Source(path, f"{point.value}/{path.name}")


def _read(source: _Source) -> Binder:
    return _decoded(source.what, _bytes(source.path, source.what))


def _bytes(path: Path, what: str) -> bytes:
    data = read_at_most(path, limit_bytes=_MAX_BYTES)
    if data is None:
        raise BinderDataError(f"{what}: over the limit of {_MAX_BYTES} bytes")
    return data


@functools.lru_cache(maxsize=512)
def _decoded(what: str, data: bytes) -> Binder:
    """Decode a document once for the same bytes."""
    return decode_binder(data, what=what)


def forget() -> None:
    """Forget which documents there are, for processes in which packages come and go."""
    _index.cache_clear()
    _further.cache_clear()


def _ambiguous(model_type: str, one: str, other: str) -> AmbiguousArchitectureError:
    return AmbiguousArchitectureError(
        f"model_type {model_type!r} is held by two binders, {one} and {other}",
        context={"model_type": model_type},
        hint=f"remove one of them from {BINDERS_VARIABLE} or from the installed packages, or rename its model type",
    )
