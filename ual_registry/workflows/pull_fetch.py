"""Fetch one adapter of a repository into a folder: an AIR file as it is, a PEFT pair as the AIR file made of it.

What is made of a PEFT pair depends on the pair, on the base model's config and on this program alone, so that the same
commit gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.commit import is_commit
from ual_registry.air.model import Lineage, Parent, Statement
from ual_registry.air.write import write_sealed
from ual_registry.digest import Digest
from ual_registry.errors import BinderError, HubAccessError, StorageError
from ual_registry.hub.choice import CONFIG_FILE, RepositoryAdapter
from ual_registry.hub.client import Hub
from ual_registry.hub.download import download
from ual_registry.hub.model import Snapshot
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.peft_config import PeftConfig, parse_config
from ual_registry.registry.intake import Intake
from ual_registry.workflows.bases import NamedBase, address_of, find_base, own_base
from ual_registry.workflows.hub_look import read_config
from ual_registry.workflows.pull_check import AirCheck

__all__ = ["Fetched", "PullBase", "fetch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An adapter that was fetched.

    Attributes:
        path: Its AIR file.
        intake: What was found in it, where all of it was looked at when it was verified.
        notes: What whoever pulls it should know.
    """

    path: Path
    intake: Intake | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PullBase:
    """The base model of a PEFT pair.

    Attributes:
        named: Its config, and what the Hub calls it.
        id: Its label; ``None`` takes the one in the adapter's configuration.
        revision: Its commit, where it is known that the adapter was trained on that.
    """

    named: NamedBase
    id: str | None
    revision: str | None

    @classmethod
    def find(cls, hub: Hub, config: PeftConfig, given: str | None) -> PullBase:
        """Read the config of a base model: of the one that is given, or that the adapter's configuration names.

        Raises:
            BinderError: None is given, and none is named.
            HubError: The Hub has it not, or does not give it.
            StorageError: There is no such file.
        """
        trained_on = config.revision if is_commit(config.revision) else None
        if given is not None:
            named, address = find_base(given, hub=hub), address_of(given)
            said = address.revision if address and is_commit(address.revision) else None
            return cls(named=named, id=named.id, revision=said or trained_on)
        name = config.document.get("base_model_name_or_path")
        if not isinstance(name, str) or not name:
            raise BinderError(
                f"{CONFIG_FILE}: names no base model",
                code="no-base",
                hint="pass --base with the base model's folder, its config.json, or OWNER/NAME on the Hub",
            )
        try:
            named = own_base(hub, name, config.revision)
        except HubAccessError as error:
            error.hint = f"{error.hint}; or pass --base with the base model's folder or its config.json"
            raise
        return cls(named=named, id=None, revision=trained_on)

    @property
    def uri(self) -> str | None:
        """Where the config was found; a commit that says nothing of the adapter is left out, as it changes."""
        if self.named.id is None:
            return None
        is_same = self.revision is not None and self.revision == self.named.revision
        return f"hf://{self.named.id}{f'@{self.revision}' if is_same else ''}/config.json"


def fetch(
    hub: Hub,
    snapshot: Snapshot,
    adapter: RepositoryAdapter,
    folder: Path,
    *,
    base: str | None = None,
    is_alone: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Fetched:
    """Fetch an adapter, verified.

    Args:
        hub: The Hub.
        snapshot: The repository at one commit.
        adapter: One of its adapters.
        folder: Where to; it is made.
        base: The base model of a PEFT pair, as people name it; by default the one that its configuration names.
        is_alone: Whether nothing else is fetched meanwhile, so that a large file may take a second thread.
        on_bytes: Called with the number of bytes that came.

    Raises:
        HubError: The Hub refuses, or sends other bytes than the commit holds.
        ForeignFormatError: The pair holds what AIR cannot carry.
        ContainerError: The tensor file is broken.
        BinderError: The base model is unknown, or is not the one that the adapter fits.
        StorageError: The file system refuses.
    """
    try:
        folder.mkdir()
        if adapter.config is None:
            check = AirCheck(is_alone=is_alone) if adapter.file.sha256 is not None else None
            places = download(hub, snapshot, [adapter.file], folder, check=check, on_bytes=on_bytes)
            return Fetched(path=places[adapter.path], intake=check.intake if check is not None else None)
        return _fetch_pair(hub, snapshot, adapter, folder, base=base, on_bytes=on_bytes)
    except OSError as error:
        raise StorageError.of("write", folder, error) from error


def _fetch_pair(
    hub: Hub,
    snapshot: Snapshot,
    adapter: RepositoryAdapter,
    folder: Path,
    *,
    base: str | None,
    on_bytes: Callable[[int], None] | None,
) -> Fetched:
    """Read what is small, and may be refused, before the tensors are fetched."""
    data = read_config(hub, snapshot, adapter)
    config = parse_config(data)
    found = PullBase.find(hub, config, base)
    weights = download(hub, snapshot, [adapter.file], folder, on_bytes=on_bytes)[adapter.path]
    (weights.parent / CONFIG_FILE).write_bytes(data)
    target = folder / "made.air"
    with from_peft(weights.parent, found.named.config, base_id=found.id) as made:
        digests = {"config": Digest.of_bytes(data), "weights": _digest(adapter, weights)}
        write_sealed(_with_history(made, snapshot, adapter, found, digests), target)
    weights.unlink()
    return Fetched(path=target, notes=_notes(adapter, found))


def _digest(adapter: RepositoryAdapter, weights: Path) -> Digest:
    """Return the digest of the tensor file; the Hub's word was compared with its bytes."""
    return Digest(adapter.file.sha256) if adapter.file.sha256 else Digest.of_file(weights)


def _with_history(
    made: Adapter, snapshot: Snapshot, adapter: RepositoryAdapter, base: PullBase, digests: Mapping[str, Digest]
) -> Adapter:
    """Record what the adapter was made of, and where that was found; no time, so that the same gives the same."""
    assert adapter.config is not None  # it is a PEFT pair
    root = f"hf://{snapshot.repository}@{snapshot.commit}"
    materials = (
        _material(adapter.path, digests["weights"], f"{root}/{adapter.path}"),
        _material(adapter.config.path, digests["config"], f"{root}/{adapter.config.path}"),
        _material("base config", base.named.config.digest, base.uri),
    )
    statement = Statement(
        type="conversion",
        builder={"name": "ual-registry", "version": version("ual-registry")},
        parameters={"from_format": "peft", "to_format": "air"},
        materials=materials,
    )
    manifest = replace(
        made.manifest,
        base_model=replace(made.manifest.base_model, revision=base.revision),
        lineage=Lineage(parents=(Parent(digest=str(digests["weights"]), relation="converted_from"),)),
        provenance=(statement,),
    )
    return replace(made, manifest=manifest)


def _material(name: str, digest: Digest, uri: str | None) -> dict[str, Any]:
    return {"name": name, "digest": str(digest), **({"uri": uri} if uri else {})}


def _notes(adapter: RepositoryAdapter, base: PullBase) -> tuple[str, ...]:
    if base.revision is not None:
        return ()
    unknown = "its configuration does not say which commit of the base model it was trained on"
    return (f"{adapter.path}: {unknown}, so the base model is not pinned",)
