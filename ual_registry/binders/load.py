"""Find and check the shipped binder documents."""

from __future__ import annotations

import functools
from pathlib import Path

from ual_registry.air.canonical import parse_json
from ual_registry.air.codec import decode
from ual_registry.air.schema import schema_problems
from ual_registry.binders.model import Binder
from ual_registry.errors import BinderDataError, FormatError, UnknownArchitectureError

__all__ = ["BINDER_SCHEMA", "binder_for", "decode_binder", "load_binders"]

BINDER_SCHEMA = "1.0/binder.json"

_DATA = Path(__file__).resolve().parent / "data"


@functools.cache
def load_binders() -> tuple[Binder, ...]:
    """Return every shipped binder, sorted by architecture.

    Raises:
        BinderDataError: A document is wrong; a test keeps this from happening in a release.
    """
    return tuple(decode_binder(path.read_bytes(), what=path.name) for path in sorted(_DATA.glob("*.json")))


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
    if binder.default_class not in binder.classes:
        raise BinderDataError(
            f"{what}.default_class: {binder.default_class!r} is not in classes",
            context={"place": f"{what}.default_class"},
        )
    return binder


def binder_for(model_type: str) -> Binder:
    """Return the binder of a model type, by exact look-up.

    Raises:
        UnknownArchitectureError: No binder lists this model type; the message lists those that are known.
    """
    for binder in load_binders():
        if model_type in binder.model_types:
            return binder
    known = ", ".join(sorted(name for binder in load_binders() for name in binder.model_types))
    raise UnknownArchitectureError(
        f"no binder for model_type {model_type!r} (known: {known})",
        context={"model_type": model_type},
        hint="see CONTRIBUTING.md, 'Add a binder'",
    )
