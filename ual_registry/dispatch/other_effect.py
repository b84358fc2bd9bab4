"""Whether an adapter still does what it is recorded to do, and if not, why.

Effects are no linear function of the strength, so causes are tried out: the adapter is run again as it would be
without a mistake, and the mistake without which it does what was recorded is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.optimize import minimize_scalar

from ual_registry.air.effect import Effect, LogitChange
from ual_registry.air.model import Manifest
from ual_registry.dispatch.mixing import Updates
from ual_registry.errors import RouteError

__all__ = ["EffectCheck"]

Measure = Callable[[Updates], Sequence[LogitChange]]
Strengths = Mapping[str, float]
"""What to multiply each module's update by."""

_OCTAVES, _STEPS = 6, 2
"""Strengths that are tried: up to 64 times as much and as little, two for every doubling."""
_CLOSE = 1e-4
"""How exact the strength is, as a share of a doubling."""
_OTHER_FACTORS = "its factors are others than those that were recorded"
_OTHER_BASE = "the base model itself answers otherwise than it did: it has other weights, or computes in a coarser way"


@dataclass(frozen=True, slots=True)
class EffectCheck:
    """Compares an adapter with its record.

    Attributes:
        effect: What is recorded.
        dtype: What is computed in now.
        measure: Measures how the recorded logits move with some updates.
    """

    effect: Effect
    dtype: str
    measure: Measure

    def require(self, digest: str, manifest: Manifest, updates: Updates, found: Sequence[LogitChange]) -> None:
        """Make sure that an adapter does what is recorded.

        Args:
            digest: Its digest.
            manifest: What it says of its scalings.
            updates: What it adds.
            found: What it was seen to do.

        Raises:
            RouteError: It does otherwise; the message says by how much and, where it can be told, why.
        """
        if self._is_same(found):
            return
        cause, times = self._cause(manifest, updates, found)
        then, now = self.effect.changes[0], found[0]
        raise RouteError(
            f"adapter {digest}: does otherwise than recorded: it moves the logit of token {then.token} by "
            f"{now.change:.4g}, expected {then.change:.4g}; {cause}",
            code="other-effect",
            context={
                "digest": digest,
                "tokens": [own.token for own in self.effect.changes],
                "expected": [own.change for own in self.effect.changes],
                "got": [float(f"{own.change:.6g}") for own in found],
                "times_too_strong": None if times is None else float(f"{times:.4g}"),
            },
            hint="take the adapter as it was recorded; where the change is meant, "
            "'ual doctor REF --base FOLDER -o FILE.air' records it",
        )

    def _is_same(self, found: Sequence[LogitChange]) -> bool:
        limit = self.effect.tolerance(self.dtype)
        return all(abs(now.change - then.change) <= limit for now, then in zip(found, self.effect.changes, strict=True))

    def _cause(self, manifest: Manifest, updates: Updates, found: Sequence[LogitChange]) -> tuple[str, float | None]:
        """Say why an adapter does otherwise, and how many times too strong it is, where that is all."""
        limit = self.effect.tolerance(self.dtype)
        if any(abs(now.base - then.base) > limit for now, then in zip(found, self.effect.changes, strict=True)):
            return _OTHER_BASE, None
        for says, undone in _mistakes(manifest):
            if self._is_same(self.measure(_scaled(updates, undone))):
                times = sorted({1 / own for own in undone.values()})
                return f"it is {_times(times)}, which fits {says}", times[0] if times[0] == times[-1] else None
        strength = self._searched(updates)
        return (_OTHER_FACTORS, None) if strength is None else (f"it is {_times([1 / strength])}", 1 / strength)

    def _searched(self, updates: Updates) -> float | None:
        """Return the strength at which an adapter does what is recorded; ``None`` where there is none.

        The best of a scale of strengths is found first, then the best between its neighbours.
        """

        def distance(power: float) -> float:
            tried = self.measure(_scaled(updates, dict.fromkeys(updates, 2.0**power)))
            return sum((now.change - then.change) ** 2 for now, then in zip(tried, self.effect.changes, strict=True))

        best = min((step / _STEPS for step in range(-_OCTAVES * _STEPS, _OCTAVES * _STEPS + 1)), key=distance)
        around = (best - 1 / _STEPS, best + 1 / _STEPS)
        found = minimize_scalar(distance, bounds=around, method="bounded", options={"xatol": _CLOSE})
        strength = float(2.0**found.x)
        is_same = self._is_same(self.measure(_scaled(updates, dict.fromkeys(updates, strength))))
        return strength if is_same else None


def _times(values: Sequence[float]) -> str:
    """Say how much too strong or too weak something is; the values ascend."""
    if values[0] < 0:
        return "turned round"
    is_strong = values[-1] > 1
    first, last = (f"{own:.3g}" for own in ((values[0], values[-1]) if is_strong else (1 / values[-1], 1 / values[0])))
    return f"{first if first == last else f'{first} to {last}'} times too {'strong' if is_strong else 'weak'}"


def _mistakes(manifest: Manifest) -> Iterator[tuple[str, Strengths]]:
    """Yield the usual mistakes with scalings, each with what would undo it."""
    said = {entry.source: (entry.rank, entry.scaling) for entry in manifest.entries if entry.source is not None}
    yield "alpha/sqrt(r) where alpha/r was meant", {own: rank**-0.5 for own, (rank, _) in said.items()}
    yield "alpha/r where alpha/sqrt(r) was meant", {own: rank**0.5 for own, (rank, _) in said.items()}
    yield "an alpha that is not divided by r", {own: 1 / rank for own, (rank, _) in said.items()}
    yield "an alpha that is divided by r twice", {own: float(rank) for own, (rank, _) in said.items()}
    yield "factors of the other sign", dict.fromkeys(said, -1.0)
    if not all(scaling for _, scaling in said.values()):
        return
    method, is_root = manifest.method, manifest.method.scaling_rule != "alpha/rank"
    meant = {own: method.alpha / (rank**0.5 if is_root else rank) for own, (rank, _) in said.items()}
    yield f"scalings that are not {method.scaling_rule}", {own: meant[own] / said[own][1] for own in said}
    yield "a scaling that is applied twice", {own: 1 / scaling for own, (_, scaling) in said.items()}


def _scaled(updates: Updates, strengths: Strengths) -> Updates:
    """Return updates that are as many times as strong."""
    found = {}
    for path, own in updates.items():
        strength = strengths.get(path, 1.0)
        bias = None if own.bias is None else own.bias * strength
        found[path] = replace(own, lora_B=own.lora_B * strength, bias=bias)
    return found
