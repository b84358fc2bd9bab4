"""Whether a base model at hand is the one that an adapter was made for, as far as digests are known."""

from __future__ import annotations

from pathlib import Path

from ual_registry.air.model import BaseModel
from ual_registry.errors import BaseMismatchError

__all__ = ["require_recorded"]


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
