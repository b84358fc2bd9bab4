"""What a pulled adapter is called in the registry where nobody says: after its repository, and where it lies there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ual_registry.errors import RegistryError
from ual_registry.hub.choice import AIR_FILE, WEIGHTS_FILE

__all__ = ["adapter_name", "adapter_names", "legal_name"]

_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_CHARACTERS = 128


def legal_name(text: str) -> str:
    """Return the nearest name that an adapter may have.

    >>> legal_name("my adapter (v2)"), legal_name("._"), legal_name("日本")
    ('my-adapter-v2', 'adapter', 'adapter')
    """
    return _ILLEGAL.sub("-", text).lstrip("._-").rstrip("-")[:_MAX_CHARACTERS] or "adapter"


def adapter_name(repository: str, path: str, *, is_only: bool, name: str | None = None) -> str:
    """Return what an adapter of a repository is called.

    Args:
        repository: The repository.
        path: The adapter's path in it.
        is_only: Whether it is the only one there, or the only one that is meant and named.
        name: What to call it, or to put before what tells several apart; by default the repository's name.

    >>> adapter_name("org/medical", "adapter.air", is_only=True)
    'medical'
    >>> adapter_name("org/medical", "triage/adapter.air", is_only=False)
    'medical-triage'
    """
    stem = name or repository.rpartition("/")[2]
    return legal_name(stem if is_only else "-".join([stem, *_parts(path)]))


def _parts(path: str) -> list[str]:
    """Return what tells an adapter from the others of its repository; the usual names of files tell nothing."""
    pure = PurePosixPath(path)
    folders = list(pure.parts[:-1])
    return folders if pure.name in (AIR_FILE, WEIGHTS_FILE) else [*folders, pure.stem]


def adapter_names(repository: str, paths: Iterable[str], *, is_only: bool, name: str | None = None) -> dict[str, str]:
    """Return what each of several adapters is called, by path; see ``adapter_name``.

    Raises:
        RegistryError: Two would be called the same.
    """
    names: dict[str, str] = {}
    for path in paths:
        new = adapter_name(repository, path, is_only=is_only, name=name)
        other = next((path for path, taken in names.items() if taken == new), None)
        if other is not None:
            raise RegistryError(
                f"{repository}: {other} and {path} would both be called {new!r}",
                code="name",
                context={"repository": repository, "paths": [other, path]},
                hint="pull them one by one, each with --file PATH --name NAME",
            )
        names[path] = new
    return names
