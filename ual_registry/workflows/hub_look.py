"""Look at what a repository of the Hub holds without fetching it: the commit is pinned, then headers alone are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ual_registry.air.header import Header, open_header
from ual_registry.air.validate import Inspection, inspect_source
from ual_registry.errors import ContainerError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.choice import Choice, RepositoryAdapter, choose, is_air
from ual_registry.hub.model import HubFile, Snapshot

if TYPE_CHECKING:
    from ual_registry.hub.client import Hub

__all__ = ["adapters_at", "hub_digest", "inspect_air", "labels", "read_config", "read_weights_header"]

_MAX_CONFIG_BYTES = 1 << 20
"""What is read of a PEFT configuration; it has a few kilobytes."""


def adapters_at(snapshot: Snapshot, address: HubAddress) -> Choice:
    """Return the adapters at an address, whose path may be that of a file or of a folder.

    Raises:
        HubNotFoundError: There is no such path, or no adapter.
        ForeignFormatError: The weights are a pickle.
    """
    is_folder = any(path.startswith(f"{address.path}/") for path in snapshot.files)
    if address.path is None or address.path in snapshot.files or (is_air(address.path) and not is_folder):
        return choose(snapshot, files=(address.path,) if address.path else (), all_of_them=True)
    return choose(snapshot, subfolder=address.path, all_of_them=True)


def labels(address: HubAddress, adapters: Sequence[RepositoryAdapter]) -> list[str]:
    """Return what each adapter is called: as it was typed where there is one."""
    if len(adapters) == 1:
        return [str(address)]
    return [str(HubAddress(address.repository, address.revision, adapter.path)) for adapter in adapters]


def hub_digest(file: HubFile) -> str | None:
    """Return the digest of a file as the Hub says; ``None`` where it does not."""
    return f"sha256:{file.sha256}" if file.sha256 else None


def inspect_air(hub: Hub, snapshot: Snapshot, file: HubFile) -> Inspection:
    """Read and check the header of an AIR file; its source is closed.

    Raises:
        HubError: The Hub refuses.
        StorageError: The file cannot be read.
    """
    source = hub.open_range(snapshot, file)
    try:
        return inspect_source(source)
    finally:
        source.close()


def read_config(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter) -> bytes:
    """Read the configuration of a PEFT adapter.

    Raises:
        HubError: The Hub refuses, or the file is larger than any configuration.
    """
    assert adapter.config is not None  # every PEFT adapter has one
    return hub.read_small(snapshot, adapter.config, limit_bytes=_MAX_CONFIG_BYTES)


def read_weights_header(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter) -> Header:
    """Read the header of the tensors of a PEFT adapter.

    Raises:
        HubError: The Hub refuses.
        StorageError: The file cannot be read.
        ContainerError: It is broken.
    """
    source = hub.open_range(snapshot, adapter.file)
    try:
        return open_header(source)
    except ContainerError as error:
        message = f"{adapter.path}: {error.message}"
        raise ContainerError(message, code=error.problem_code, hint=error.hint, context=error.context) from error
    finally:
        source.close()
