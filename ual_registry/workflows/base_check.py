"""Whether adapters that are compared are what they are taken for: for which base model, and trained on it."""

from __future__ import annotations

from pathlib import Path

from ual_registry.air.model import BaseModel, Manifest
from ual_registry.errors import BaseMismatchError, TransferError

__all__ = ["CARRIED", "require_recorded", "require_trained"]

CARRIED = {"projected_from": "carried over", "distilled_from": "distilled"}
"""Relations to a parent that make an adapter no native one, and what happened to it."""


def require_trained(manifest: Manifest, reference: str) -> None:
    """Refuse an adapter as the native one that was carried from another base model: it would measure itself.

    Args:
        manifest: Its manifest.
        reference: How it was named, for the message.

    Raises:
        TransferError: Its lineage says so.
    """
    for parent in manifest.parents:
        if parent.relation in CARRIED:
            raise TransferError(
                f"{reference}: was {CARRIED[parent.relation]} from {parent.digest}, so it is no native adapter",
                code="not-native",
                context={"reference": reference, "relation": parent.relation},
                hint="give an adapter that was trained on this base model, or let 'ual evaluate --train-native' do so",
            )


def require_recorded(got: BaseModel, wanted: BaseModel, *, where: str | Path, whose: str = "the adapter") -> None:
    """Refuse a base model that is another one than an adapter records.

    Args:
        got: The base model at hand; the digest of its weights may be unknown.
        wanted: What the adapter's manifest says of its base model; likewise.
        where: The folder of the base model, for the message.
        whose: Whose record it is, for the message.

    Raises:
        BaseMismatchError: The digest of its config or of its weights is another one.
    """
    for name, verb, own, expected in (
        ("config", "has", got.config_digest, wanted.config_digest),
        ("weights", "have", got.weights_digest, wanted.weights_digest),
    ):
        if None not in (own, expected) and own != expected:
            raise BaseMismatchError(
                f"{where}: its {name} {verb} the digest {own}, but {whose} was made for {wanted.id} with {expected}",
                code="other-base",
                context={"path": str(where), "expected": expected, "got": own},
                hint="give the base model that the adapter records, or --any-base if you know that they are the same",
            )
