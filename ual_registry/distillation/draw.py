"""Drawing what a causal model goes on with, for many prompts at once and no more often than needed.

A prompt that all rows share is read once, and a row that has ended is no longer run. What a token means, and when a
row ends, is left to the caller.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.errors import NumericalError
from ual_registry.models.dense_head import dense_head

__all__ = ["choose", "draw", "next_chances"]

_HEAD_TOKENS = 512
"""How many of the likeliest tokens are looked at first; where they do not hold the wanted share, all are."""

_ENDED_SHARE = 0.125
"""From which share of ended rows on the others are moved together; moving them copies all that was read."""


@torch.no_grad()
def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    temperature: float,
    top_p: float,
    is_over: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """Go on from every prompt, with the random numbers of torch's global generator.

    Args:
        model: A causal model of transformers in evaluation mode; what it carries is run too.
        prompts: Token ids, at least one each.
        most: Tokens to add at most.
        temperature: 0 takes the likeliest token each time.
        top_p: Share of the probability that is drawn from, its largest parts first.
        is_over: Tells from what was added to a row whether it has ended; its last token is the newest.

    Returns:
        What was added to each, the token that ended it included.

    Raises:
        NumericalError: A logit is not a number, or infinite.
    """
    made: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    with dense_head(model):
        reading = _Reading.begin(model, prompts)
        for count in range(1, most + 1):
            chosen = choose(reading.logits, temperature=temperature, top_p=top_p)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if not (made[row] and is_over(made[row])):
                    made[row].append(token)
            left = [place for place, row in enumerate(rows) if not is_over(made[row])]
            if not left or count == most:
                break
            if len(left) <= (1 - _ENDED_SHARE) * len(rows):
                rows = [rows[place] for place in left]
                chosen = chosen[left]
                reading = reading.of_rows(left)
            reading = reading.after(chosen)
    return made


@torch.no_grad()
def next_chances(model: Any, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the probability of every token behind each prompt, shape (rows, vocabulary), float32.

    Args:
        model: A causal model of transformers in evaluation mode; what it carries is run too.
        prompts: Token ids, at least one each.

    Raises:
        NumericalError: A logit is not a number, or infinite.
    """
    with dense_head(model):
        logits = _Reading.begin(model, prompts).logits
    _require_finite(logits)
    return torch.softmax(logits.float(), dim=1)


def choose(logits: torch.Tensor, *, temperature: float, top_p: float) -> torch.Tensor:
    """Draw one token for each row.

    Args:
        logits: Shape (rows, vocabulary).
        temperature: 0 takes the likeliest token.
        top_p: Share of the probability that is drawn from, its largest parts first; at least one token is.

    Returns:
        Token ids, shape (rows,).

    Raises:
        NumericalError: A row has a logit that is not a number, or none that is finite.
    """
    _require_finite(logits)
    if temperature == 0:
        return logits.argmax(dim=1)
    chances = torch.softmax(logits.float() / temperature, dim=1)
    count = min(_HEAD_TOKENS, chances.shape[1])
    best, tokens = chances.topk(count, dim=1)
    if bool((best.sum(dim=1) < top_p).any()):
        best, tokens = chances.sort(dim=1, descending=True)
    before = best.cumsum(dim=1) - best
    is_cut = before >= top_p
    is_cut[:, 0] = False
    drawn = torch.multinomial(best.masked_fill(is_cut, 0.0), 1)
    return tokens.gather(1, drawn)[:, 0]


def _require_finite(logits: torch.Tensor) -> None:
    if not bool(logits.amax(dim=1).isfinite().all()):  # what is left out on purpose may be minus infinity
        raise NumericalError(
            f"the model's logits are not finite in {str(logits.dtype).removeprefix('torch.')}",
            hint="load the model in float32 or bfloat16",
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a model has read so far.

    Attributes:
        model: The model.
        logits: Of the next token, shape (rows, vocabulary).
        cache: Keys and values; ``None`` where the model keeps none that rows can be taken from.
        ids: All that was read, shape (rows, tokens).
        mask: Which of it is no padding, shape (rows, tokens); ``None`` where nothing is padding.
    """

    model: Any
    logits: torch.Tensor
    cache: Any
    ids: torch.Tensor
    mask: torch.Tensor | None

    @classmethod
    def begin(cls, model: Any, prompts: Sequence[Sequence[int]]) -> _Reading:
        """Read prompts; one that all rows share is read once."""
        device = next(model.parameters()).device
        if len({tuple(prompt) for prompt in prompts}) == 1:
            read = _read(model, torch.tensor([list(prompts[0])], device=device), None, None)
            if len(prompts) == 1 or read.cache is not None:
                return read.repeated(len(prompts))
        width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
        return _read(model, ids, None if bool(mask.all()) else mask, None)

    def repeated(self, rows: int) -> _Reading:
        """Return the same reading for several rows."""
        if rows == 1:
            return self
        self.cache.batch_repeat_interleave(rows)
        logits, ids = (value.repeat_interleave(rows, dim=0) for value in (self.logits, self.ids))
        return _Reading(self.model, logits, self.cache, ids, None)

    def of_rows(self, places: Sequence[int]) -> _Reading:
        """Return the reading of some rows."""
        index = torch.tensor(places, device=self.ids.device)
        if self.cache is not None:
            self.cache.batch_select_indices(index)
        mask = None if self.mask is None else self.mask[index]
        return _Reading(self.model, self.logits[index], self.cache, self.ids[index], mask)

    def after(self, tokens: torch.Tensor) -> _Reading:
        """Read one more token in every row; shape (rows,)."""
        ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        mask = None if self.mask is None else torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        return _read(self.model, ids, mask, self.cache)


def _read(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, cache: Any) -> _Reading:
    """Run a model on what it has not read yet: all, or the last token where it keeps a cache."""
    new = ids.shape[1] if cache is None else 1
    known = inspect.signature(model.forward).parameters
    more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    if cache is not None:
        more["past_key_values"] = cache
    if mask is not None:
        more["attention_mask"] = mask
        if "position_ids" in known:
            more["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
    found = model(input_ids=ids[:, -new:], use_cache=True, **more)
    return _Reading(model, found.logits[:, -1], _selectable(found), ids, mask)


def _selectable(output: Any) -> Any:
    """Return a cache whose rows can be chosen; ``None`` where there is none."""
    cache = getattr(output, "past_key_values", None)
    layers = getattr(cache, "layers", None)
    is_fit = layers and all(hasattr(layer, "batch_select_indices") for layer in layers)
    return cache if is_fit else None
