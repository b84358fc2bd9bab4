"""What a model has read of a batch whose rows have adapters of their own, and how it reads on, token by token."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.dispatch.few_rows import with_room
from ual_registry.dispatch.mixing import AdapterMix, MixingModel, Updates, mix_updates

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read so far.

    Attributes:
        model: The model.
        mix: Which adapter every row has.
        logits: Of the next token, shape (rows, vocabulary).
        cache: Keys and values; ``None`` where the model keeps none that rows can be taken from.
        ids: All that was read, shape (rows, tokens).
        mask: Which of it is no padding, shape (rows, tokens); ``None`` where nothing is padding.
    """

    model: MixingModel
    mix: AdapterMix
    logits: torch.Tensor
    cache: Any
    ids: torch.Tensor
    mask: torch.Tensor | None

    @classmethod
    def begin(cls, model: MixingModel, prompts: Sequence[Sequence[int]], updates: Sequence[Updates | None]) -> Reading:
        """Read prompts, shorter ones padded on their left.

        Args:
            model: The model.
            prompts: Token ids, at least one each.
            updates: The adapter of every row; ``None`` for the base model.
        """
        device = next(model.model.parameters()).device
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        return _read(model, mix_updates(updates), ids, None if bool(mask.all()) else mask, None)

    def of_rows(self, places: Sequence[int]) -> Reading:
        """Return the reading of some rows; this one can no longer be read on."""
        index = torch.tensor(places, device=self.ids.device)
        if self.cache is not None:
            self.cache.batch_select_indices(index)
        mask = None if self.mask is None else self.mask[index]
        return Reading(self.model, self.mix.of_rows(index), self.logits[index], self.cache, self.ids[index], mask)

    def after(self, tokens: Sequence[int]) -> Reading:
        """Read one more token in every row."""
        new = torch.tensor(tokens, device=self.ids.device)[:, None]
        mask = None if self.mask is None else torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        return _read(self.model, self.mix, torch.cat([self.ids, new], dim=1), mask, self.cache)


@torch.inference_mode()
def _read(model: MixingModel, mix: AdapterMix, ids: torch.Tensor, mask: torch.Tensor | None, cache: Any) -> Reading:
    """Run a model on what it has not read yet: all, or the last token where it keeps a cache."""
    new = ids.shape[1] if cache is None else 1
    known = inspect.signature(model.model.forward).parameters
    more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    if cache is not None:
        more["past_key_values"] = cache
    if mask is not None:
        more["attention_mask"] = mask
        if "position_ids" in known:
            more["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
    with model.running(mix, tokens=new):
        found = model.model(input_ids=ids[:, -new:], use_cache=True, **more)
    own = _selectable(found)
    if own is not None and cache is None:
        own = with_room(own)
    return Reading(model, mix, found.logits[:, -1], own, ids, mask)


def _selectable(output: Any) -> Any:
    """Return a cache whose rows can be chosen; ``None`` where there is none."""
    cache = getattr(output, "past_key_values", None)
    layers = getattr(cache, "layers", None)
    is_fit = layers and all(hasattr(layer, "batch_select_indices") for layer in layers)
    return cache if is_fit else None
