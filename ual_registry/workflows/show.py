"""Describe one file: what an adapter touches and which base it fits, or what a router tells apart."""

from __future__ import annotations

from dataclasses import dataclass

from ual_registry.air.adapter import Adapter
from ual_registry.air.layers import entries_by_role
from ual_registry.air.model import Entry, Manifest
from ual_registry.air.router import RouterManifest
from ual_registry.digest import Digest
from ual_registry.workflows.reading import open_file
from ual_registry.workflows.references import locate

__all__ = ["Description", "RoleSummary", "RouterDescription", "role_summaries", "show"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSummary:
    """Every entry of one role in one stack.

    Attributes:
        stack: ``encoder``, ``decoder``, or ``None``.
        role: The role.
        layers: The layers that have it, ascending; empty outside the blocks.
        experts: The experts that have it in some layer, ascending; empty outside a mixture.
        ranks: Every rank, ascending.
        scalings: Every scaling, ascending.
        shapes: Every shape (out_features, in_features), ascending.
    """

    stack: str | None
    role: str
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    ranks: tuple[int, ...]
    scalings: tuple[float, ...]
    shapes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One adapter, described.

    Attributes:
        reference: What the user named it by.
        path: The file.
        digest: Its digest.
        size_bytes: Its size.
        parameter_count: Numbers held by the factors.
        roles: What it touches, in the order of the role table.
        manifest: Everything that it says about itself.
    """

    reference: str
    path: str
    digest: str
    size_bytes: int
    parameter_count: int
    roles: tuple[RoleSummary, ...]
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterDescription:
    """One router, described.

    Attributes:
        reference: What the user named it by.
        path: The file.
        digest: Its digest.
        size_bytes: Its size.
        clusters: Clusters that its classifier tells apart.
        prototypes: Prototypes that stand for examples.
        manifest: Everything that it says about itself.
    """

    reference: str
    path: str
    digest: str
    size_bytes: int
    clusters: int
    prototypes: int
    manifest: RouterManifest


def show(reference: str) -> Description | RouterDescription:
    """Describe the file that a reference means; its tensors are not read but for the file's digest.

    Raises:
        UALError: The reference means nothing, or the file is not legal AIR.
    """
    path = locate(reference)
    with open_file(path) as found:
        tensors = found.tensors()
        if isinstance(found.manifest, RouterManifest):
            return RouterDescription(
                reference=reference,
                path=str(path),
                digest=str(Digest.of_file(path)),
                size_bytes=path.stat().st_size,
                clusters=tensors["classifier.weight"].shape[0],
                prototypes=tensors["prototypes.vector"].shape[0],
                manifest=found.manifest,
            )
        assert found.manifest is not None  # a legal file has one
        return Description(
            reference=reference,
            path=str(path),
            digest=str(Digest.of_file(path)),
            size_bytes=path.stat().st_size,
            parameter_count=Adapter(found.manifest, tensors).parameter_count,
            roles=role_summaries(found.manifest),
            manifest=found.manifest,
        )


def role_summaries(manifest: Manifest) -> tuple[RoleSummary, ...]:
    """Return what an adapter touches, in the order of the role table."""
    groups = entries_by_role(manifest)
    return tuple(_summary(stack, role, entries) for (stack, role), entries in groups.items())


def _summary(stack: str | None, role: str, entries: list[Entry]) -> RoleSummary:
    return RoleSummary(
        stack=stack,
        role=role,
        layers=tuple(sorted({entry.layer for entry in entries if entry.layer is not None})),
        experts=tuple(sorted({entry.expert for entry in entries if entry.expert is not None})),
        ranks=tuple(sorted({entry.rank for entry in entries})),
        scalings=tuple(sorted({entry.scaling for entry in entries})),
        shapes=tuple(sorted({(entry.out_features, entry.in_features) for entry in entries})),
    )
