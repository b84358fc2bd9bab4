"""What must hold before a transfer that computes with base models starts, however it fits its updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel
from ual_registry.errors import BaseMismatchError, TransferError
from ual_registry.models.loaded import LoadedBase

__all__ = ["is_same_model", "require_base", "require_effect", "require_passages", "require_positions", "require_tokens"]


def require_base(loaded: LoadedBase, wanted: BaseModel, *, whose: str) -> None:
    """Refuse a base model that is another one than a manifest or a plan says.

    Args:
        loaded: The base model.
        wanted: What is said of it; weights are compared where their digest is known.
        whose: Who says so, for the message.

    Raises:
        BaseMismatchError: The digest of its config or of its weights is another one.
    """
    got = loaded.base
    for name, own, expected in (
        ("config", got.config_digest, wanted.config_digest),
        ("weights", got.weights_digest, wanted.weights_digest),
    ):
        if expected is not None and own != expected:
            raise BaseMismatchError(
                f"base model {got.id}: digest of its {name} is {own}, {whose} is for {wanted.id} with {expected}",
                context={"base_model": got.id, "expected": expected, "got": own},
                hint="give the base model that it was made for, or --any-base if you know that they are the same",
            )


def require_effect(adapter: Adapter, energies: Mapping[str, float]) -> None:
    """Refuse an adapter whose every update is zero.

    Args:
        adapter: The adapter.
        energies: The squared norm of every entry.

    Raises:
        TransferError: It has no effect.
    """
    if not any(energies.values()):
        name = adapter.manifest.name
        who = f"the adapter {name!r}" if name else "the adapter"
        raise TransferError(
            f"{who} has no effect: every update is zero, so there is nothing to carry",
            code="no-effect",
            context={} if name is None else {"adapter": name},
            hint="lora_B of an adapter that was never trained is zero; train it first",
        )


def is_same_model(source: LoadedBase, target: LoadedBase) -> bool:
    """Tell whether two base models have the same config and the same weights, byte for byte."""
    digests = [(base.base.config_digest, base.base.weights_digest) for base in (source, target)]
    return digests[0] == digests[1]


def require_passages(pieces: Sequence[str]) -> None:
    """Refuse text of which nothing can be held out.

    Args:
        pieces: The passages.

    Raises:
        TransferError: There is but one.
    """
    if len(pieces) < 2:
        raise TransferError(
            "the calibration text is one passage: expected at least two, one to fit on and one to judge on",
            code="too-little-text",
            hint="give more text, or shorter passages",
        )


def require_positions(fit: int, held_out: int) -> None:
    """Refuse text on which two models can hardly be compared.

    Args:
        fit: Positions to fit on.
        held_out: Positions to judge on.

    Raises:
        TransferError: There are fewer than two of either.
    """
    if min(fit, held_out) < 2:
        raise TransferError(
            f"the calibration text has {fit} positions to fit on and {held_out} to judge on that both models have read "
            "up to the same character: expected at least two of each",
            code="too-little-text",
            hint="give more text, of a kind and language that both tokenizers cut into more than single characters",
        )


def require_tokens(count: int, bases: tuple[str, str]) -> None:
    """Refuse vocabularies that cannot be compared.

    Args:
        count: How many tokens, or groups of tokens, both have.
        bases: The labels of both base models, for the message.

    Raises:
        TransferError: There is none.
    """
    if not count:
        raise TransferError(
            f"the tokenizers of {bases[0]} and {bases[1]} have no token in common",
            code="no-shared-tokens",
            context={"source": bases[0], "target": bases[1]},
            hint="carry the adapter by 'activations', which compares positions and not tokens",
        )
