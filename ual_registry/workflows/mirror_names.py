"""What a mirrored adapter is called at the other end, in a way that can be undone.

In the registry it is ``OWNER.NAME``, so that repositories of two owners never become revisions of one adapter; one that
lies in a folder is ``OWNER.NAME--FOLDER``. The Hub allows no dot in the name of an owner and no ``--`` in that of a
repository, so that the parts are found again on the way back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from ual_registry.errors import HubError, RegistryError
from ual_registry.hub.address import is_repository
from ual_registry.hub.choice import AIR_FILE, WEIGHTS_FILE
from ual_registry.workflows.pull_names import legal_name

__all__ = ["name_here", "place_there", "take_name"]

_BETWEEN = "--"
_SEVERAL = re.compile("-{2,}")


def name_here(repository: str, path: str, *, is_only: bool) -> str:
    """Return the name in the registry of an adapter of the Hub.

    Args:
        repository: Its repository.
        path: The AIR file, or the tensors of the PEFT pair.
        is_only: Whether the repository holds no other adapter, so that the file's own name tells nothing.

    >>> name_here("org/medical", "medical.air", is_only=True), name_here("org/medical", "fast.air", is_only=False)
    ('org.medical', 'org.medical--fast')
    >>> name_here("org/medical", "triage/v 2/adapter.air", is_only=False)
    'org.medical--triage--v-2'
    """
    pure = PurePosixPath(path)
    own = [] if is_only or pure.name in (AIR_FILE, WEIGHTS_FILE) else [pure.stem]
    parts = [_SEVERAL.sub("-", legal_name(part)) for part in (*pure.parts[:-1], *own)]
    return legal_name(_BETWEEN.join([repository.replace("/", "."), *parts]))


def take_name(repository: str, path: str, names: Mapping[str, str], *, is_only: bool) -> str:
    """Return the name of an adapter, if no other one of its repository has it.

    Args:
        repository: Its repository.
        path: As in ``name_here``.
        names: Paths by the names that are taken.
        is_only: As in ``name_here``.

    Raises:
        RegistryError: Another one has it (``name``).
    """
    name = name_here(repository, path, is_only=is_only)
    if name in names:
        raise RegistryError(
            f"{repository}: {names[name]} and {path} would both be called {name!r}",
            context={"repository": repository, "paths": [names[name], path]},
            code="name",
            hint=f"pull it by itself: 'ual pull {repository} --file {path} --name NAME'",
        )
    return name


def place_there(name: str, organisation: str) -> tuple[str, str | None]:
    """Return the repository of an adapter of the registry, and the folder in it.

    >>> place_there("org.medical--triage--fast", "org")
    ('org/medical', 'triage/fast')
    >>> place_there("other.medical", "org"), place_there("medical", "org")
    (('org/other.medical', None), ('org/medical', None))

    Raises:
        HubError: No repository may be called so (``hub-address``).
    """
    stem, *folders = name.removeprefix(f"{organisation}.").split(_BETWEEN)
    repository = f"{organisation}/{stem}"
    if not is_repository(repository) or not all(folders):
        raise HubError(
            f"{name}: no repository of the Hub may be called {repository!r}",
            context={"name": name, "repository": repository},
            code="hub-address",
            hint="push it by itself, to a repository of another name: 'ual push REF ORG/NAME'",
        )
    return repository, "/".join(folders) or None
