"""Read the headers of one repository of the Hub for an index: what each adapter says, or why it cannot be read.

A PEFT adapter is described as AIR would describe it; that takes its configuration, the header of its tensors, and the
``config.json`` of the base model that it names, on the same Hub.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ual_registry.air.model import Manifest
from ual_registry.air.read import refuse_first
from ual_registry.air.router import RouterManifest
from ual_registry.air.tensor import Tensor
from ual_registry.errors import BinderError, FormatError, HubError, HubUnavailableError, StorageError, UALError
from ual_registry.hub.choice import RepositoryAdapter, choose
from ual_registry.hub.client import Hub
from ual_registry.hub.model import ListedModel, Snapshot
from ual_registry.interop.from_peft import from_peft_header
from ual_registry.interop.peft_config import PeftConfig, parse_config
from ual_registry.registry.describe import Description, describe
from ual_registry.registry.header_index import IndexedHeader, IndexedRepository
from ual_registry.workflows.bases import NamedBase, own_base
from ual_registry.workflows.hub_look import hub_digest, inspect_air, read_config, read_weights_header

__all__ = ["MOST_ADAPTERS", "Bases", "Reading", "read_repository"]

MOST_ADAPTERS = 32
"""Adapters of one repository whose headers are read."""

_TOO_MANY = f"of one repository the first {MOST_ADAPTERS} adapters are looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of a repository.

    Attributes:
        found: What it holds.
        descriptions: What the headers say, by their names in the index.
        is_whole: Whether everything was answered, so that it need not be asked for again soon.
    """

    found: IndexedRepository
    descriptions: tuple[tuple[str, Description], ...]
    is_whole: bool


class Bases:
    """The configs of base models on one Hub, each read once; may be used by many threads.

    Args:
        hub: The Hub.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None], NamedBase | UALError] = {}

    def of(self, config: PeftConfig) -> NamedBase:
        """Return the config of the base model that a PEFT adapter names.

        Raises:
            HubError: It names none, or the Hub has it not, or does not give it.
            BinderDataError: The config is none.
        """
        name = config.document.get("base_model_name_or_path")
        key = (name if isinstance(name, str) else "", config.revision)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._load(*key)
            found = self._known[key]
        if isinstance(found, UALError):
            raise found
        return found

    def _load(self, name: str, revision: str | None) -> NamedBase | UALError:
        try:
            return own_base(self._hub, name, revision)
        except UALError as error:
            return error


def read_repository(hub: Hub, listed: ListedModel, bases: Bases) -> Reading:
    """Read the headers of a repository; three requests for an AIR file, and a few more for a PEFT adapter.

    Args:
        hub: The Hub.
        listed: The repository.
        bases: The configs of base models.

    Raises:
        HubError: The repository cannot be looked at.
    """
    snapshot = hub.pin(listed.repository, listed.commit)
    try:
        choice = choose(snapshot, all_of_them=True)
    except (HubError, FormatError) as error:
        return _reading(snapshot, [(_unread("", error, name=snapshot.repository), None)])
    is_alone = len(choice.adapters) == 1
    found: list[tuple[IndexedHeader, Description | None]] = []
    errors: list[UALError] = []
    for adapter in choice.adapters[:MOST_ADAPTERS]:
        name = snapshot.repository if is_alone else f"{snapshot.repository}:{adapter.path}"
        try:
            found.append(_read(hub, snapshot, adapter, bases, name))
        except (FormatError, BinderError, HubError, StorageError) as error:
            found.append((_unread(adapter.path, error, name=name, adapter=adapter), None))
            errors.append(error)
    left_out = [*choice.left_out, *(f"{item.path}: {_TOO_MANY}" for item in choice.adapters[MOST_ADAPTERS:])]
    found += [(_left_out(snapshot, text), None) for text in left_out]
    return _reading(snapshot, found, errors)


def _reading(
    snapshot: Snapshot, rows: Sequence[tuple[IndexedHeader, Description | None]], errors: Sequence[UALError] = ()
) -> Reading:
    repository = IndexedRepository(
        repository=snapshot.repository,
        commit=snapshot.commit,
        is_private=snapshot.is_private,
        gated=snapshot.gated,
        headers=tuple(header for header, _ in rows),
        is_lasting=not any(isinstance(error, HubError) for error in errors),
    )
    return Reading(
        found=repository,
        descriptions=tuple((header.name, description) for header, description in rows if description is not None),
        is_whole=not any(isinstance(error, (HubUnavailableError, StorageError)) for error in errors),
    )


def _read(
    hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter, bases: Bases, name: str
) -> tuple[IndexedHeader, Description]:
    is_air = adapter.form == "air"
    manifest, tensors = (_read_air if is_air else _read_peft)(hub, snapshot, adapter, bases)
    digest = hub_digest(adapter.file)
    artifact = digest if is_air and digest else _stand_in(hub, snapshot, adapter)
    description = describe(manifest, tensors, digest=artifact, size_bytes=adapter.file.size_bytes)
    header = IndexedHeader(
        name=name,
        path=adapter.path,
        form=adapter.form,
        size_bytes=adapter.file.size_bytes,
        digest=digest,
        artifact=artifact,
    )
    return header, description


Described = tuple[Manifest | RouterManifest, dict[str, Tensor]]


def _read_air(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter, _: Bases) -> Described:
    found = inspect_air(hub, snapshot, adapter.file)
    refuse_first(found.errors, adapter.path)
    assert found.manifest is not None  # a file without a manifest has faults
    return found.manifest, found.tensors()


def _read_peft(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter, bases: Bases) -> Described:
    config = parse_config(read_config(hub, snapshot, adapter))
    base = bases.of(config)
    header = read_weights_header(hub, snapshot, adapter)
    found = from_peft_header(config, header, base.config, base_id=base.id, base_revision=base.revision)
    return found.manifest, dict(found.tensors)


def _stand_in(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter) -> str:
    """Name an artifact whose digest is not known; no search for a digest finds it."""
    place = "\n".join((hub.endpoint, snapshot.repository, snapshot.commit, adapter.path))
    return f"place:{hashlib.sha256(place.encode()).hexdigest()}"


def _unread(path: str, error: UALError, *, name: str, adapter: RepositoryAdapter | None = None) -> IndexedHeader:
    return IndexedHeader(
        name=name,
        path=path,
        form=adapter.form if adapter else "",
        size_bytes=adapter.file.size_bytes if adapter else 0,
        digest=hub_digest(adapter.file) if adapter else None,
        code=error.problem_code,
        reason=error.message,
    )


def _left_out(snapshot: Snapshot, text: str) -> IndexedHeader:
    path, _, reason = text.partition(": ")
    name = f"{snapshot.repository}:{path}"
    return IndexedHeader(name=name, path=path, form="", size_bytes=0, digest=None, code="left-out", reason=reason)
