"""The effect of an adapter: by how much it moves a few logits of its base model, kept as an annotation.

Whoever loads the adapter later can tell that it still does what it did: spec/effect.md is the form. It decides what a
record says and when two effects are the same. Measuring one is left to others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.air.model import BaseModel, Manifest
from ual_registry.air.rounding import rounded
from ual_registry.digest import Digest
from ual_registry.errors import FormatError

__all__ = ["EFFECT_KEY", "MAX_CHANGES", "MAX_TOKENS", "Effect", "LogitChange", "effect_of", "with_effect"]

EFFECT_KEY = "io.ual-registry.effect"
"""The annotation of a manifest that holds an effect."""

MAX_TOKENS = 16
"""How many tokens the input has at most."""

MAX_CHANGES = 8
"""Of how many tokens the logits are recorded at most."""

DTYPES = ("float64", "float32", "float16", "bfloat16")
"""What an effect may be measured in, the finest first."""

_TOLERANCE = {"float64": (5e-3, 1e-3), "float32": (5e-3, 1e-3), "float16": (0.05, 0.02)}
_COARSE = (0.05, 0.05)
"""What two measurements may differ by, by the coarser of what they compute in: a share of the largest change, and one
of the largest logit."""

_MOST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitChange:
    """How one logit moves.

    Attributes:
        token: Whose logit.
        base: The logit of the base model.
        change: What the adapter adds to it.
    """

    token: int
    base: float
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What an adapter was seen to do.

    Attributes:
        config_digest: Digest of the base model's config.
        weights_digest: Digest of its weights; ``None`` where it is not known.
        dtype: What was computed in, one of ``DTYPES``.
        token_ids: What the model read, 1 to 16 tokens.
        changes: The logits behind the last of them that moved most, 1 to 8, the largest change first.
    """

    config_digest: str
    weights_digest: str | None
    dtype: str
    token_ids: tuple[int, ...]
    changes: tuple[LogitChange, ...]

    @property
    def largest_change(self) -> float:
        """The largest change of a logit, as it is signed."""
        return self.changes[0].change

    def is_of(self, base: BaseModel) -> bool:
        """Tell whether it was measured on a base model, as far as is known."""
        digests = (self.weights_digest, base.weights_digest)
        return self.config_digest == base.config_digest and (None in digests or digests[0] == digests[1])

    def tolerance(self, dtype: str) -> float:
        """Return by how much a change may differ from the recorded one.

        Args:
            dtype: What it is measured in now; one that is not known counts as the coarsest.
        """
        of_change, of_logit = max(_TOLERANCE.get(own, _COARSE) for own in (self.dtype, dtype))
        highest = max(abs(own.base) + abs(own.change) for own in self.changes)
        return of_change * abs(self.largest_change) + of_logit * highest

    def can_be_told(self, dtype: str) -> bool:
        """Tell whether the effect is large enough for half of it, or twice as much, to be told from it."""
        return self.tolerance(dtype) < abs(self.largest_change) / 4

    def document(self) -> dict[str, Any]:
        """Return the stored form."""
        weights = {} if self.weights_digest is None else {"weights_digest": self.weights_digest}
        return {
            "config_digest": self.config_digest,
            **weights,
            "dtype": self.dtype,
            "token_ids": list(self.token_ids),
            "changes": [
                {"token": own.token, "base": rounded(own.base), "change": rounded(own.change)} for own in self.changes
            ],
        }


def effect_of(manifest: Manifest) -> Effect | None:
    """Return the effect that an adapter records; ``None`` where it records none.

    Raises:
        FormatError: The annotation is there and holds something else.
    """
    document = manifest.annotations.get(EFFECT_KEY)
    return None if document is None else _parse(document)


def with_effect(manifest: Manifest, effect: Effect | None) -> Manifest:
    """Return a manifest that records an effect in place of the one that it had; ``None`` leaves it out."""
    others = {key: value for key, value in manifest.annotations.items() if key != EFFECT_KEY}
    return replace(manifest, annotations=others if effect is None else {**others, EFFECT_KEY: effect.document()})


def _parse(document: Any) -> Effect:
    known = {"config_digest", "weights_digest", "dtype", "token_ids", "changes"}
    if not isinstance(document, Mapping) or not known - {"weights_digest"} <= set(document) <= known:
        raise _wrong("expected config_digest, dtype, token_ids, changes and perhaps weights_digest")
    ids, changes = document["token_ids"], document["changes"]
    if not isinstance(ids, list | tuple) or not 1 <= len(ids) <= MAX_TOKENS or not all(map(_is_id, ids)):
        raise _wrong(f"token_ids: expected 1 to {MAX_TOKENS} token ids")
    if not isinstance(changes, list | tuple) or not 1 <= len(changes) <= MAX_CHANGES:
        raise _wrong(f"changes: expected 1 to {MAX_CHANGES} of them")
    if document["dtype"] not in DTYPES:
        raise _wrong(f"dtype: expected one of {', '.join(DTYPES)}")
    found = tuple(_change(own) for own in changes)
    sizes = [abs(own.change) for own in found]
    if len({own.token for own in found}) < len(found) or sizes != sorted(sizes, reverse=True) or not sizes[0]:
        raise _wrong("changes: expected each token once, the largest change first, and that not zero")
    return Effect(
        config_digest=_digest(document["config_digest"]),
        weights_digest=_digest(document["weights_digest"]) if "weights_digest" in document else None,
        dtype=document["dtype"],
        token_ids=tuple(int(own) for own in ids),
        changes=found,
    )


def _change(document: Any) -> LogitChange:
    if not isinstance(document, Mapping) or set(document) != {"token", "base", "change"}:
        raise _wrong("changes: expected token, base and change")
    numbers = (document["base"], document["change"])
    if not _is_id(document["token"]) or not all(_is_number(own) for own in numbers):
        raise _wrong("changes: expected the id of a token and two numbers")
    return LogitChange(token=int(document["token"]), base=float(numbers[0]), change=float(numbers[1]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(value: Any) -> bool:
    return _is_number(value) and value == int(value) and 0 <= value <= _MOST_ID


def _digest(value: Any) -> str:
    try:
        return str(Digest.parse(value))
    except (FormatError, TypeError, AttributeError) as error:
        raise _wrong("expected digests of config and weights") from error


def _wrong(problem: str) -> FormatError:
    return FormatError(
        f"annotation {EFFECT_KEY}: {problem}",
        code="effect",
        context={"place": f"annotations.{EFFECT_KEY}"},
        hint="'ual doctor REF --base FOLDER -o FILE.air' writes it anew",
    )
