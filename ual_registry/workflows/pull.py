"""Pull adapters from the Hub into the registry: pinned to a commit, verified, and linked to where they came from.

What the registry holds already is not fetched again. A commit that was pulled before needs no call at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ual_registry.air.commit import is_commit
from ual_registry.digest import Digest
from ual_registry.errors import HubError, HubUnavailableError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.choice import is_air
from ual_registry.hub.client import Hub
from ual_registry.hub.model import Snapshot
from ual_registry.registry.progress import Progress, silent
from ual_registry.registry.records import HubPlace
from ual_registry.registry.registry import Registry
from ual_registry.workflows.pull_known import find_known, keep, local_base
from ual_registry.workflows.pull_model import Pulled, PullOptions, PullResult
from ual_registry.workflows.pull_names import adapter_name
from ual_registry.workflows.pull_snapshot import pull_snapshot

__all__ = ["pull"]


def pull(
    address: str, options: PullOptions | None = None, *, hub: Hub | None = None, progress: Progress = silent
) -> PullResult:
    """Pull adapters of a repository into the registry.

    Args:
        address: ``owner/name``, with ``@revision`` where wanted.
        options: What of it, and as what.
        hub: The Hub; by default the one of the environment.
        progress: Is told how many bytes came.

    Raises:
        HubError: The Hub refuses, there are several adapters and none is named, or bytes are not what they must be.
        FormatError: The only adapter is not legal AIR, is no PEFT LoRA adapter, or is a pickle.
        BinderError: The base model of the only adapter is unknown, or is another one.
        RegistryError: A name is not allowed, or the database refuses.
        StorageError: The file system refuses.
    """
    place = HubAddress.parse(address)
    options = _checked(place, options or PullOptions())
    registry = Registry.open()
    if is_commit(place.revision):
        known = _from_registry(registry, place.repository, place.revision, options)
        if known is not None:
            return known
    hub = hub or Hub.open()
    try:
        snapshot = hub.pin(place.repository, place.revision)
    except HubUnavailableError as error:
        if error.problem_code != "hub-offline":
            raise
        return _offline(registry, place, options, error)
    return pull_snapshot(registry, hub, snapshot, _aimed(place, snapshot, options), progress=progress)


def _checked(place: HubAddress, options: PullOptions) -> PullOptions:
    """Check what can be checked before anything is asked; a path in the address is one more file."""
    options.order(options.name, None).check()
    if place.path is not None:
        options = replace(options, files=(place.path, *options.files))
    if sum((bool(options.files), options.subfolder is not None, options.all_of_them and not options.subfolder)) > 1:
        raise HubError(
            f"cannot pull {place}: give either files, or a folder, or all of them",
            code="hub-address",
            context={"repository": place.repository},
        )
    return options


def _aimed(place: HubAddress, snapshot: Snapshot, options: PullOptions) -> PullOptions:
    """Let the path in an address mean a folder where it is none of a file."""
    if place.path is None or place.path in snapshot.files or options.files != (place.path,):
        return options
    is_folder = any(path.startswith(f"{place.path}/") for path in snapshot.files)
    return replace(options, files=(), subfolder=place.path) if is_folder else options


def _from_registry(
    registry: Registry, repository: str, commit: str, options: PullOptions, *, is_offline: bool = False
) -> PullResult | None:
    """Pull from the registry alone; ``None`` where it does not hold what is meant, or cannot tell what is."""
    known = find_known(
        registry,
        registry.linked(repository, commit=commit),
        files=options.files,
        subfolder=options.subfolder,
        all_of_them=options.all_of_them and is_offline,
        base=local_base(options.base),
    )
    if known is None or (options.base is not None and local_base(options.base) is None and not _all_air(known)):
        return None
    is_only = len(known) == 1
    adapters = []
    for path, digest in known.items():
        name = _known_name(registry, repository, path, digest, options, is_only=is_only)
        place = HubPlace(repository=repository, commit=commit, path=path)
        result = keep(registry, digest, options.order(name, place))
        adapters.append(Pulled.of(path, "air" if is_air(path) else "peft", result, is_fetched=False))
    return PullResult(repository=repository, commit=commit, asked_hub=False, adapters=tuple(adapters))


def _all_air(paths: Mapping[str, Digest]) -> bool:
    return all(is_air(path) for path in paths)


def _known_name(
    registry: Registry, repository: str, path: str, digest: Digest, options: PullOptions, *, is_only: bool
) -> str:
    """Return the name under which an artifact is meant: the one that is asked for, or that it has."""
    usual = adapter_name(repository, path, is_only=is_only, name=options.name)
    held = [name for name, _ in registry.held_as(digest)]
    return usual if options.name is not None or usual in held or not held else held[0]


def _offline(registry: Registry, place: HubAddress, options: PullOptions, error: HubUnavailableError) -> PullResult:
    """Pull from the registry what was pulled or pushed before; without a revision, the newest of it."""
    links = registry.linked(place.repository)
    commits = list(dict.fromkeys(link.commit for link in reversed(links)))
    for commit in commits if place.revision is None else ():
        known = _from_registry(registry, place.repository, commit, options, is_offline=True)
        if known is not None:
            note = f"offline: the newest that this registry holds of {place.repository}; the Hub may have a newer one"
            return replace(known, notes=(note,))
    if is_commit(place.revision):
        known = _from_registry(registry, place.repository, str(place.revision), options, is_offline=True)
        if known is not None:
            note = f"offline: everything that this registry holds of {place.repository} at that commit"
            return replace(known, notes=(note,) if options.all_of_them else ())
    if commits:
        error.hint = f"this registry holds commits of it: {', '.join(commits[:8])}"
    raise error
