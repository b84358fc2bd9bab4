"""Describe what a repository of the Hub holds, without fetching it.

The commit is pinned by one request. An AIR file is described by its header, which takes two more; of a PEFT adapter
the configuration is read, by one. Where several adapters are there, they are listed. Digests are the Hub's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest
from ual_registry.air.read import refuse_first
from ual_registry.errors import FormatError, RuleError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.choice import RepositoryAdapter
from ual_registry.hub.client import Hub
from ual_registry.hub.model import Snapshot
from ual_registry.interop.peft_config import check_config, parse_document
from ual_registry.workflows.hub_look import adapters_at, hub_digest, inspect_air, read_config
from ual_registry.workflows.show import RoleSummary, role_summaries

__all__ = ["AirGlimpse", "HeldAdapter", "HubDescription", "PeftGlimpse", "show_hub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAdapter:
    """An adapter that a repository holds, unread.

    Attributes:
        path: The AIR file, or the tensors of a PEFT adapter.
        form: ``air`` or ``peft``.
        size_bytes: Size of that file.
        digest: Its digest, as the Hub says; ``None`` where it does not.
    """

    path: str
    form: str
    size_bytes: int
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AirGlimpse:
    """What the header of an AIR file says.

    Attributes:
        parameter_count: Numbers held by the factors.
        roles: What it touches, in the order of the role table.
        manifest: Everything that it says about itself.
    """

    parameter_count: int
    roles: tuple[RoleSummary, ...]
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftGlimpse:
    """What the configuration of a PEFT adapter says; what it does not say, or amiss, is ``None``.

    Attributes:
        peft_type: The family, such as ``LORA``.
        task_type: The task, such as ``CAUSAL_LM``.
        base: Hub id or path of the base model.
        base_revision: Its revision.
        rank: The default rank.
        alpha: The default alpha.
        target_modules: Names of target modules, or a pattern.
        config: The whole configuration.
        refusal: Why AIR cannot carry it; ``None`` where the configuration does not tell.
    """

    peft_type: str | None
    task_type: str | None
    base: str | None
    base_revision: str | None
    rank: int | None
    alpha: float | None
    target_modules: tuple[str, ...]
    config: Mapping[str, Any]
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDescription:
    """A repository at one commit, and the adapter in it where there is one.

    Attributes:
        reference: What the user named it by.
        repository: Its id.
        commit: The commit.
        is_private: Whether others cannot see it.
        gated: ``auto`` or ``manual`` where access must be asked for, else ``None``.
        adapters: Every adapter at the address, by path.
        left_out: What looks like an adapter and is none, each with the reason.
        air: What the only one says, where it is an AIR file.
        peft: What the only one says, where it is a PEFT adapter.
    """

    reference: str
    repository: str
    commit: str
    is_private: bool
    gated: str | None
    adapters: tuple[HeldAdapter, ...]
    left_out: tuple[str, ...]
    air: AirGlimpse | None = None
    peft: PeftGlimpse | None = None

    @property
    def only(self) -> HeldAdapter | None:
        """The adapter at the address; ``None`` where there are several."""
        return self.adapters[0] if len(self.adapters) == 1 else None


def show_hub(reference: str) -> HubDescription:
    """Describe what stands at an address of the Hub; at most three requests, and one more for a very long header.

    Args:
        reference: ``hf:owner/name``, with revision and path where wanted.

    Raises:
        HubError: The Hub has it not, or does not give it.
        FormatError: The AIR file is not legal, or the weights are a pickle.
        StorageError: The file's server answers amiss.
    """
    address = HubAddress.parse(reference)
    hub = Hub.open()
    snapshot = hub.pin(address.repository, address.revision)
    found = adapters_at(snapshot, address)
    only = found.adapters[0] if len(found.adapters) == 1 else None
    return HubDescription(
        reference=reference,
        repository=snapshot.repository,
        commit=snapshot.commit,
        is_private=snapshot.is_private,
        gated=snapshot.gated,
        adapters=tuple(_held(adapter) for adapter in found.adapters),
        left_out=found.left_out,
        air=_air(hub, snapshot, only, reference) if only and only.form == "air" else None,
        peft=_peft(hub, snapshot, only) if only and only.form == "peft" else None,
    )


def _held(adapter: RepositoryAdapter) -> HeldAdapter:
    file = adapter.file
    return HeldAdapter(path=file.path, form=adapter.form, size_bytes=file.size_bytes, digest=hub_digest(file))


def _air(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter, reference: str) -> AirGlimpse:
    found = inspect_air(hub, snapshot, adapter.file)
    refuse_first(found.errors, reference)
    if not isinstance(found.manifest, Manifest):
        kind = found.manifest.kind if found.manifest else "file without a manifest"
        context = {"repository": snapshot.repository, "commit": snapshot.commit, "path": adapter.path}
        raise RuleError(f"{reference}: is a {kind}, expected an adapter", code="kind", context=context)
    count = Adapter(found.manifest, found.tensors()).parameter_count
    return AirGlimpse(parameter_count=count, roles=role_summaries(found.manifest), manifest=found.manifest)


def _peft(hub: Hub, snapshot: Snapshot, adapter: RepositoryAdapter) -> PeftGlimpse:
    document = parse_document(read_config(hub, snapshot, adapter))
    return PeftGlimpse(
        peft_type=_text(document, "peft_type"),
        task_type=_text(document, "task_type"),
        base=_text(document, "base_model_name_or_path"),
        base_revision=_text(document, "revision"),
        rank=_number(document, "r", int),
        alpha=_number(document, "lora_alpha", float, int),
        target_modules=_texts(document.get("target_modules")),
        config=document,
        refusal=_refusal(document),
    )


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def _number(document: Mapping[str, Any], key: str, *kinds: type) -> Any:
    value = document.get(key)
    return value if type(value) in kinds else None


def _texts(value: Any) -> tuple[str, ...]:
    """Return the target modules, sorted as PEFT keeps a set; a pattern is one text."""
    listed = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(sorted(item for item in listed if isinstance(item, str)))


def _refusal(document: Mapping[str, Any]) -> str | None:
    try:
        check_config(document)
    except FormatError as error:
        return error.message
    return None
