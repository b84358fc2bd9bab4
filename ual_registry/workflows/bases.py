"""What a user may name a base model by: its folder, its ``config.json``, or a repository of the Hub.

Of a repository only ``config.json`` is read, at one commit, which becomes the revision of the base model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.commit import is_commit
from ual_registry.binders.base import MAX_CONFIG_BYTES, BaseConfig, load_base, parse_base
from ual_registry.errors import BinderDataError, HubError, HubNotFoundError
from ual_registry.hub.address import PREFIX, HubAddress, is_hub, is_repository

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub
    from ual_registry.hub.config_cache import ConfigCache

__all__ = ["NamedBase", "address_of", "find_base", "has_weights", "hub_base", "own_base"]

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedBase:
    """The config of a base model, and what the Hub calls it.

    Attributes:
        config: The config.
        id: Its id on the Hub, where it was named by that.
        revision: The commit that the config was read at, likewise.
    """

    config: BaseConfig
    id: str | None = None
    revision: str | None = None

    def labels(self, name: str | None, revision: str | None) -> tuple[str | None, str | None]:
        """Return the id and the revision to call it by: as told, or else as the Hub does.

        The commit belongs to the id, so it is not given to a model that was told to be called otherwise.
        """
        return name or self.id, revision or (self.revision if name in (None, self.id) else None)


def address_of(base: str | Path) -> HubAddress | None:
    """Return the address that is meant by what a user named a base model by; ``None`` where a file or folder is.

    ``hf:owner/name`` is always one, ``owner/name`` where there is no such file or folder; both with ``@revision``.

    Raises:
        HubError: It begins with ``hf:`` and is no address of a repository.
    """
    if is_hub(str(base)):
        return _whole(HubAddress.parse(str(base)))
    if isinstance(base, Path) or base.endswith(".json") or Path(base).exists():
        return None
    return HubAddress.parse(base) if is_repository(base.partition("@")[0]) and ":" not in base else None


def _whole(address: HubAddress) -> HubAddress:
    if address.path is not None:
        raise HubError(
            f"cannot read {address}: a base model is a repository, not a path in one",
            context={"repository": address.repository, "path": address.path},
            code="hub-address",
            hint="write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION",
        )
    return address


def find_base(base: str | Path, *, hub: Hub | None = None) -> NamedBase:
    """Read the config of a base model.

    Args:
        base: Its folder, its ``config.json``, or its repository on the Hub; a path that exists comes first.
        hub: The Hub; by default the usual one.

    Raises:
        StorageError: There is no such file.
        HubError: The Hub has it not, or does not give it.
        BinderDataError: The config is no JSON object.
    """
    address = address_of(base)
    if address is None:
        return NamedBase(config=load_base(Path(base)))
    from ual_registry.hub.client import Hub  # noqa: PLC0415  # a path does not need it

    try:
        return hub_base(hub or Hub.open(), address.repository, address.revision)
    except HubError as error:
        if not is_hub(str(base)):
            error.reword(f"{error.message} (nor is there a file or folder {base})")
        raise


def own_base(hub: Hub, name: str, revision: str | None = None) -> NamedBase:
    """Read the config of the base model that an adapter's own configuration names; see ADR 0014.

    Args:
        hub: The Hub that the adapter came from; no other is asked.
        name: What the configuration says, which whoever made it chose; never taken for a path or an address.
        revision: The revision that the configuration says.

    Raises:
        HubError: It is no repository of this Hub, or cannot be read.
        BinderDataError: The config is no JSON object.
    """
    hint = "pass --base with the base model's folder, its config.json, or OWNER/NAME on the Hub"
    if not is_repository(name, owned=False):
        raise HubError(
            f"the adapter's configuration names the base model {name[:100]!r}, which is no repository of the Hub",
            context={"base": name[:100]},
            code="hub-address",
            hint=hint,
        )
    try:
        return hub_base(hub, name, revision)
    except HubError as error:
        if error.problem_code == "hub-renamed":
            error.hint = f"pass --base {PREFIX}{error.context['renamed_to']}"
        elif isinstance(error, HubNotFoundError):
            error.hint = hint
        raise


def hub_base(hub: Hub, repository: str, revision: str | None = None, *, cache: ConfigCache | None = None) -> NamedBase:
    """Read the config of a base model on the Hub: two requests, or none where a commit is given and known already.

    Args:
        hub: The Hub.
        repository: Its repository.
        revision: A branch, tag or commit; by default the main branch.
        cache: Where configs are kept.

    Raises:
        HubError: The Hub has it not, or does not give it.
        BinderDataError: The config is no JSON object.
    """
    from ual_registry.hub.config_cache import ConfigCache  # noqa: PLC0415  # a path does not need it

    cache = cache or ConfigCache()
    if is_commit(revision):
        data = cache.get(hub.endpoint, repository, revision)
        if data is not None:
            return _named(data, repository, revision)
    snapshot = hub.pin(repository, revision)
    data = cache.get(hub.endpoint, repository, snapshot.commit)
    if data is None:
        file = snapshot.files.get(_CONFIG)
        if file is None:
            raise _no_config(repository, snapshot.commit)
        data = hub.read_small(snapshot, file, limit_bytes=MAX_CONFIG_BYTES)
        cache.put(hub.endpoint, repository, snapshot.commit, data)
    return _named(data, repository, snapshot.commit)


def _named(data: bytes, repository: str, commit: str) -> NamedBase:
    config = parse_base(data, label=repository, what=str(HubAddress(repository, commit, _CONFIG)))
    return NamedBase(config=config, id=repository, revision=commit)


def _no_config(repository: str, commit: str) -> BinderDataError:
    return BinderDataError(
        f"{HubAddress(repository, commit)}: has no config.json, so it is no base model of transformers",
        context={"repository": repository, "commit": commit},
        hint="name the repository of the base model itself, not of an adapter or of a quantised file",
    )


def has_weights(folder: str | Path | None) -> bool:
    """Tell whether a base model is a folder with weights, on which adapters can run."""
    return folder is not None and any((Path(folder) / name).is_file() for name in _WEIGHTS)
