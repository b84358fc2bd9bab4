"""An adapter ready to run, and the proof that it acts: all of it is used, and it does something, as it is recorded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import Effect, LogitChange, effect_of
from ual_registry.air.model import BaseModel, Manifest
from ual_registry.dispatch.mixing import MixingModel, Updates, mix_updates
from ual_registry.dispatch.other_effect import EffectCheck
from ual_registry.errors import FormatError, NumericalError, RouteError
from ual_registry.models.attach import module_updates
from ual_registry.models.effect_probe import changes_at, dtype_name, measured_effect, probe_tokens, vocabulary_of

__all__ = ["AdapterLoader", "EffectProof", "LoadedAdapter"]

_KEPT = 4
"""Inputs of which the base model's own logits are kept; nearly all adapters are measured on the same one."""


class EffectProof(StrEnum):
    """What is known of an adapter's effect, beside that there is one."""

    AS_RECORDED = "as_recorded"
    """It does what it is recorded to do."""
    NOT_RECORDED = "not_recorded"
    """It carries no record, or none that can be read."""
    OTHER_BASE = "other_base"
    """Its record was made on another base model, or bases are not compared."""
    TOO_SMALL = "too_small"
    """What is recorded cannot be told from rounding in the dtype of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAdapter:
    """An adapter in memory that was seen to act.

    Attributes:
        digest: Its digest.
        updates: What it adds, by the path of the module.
        size_bytes: Memory of its factors.
        largest_change: Largest change of a logit on the probe.
        effect: Whether that is what was recorded.
    """

    digest: str
    updates: Updates
    size_bytes: int
    largest_change: float
    effect: EffectProof = EffectProof.NOT_RECORDED


class AdapterLoader:
    """Loads adapters for one model; threads may share it.

    Args:
        model: The model.
        base: What the model is; recorded effects are compared on it alone, and with ``None`` not at all.

    Attributes:
        base: As given.
    """

    def __init__(self, model: MixingModel, base: BaseModel | None = None) -> None:
        self._model, self.base = model, base
        self._vocabulary = vocabulary_of(model.model)
        own = next(model.model.parameters())
        self._device, self._dtype = own.device, own.dtype
        self._turn = threading.Lock()
        self._plain: dict[tuple[int, ...], torch.Tensor] = {}
        self._others: dict[str, RouteError] = {}

    def load(self, adapter: Adapter, digest: str) -> LoadedAdapter:
        """Load an adapter and prove that it acts.

        Args:
            adapter: The adapter.
            digest: Its digest.

        Raises:
            RouteError: It changes nothing, does otherwise than it is recorded to do, or the model does not use all of
                it.
            NumericalError: The model's logits are not finite with it.
            UALError: It does not fit the model; as ``models.attach.module_updates``.
        """
        if digest in self._others:  # to find the cause again would take dozens of passes
            raise self._others[digest].with_traceback(None)
        effect, proof = self._recorded(adapter.manifest)
        token_ids = probe_tokens(self._vocabulary) if effect is None else effect.token_ids
        updates, plain, own = self._acting(adapter, digest, token_ids)
        if effect is not None:
            found = changes_at(effect, plain[0, -1], own[0, -1])
            try:
                self._check(effect, plain).require(digest, adapter.manifest, updates, found)
            except RouteError as error:
                self._others[digest] = error
                raise
        tensors = [own for update in updates.values() for own in (update.lora_A, update.lora_B, update.bias)]
        return LoadedAdapter(
            digest=digest,
            updates=updates,
            size_bytes=sum(own.nbytes for own in tensors if own is not None),
            largest_change=float((own - plain).abs().max()),
            effect=proof,
        )

    def measure(self, adapter: Adapter, digest: str) -> Effect:
        """Return what an adapter does on this model, to be recorded.

        Raises:
            UALError: As ``load``; what is recorded already does not count.
        """
        assert self.base is not None  # whoever records an effect says of what
        token_ids = probe_tokens(self._vocabulary)
        _, plain, own = self._acting(adapter, digest, token_ids)
        found = measured_effect(self.base, self._dtype, token_ids, plain[0, -1], own[0, -1])
        if found is None:
            raise _no_effect(digest, "the logits behind the probe are those of the base model")
        return found

    def _recorded(self, manifest: Manifest) -> tuple[Effect | None, EffectProof]:
        """Return the effect to compare with, or why there is none."""
        try:
            effect = effect_of(manifest)
        except FormatError:  # a reader must not fail on an annotation (spec: manifest)
            effect = None
        if effect is None:
            return None, EffectProof.NOT_RECORDED
        highest = max(*effect.token_ids, *(own.token for own in effect.changes))
        if self.base is None or not effect.is_of(self.base) or highest >= self._vocabulary:
            return None, EffectProof.OTHER_BASE
        if not effect.can_be_told(dtype_name(self._dtype)):
            return None, EffectProof.TOO_SMALL
        return effect, EffectProof.AS_RECORDED

    def _acting(
        self, adapter: Adapter, digest: str, token_ids: Sequence[int]
    ) -> tuple[Updates, torch.Tensor, torch.Tensor]:
        """Return what an adapter adds, and the logits of the probe without and with it."""
        updates = module_updates(self._model.model, adapter)
        if all(not own.lora_B.any() and (own.bias is None or not own.bias.any()) for own in updates.values()):
            raise _no_effect(digest, "every lora_B is zero")
        plain, own = self._plain_logits(token_ids), self._logits(updates, token_ids)
        unused = sorted(updates.keys() - self._model.used())
        if unused:
            raise RouteError(
                f"adapter {digest}: the model does not run {len(unused)} of its modules, {unused[0]} among them",
                code="unused-modules",
                context={"digest": digest, "module": unused[0]},
                hint="give an adapter that was made for this base model",
            )
        if not bool(own.isfinite().all()):
            raise NumericalError(
                f"adapter {digest}: the logits of the probe are not finite",
                context={"digest": digest},
                hint="compute in a wider dtype",
            )
        if not bool((own != plain).any()):
            raise _no_effect(digest, "the logits of the probe are those of the base model")
        return updates, plain, own

    def _check(self, effect: Effect, plain: torch.Tensor) -> EffectCheck:
        def measure(updates: Updates) -> tuple[LogitChange, ...]:
            return changes_at(effect, plain[0, -1], self._logits(updates, effect.token_ids)[0, -1])

        return EffectCheck(effect, dtype_name(self._dtype), measure)

    def _plain_logits(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Return the logits of the base model, shape (1, tokens, vocabulary)."""
        key = tuple(token_ids)
        with self._turn:
            found = self._plain.get(key)
            if found is None:
                if len(self._plain) >= _KEPT:
                    del self._plain[next(iter(self._plain))]
                found = self._plain[key] = self._logits(None, key)
        return found

    @torch.inference_mode()
    def _logits(self, updates: Updates | None, token_ids: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([list(token_ids)], device=self._device)
        with self._model.running(mix_updates([updates]), tokens=ids.shape[1]):
            found: torch.Tensor = self._model.model(input_ids=ids, use_cache=False).logits
        return found.float()


def _no_effect(digest: str, why: str) -> RouteError:
    return RouteError(
        f"adapter {digest}: does nothing, {why}",
        code="no-effect",
        context={"digest": digest},
        hint="it was not trained, or is no adapter of this base model",
    )
