"""What is in the registry already of a repository of the Hub, so that nothing needs to be fetched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ual_registry.air.model import Manifest
from ual_registry.air.read import open_legal
from ual_registry.binders.base import load_base
from ual_registry.digest import Digest
from ual_registry.errors import RegistryNotFoundError, UALError
from ual_registry.hub.choice import RepositoryAdapter, is_air
from ual_registry.hub.model import Snapshot
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.records import AddResult, HubLink
from ual_registry.registry.registry import Registry

__all__ = ["find_held", "find_known", "is_sound", "keep", "local_base"]


def find_held(
    registry: Registry, snapshot: Snapshot, adapter: RepositoryAdapter, *, base: Digest | None = None
) -> Digest | None:
    """Return the digest under which an adapter of a repository is in the registry, its bytes verified.

    An AIR file is known by the digest that the Hub tells, wherever it came from. Where it tells none, and of a PEFT
    pair, a link tells what became of it.

    Args:
        registry: The registry.
        snapshot: The repository at one commit.
        adapter: The adapter.
        base: Digest of the base model's config that it must have been converted with; ``None`` leaves that open.
    """
    if adapter.form == "air" and adapter.file.sha256 is not None:
        digest = Digest(adapter.file.sha256)
        return digest if is_sound(registry, digest) else None
    links = registry.linked(snapshot.repository, commit=snapshot.commit, path=adapter.path)
    return _newest_sound(registry, links, None if adapter.form == "air" else base)


def find_known(
    registry: Registry,
    links: Iterable[HubLink],
    *,
    files: tuple[str, ...] = (),
    subfolder: str | None = None,
    all_of_them: bool = False,
    base: Digest | None = None,
) -> dict[str, Digest] | None:
    """Tell what is meant by links alone, without asking the Hub what else its repository holds.

    Where nothing is named, the only path of that commit that is linked here is meant.

    Args:
        registry: The registry.
        links: The links of a repository at one commit.
        files: The paths that are meant; empty leaves that open.
        subfolder: The folder that is meant.
        all_of_them: Whether everything that is known of will do, however much it is.
        base: As in ``find_held``.

    Returns:
        Digests by path, their bytes verified; ``None`` where the links do not tell, or a path is not here.
    """
    by_path: dict[str, list[HubLink]] = {}
    for link in links:
        by_path.setdefault(link.path, []).append(link)
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    wanted = list(dict.fromkeys(files)) or [path for path in sorted(by_path) if path.startswith(prefix)]
    if not wanted or not (files or all_of_them or len(wanted) == 1):
        return None
    found: dict[str, Digest] = {}
    for path in wanted:
        digest = _newest_sound(registry, by_path.get(path, ()), None if is_air(path) else base)
        if digest is None:
            return None
        found[path] = digest
    return found


def _newest_sound(registry: Registry, links: Iterable[HubLink], base: Digest | None) -> Digest | None:
    for link in reversed(list(links)):
        digest = Digest.parse(link.digest)
        if is_sound(registry, digest) and (base is None or _base_of(registry, digest) == str(base)):
            return digest
    return None


def is_sound(registry: Registry, digest: Digest) -> bool:
    """Tell whether the registry holds the bytes of an artifact, and they are what they were."""
    if not registry.blobs.place(digest).is_file():
        return False  # so the database needs not be asked
    try:
        return Digest.of_file(registry.find(str(digest))) == digest
    except RegistryNotFoundError:
        return False


def _base_of(registry: Registry, digest: Digest) -> str | None:
    """Return the digest of the base config that an artifact was made for."""
    try:
        found = open_legal(Path(registry.find(str(digest))))
    except UALError:
        return None
    found.source.close()
    return found.manifest.base_model.config_digest if isinstance(found.manifest, Manifest) else None


def local_base(base: str | None) -> Digest | None:
    """Return the digest of a base config that is here; ``None`` where the Hub would have to be asked."""
    return load_base(Path(base)).digest if base is not None and Path(base).exists() else None


def keep(registry: Registry, digest: Digest, order: AddOrder) -> AddResult:
    """Add what the registry holds under a name; nothing is copied where it has that name and nothing else is asked."""
    assert order.name is not None  # an adapter of the Hub is always named
    assert order.pulled_from is not None  # and came from somewhere
    numbers = [number for name, number in registry.held_as(digest) if name == order.name]
    if numbers and not order.aliases and not order.tags:
        place = order.pulled_from
        registry.link(
            digest,
            repository=place.repository,
            commit=place.commit,
            path=place.path,
            direction="pull",
            name=order.name,
        )
        return AddResult(name=order.name, number=numbers[0], digest=str(digest), is_new=False)
    return registry.add(
        registry.find(str(digest)),
        name=order.name,
        aliases=order.aliases,
        tags=order.tags,
        pulled_from=order.pulled_from,
    )
