"""An adapter ready to run, and the proof that it acts: all of it is used, and it changes what the model says."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.dispatch.mixing import MixingModel, Updates, mix_updates
from ual_registry.errors import NumericalError, RouteError
from ual_registry.models.attach import module_updates

__all__ = ["AdapterLoader", "LoadedAdapter"]

_PROBE_TOKENS = 16
_STRIDE = 7919  # a prime, so that the probe walks through the whole vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAdapter:
    """An adapter in memory that was seen to act.

    Attributes:
        digest: Its digest.
        updates: What it adds, by the path of the module.
        size_bytes: Memory of its factors.
        largest_change: Largest change of a logit on the probe.
    """

    digest: str
    updates: Updates
    size_bytes: int
    largest_change: float


class AdapterLoader:
    """Loads adapters for one model.

    Args:
        model: The model.
    """

    def __init__(self, model: MixingModel) -> None:
        self._model = model
        vocabulary = int(model.model.get_input_embeddings().num_embeddings)
        device = next(model.model.parameters()).device
        self._probe = torch.arange(1, _PROBE_TOKENS + 1, device=device)[None] * _STRIDE % vocabulary
        self._turn = threading.Lock()
        self._plain: torch.Tensor | None = None

    def load(self, adapter: Adapter, digest: str) -> LoadedAdapter:
        """Load an adapter and prove that it acts.

        Args:
            adapter: The adapter.
            digest: Its digest.

        Raises:
            RouteError: It changes nothing, or the model does not use all of it.
            NumericalError: The model's logits are not finite with it.
            UALError: It does not fit the model; as ``models.attach.module_updates``.
        """
        updates = module_updates(self._model.model, adapter)
        is_empty = all(not own.lora_B.any() and (own.bias is None or not own.bias.any()) for own in updates.values())
        if is_empty:
            raise self._no_effect(digest, "every lora_B is zero")
        change = self._change(updates, digest)
        if change == 0:
            raise self._no_effect(digest, "the logits of the probe are those of the base model")
        tensors = [own for update in updates.values() for own in (update.lora_A, update.lora_B, update.bias)]
        size_bytes = sum(own.nbytes for own in tensors if own is not None)
        return LoadedAdapter(digest=digest, updates=updates, size_bytes=size_bytes, largest_change=change)

    def _change(self, updates: Updates, digest: str) -> float:
        with self._turn:
            if self._plain is None:
                self._plain = self._logits(None)
        found = self._logits(updates)
        unused = sorted(updates.keys() - self._model.used())
        if unused:
            raise RouteError(
                f"adapter {digest}: the model does not run {len(unused)} of its modules, {unused[0]} among them",
                code="unused-modules",
                context={"digest": digest, "module": unused[0]},
                hint="give an adapter that was made for this base model",
            )
        if not bool(found.isfinite().all()):
            raise NumericalError(
                f"adapter {digest}: the logits of the probe are not finite",
                context={"digest": digest},
                hint="compute in a wider dtype",
            )
        return float((found - self._plain).abs().max())

    @torch.inference_mode()
    def _logits(self, updates: Updates | None) -> torch.Tensor:
        with self._model.running(mix_updates([updates]), tokens=self._probe.shape[1]):
            found: torch.Tensor = self._model.model(input_ids=self._probe, use_cache=False).logits
        return found

    def _no_effect(self, digest: str, why: str) -> RouteError:
        return RouteError(
            f"adapter {digest}: does nothing, {why}",
            code="no-effect",
            context={"digest": digest},
            hint="it was not trained, or is no adapter of this base model",
        )
