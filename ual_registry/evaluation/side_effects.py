"""What an adapter does to text that it was not made for: bits per byte, and the divergence from the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ual_registry.air.adapter import Adapter
from ual_registry.evaluation.bootstrap import Interval, interval, resample
from ual_registry.evaluation.items import Document
from ual_registry.evaluation.likelihood import segments
from ual_registry.evaluation.series import Series
from ual_registry.evaluation.tasks import LoadedModel, windows
from ual_registry.models.attach import attach

__all__ = ["EffectSeries", "SideEffects", "effect_series", "measure_side_effects", "side_effects_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEffects:
    """What an adapter does to generic text.

    Attributes:
        documents: How many documents.
        data_digest: Digest of their file.
        bits_per_byte: Of the base.
        change: Bits per byte with the adapter minus those of the base; positive where text became less likely.
        divergence: Mean over tokens of KL(base || base + adapter), in nats.
    """

    documents: int
    data_digest: str
    bits_per_byte: Interval
    change: Interval
    divergence: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSeries:
    """What an adapter does to generic text, document by document: enough for any draw of them.

    Attributes:
        before: Bits of the base, over bytes.
        after: Bits with the adapter, over the same bytes.
        divergence: Their divergence in nats, over tokens.
    """

    before: Series
    after: Series
    divergence: Series


def measure_side_effects(
    loaded: LoadedModel, adapter: Adapter, items: Sequence[Document], *, data_digest: str, seed: int, resamples: int
) -> SideEffects:
    """Run both models over generic text, and draw the documents anew for the intervals.

    Args:
        loaded: The base model.
        adapter: An adapter for it.
        items: The documents.
        data_digest: Digest of their file.
        seed: Seeds the draws of documents.
        resamples: How many draws.
    """
    series = effect_series(loaded, adapter, items)
    return side_effects_of(series, data_digest=data_digest, seed=seed, resamples=resamples)


@torch.no_grad()
def effect_series(loaded: LoadedModel, adapter: Adapter, items: Sequence[Document]) -> EffectSeries:
    """Run both models over generic text, side by side, so that no more than one segment's logits are ever held.

    Args:
        loaded: The base model.
        adapter: An adapter for it.
        items: The documents.
    """
    found = np.array([_document(loaded, adapter, item) for item in items])
    size = np.array([len(item.text.encode()) for item in items], dtype=np.float64)
    before, after = (_series("bits_per_byte", found[:, column] / math.log(2), size) for column in (0, 1))
    return EffectSeries(before=before, after=after, divergence=_series("kl", found[:, 2], found[:, 3]))


def side_effects_of(found: EffectSeries, *, data_digest: str, seed: int, resamples: int) -> SideEffects:
    """Return what the documents say together, with intervals.

    Args:
        found: What each of them says.
        data_digest: Digest of their file.
        seed: Seeds the draws of documents.
        resamples: How many draws.
    """
    drawn = resample([found.before, found.after], seed=seed, resamples=resamples)
    apart = resample([found.divergence], seed=seed, resamples=resamples)
    return SideEffects(
        documents=len(found.before.values),
        data_digest=data_digest,
        bits_per_byte=interval(found.before.value, drawn[:, 0]),
        change=interval(found.after.value - found.before.value, drawn[:, 1] - drawn[:, 0]),
        divergence=interval(found.divergence.value, apart[:, 0]),
    )


def _series(metric: str, values: np.ndarray, weights: np.ndarray) -> Series:
    return Series(metric=metric, values=values, weights=weights, is_better_high=False, is_share=False)


def _document(loaded: LoadedModel, adapter: Adapter, item: Document) -> tuple[float, float, float, float]:
    """Return nats of the base, nats with the adapter, their divergence in nats, and tokens."""
    totals = [0.0, 0.0, 0.0, 0.0]
    for window in windows(loaded, item):
        targets = torch.tensor(window[1:], device=loaded.model.device)
        plain, adapted = segments(loaded.model, window[:-1]), segments(loaded.model, window[:-1])
        for start, before in plain:
            with attach(loaded.model, adapter):
                _, after = next(adapted)
            own = targets[start : start + before.shape[0], None]
            totals[0] -= float(before.gather(1, own).double().sum())
            totals[1] -= float(after.gather(1, own).double().sum())
            totals[2] += float((before.exp() * (before - after)).sum(dim=1).double().sum())
            totals[3] += len(own)
    return totals[0], totals[1], totals[2], totals[3]
