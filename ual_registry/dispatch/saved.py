"""A dispatcher on disk: a router file, and beside it a JSON document of references and fallback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.dispatch.answer import Fallback
from ual_registry.dispatch.router import Router
from ual_registry.errors import RouteError
from ual_registry.storage import atomic_folder, check_target, read_file

__all__ = ["read_dispatcher", "write_dispatcher"]

_ROUTER = "router.air"
_DOCUMENT = "dispatcher.json"
_VERSION = "1.0"
_MAX_BYTES = 16 << 20


def write_dispatcher(
    folder: Path, router: Router, references: Mapping[str, str], fallback: Fallback, *, force: bool = False
) -> None:
    """Write a dispatcher; nothing is left behind where that fails.

    Args:
        folder: Where to.
        router: Its router.
        references: References of adapters by domain.
        fallback: What answers where no adapter does.
        force: Whether to replace a dispatcher that is there.

    Raises:
        RouteError: The fallback is a function.
        StorageError: The file system refuses.
    """
    if not isinstance(fallback, str):
        raise RouteError(
            "the fallback is a function, which no file can hold",
            code="fallback",
            hint="set fallback to 'base', 'refuse' or a reference before saving, and give the function to load",
        )
    check_target(folder, force=force, replaceable=_DOCUMENT)
    document = {"version": _VERSION, "fallback": fallback, "adapters": dict(sorted(references.items()))}
    with atomic_folder(folder) as place:
        router.save(place / _ROUTER)
        (place / _DOCUMENT).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_dispatcher(folder: Path) -> tuple[Router, dict[str, str], str]:
    """Return router, references and fallback.

    Raises:
        RouteError: The document is not what ``write_dispatcher`` writes.
        UALError: A file cannot be read, or the router is broken.
    """
    path = folder / _DOCUMENT
    document: Any = parse_json(read_file(path, limit_bytes=_MAX_BYTES), what=str(path))
    fields = document if isinstance(document, dict) else {}
    references: Any = fields.get("adapters")
    fallback: Any = fields.get("fallback")
    is_known = fields.keys() == {"version", "fallback", "adapters"} and fields["version"] == _VERSION
    is_fit = isinstance(references, dict) and all(isinstance(own, str) for own in references.values())
    if not is_known or not is_fit or not isinstance(fallback, str):
        raise RouteError(
            f"{path}: expected version {_VERSION} with fallback and adapters by domain",
            code="dispatcher",
            context={"path": str(path)},
        )
    return Router.load(folder / _ROUTER), dict(references), fallback
