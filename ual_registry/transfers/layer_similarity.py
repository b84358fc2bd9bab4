"""How alike the layers of two base models are on the same text, and the layer map that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ual_registry.errors import TransferError
from ual_registry.models.aligned_text import AlignedText, aligned_positions, passages
from ual_registry.models.fit_device import fit_device
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.similarity import unbiased_cka, unbiased_products
from ual_registry.transfers.blocks import block_paths
from ual_registry.transfers.collect import CollectOptions
from ual_registry.transfers.layers import LayerChoice, LayerPolicy, LayerRule, monotone_map
from ual_registry.transfers.sites import Reader, Side, Site

__all__ = ["choose_layers", "layer_similarity"]

_MAX_POSITIONS = 1024
"""Memory goes with the square of it, once for each layer of both models."""

_LEAST_POSITIONS = 4


def choose_layers(
    source: LoadedBase,
    target: LoadedBase,
    texts: Iterable[str],
    *,
    policy: LayerPolicy = LayerPolicy.PICK,
    options: CollectOptions | None = None,
) -> LayerChoice:
    """Return the layer map in which the layers of both models are most alike.

    Args:
        source: The base model of the adapter, of one stack.
        target: The base model to go to, of one stack.
        texts: Unlabelled text.
        policy: What becomes of source layers that the map does not name.
        options: How text is read.

    Raises:
        TransferError: A base model has no tokenizer or two stacks, or the text does not do.
        NumericalError: An activation is not finite.
    """
    found = monotone_map(layer_similarity(source, target, texts, options=options))
    return LayerChoice(rule=LayerRule.CKA, policy=policy, found={target.base.stacks[0].name: found})


def layer_similarity(
    source: LoadedBase,
    target: LoadedBase,
    texts: Iterable[str],
    *,
    options: CollectOptions | None = None,
    limit: int = _MAX_POSITIONS,
) -> list[list[float]]:
    """Return how alike what every two blocks give is: linear centred kernel alignment, without the bias of few rows.

    Args:
        source: The base model of the adapter, of one stack.
        target: The base model to go to, of one stack.
        texts: Unlabelled text.
        options: How text is read.
        limit: The most positions that are compared.

    Returns:
        A row for every block of the source, with a number for every block of the target.

    Raises:
        TransferError: A base model has no tokenizer or two stacks, or the text does not do.
        NumericalError: An activation is not finite.
    """
    products = _products(source, target, texts, options or CollectOptions(), limit)
    return [[unbiased_cka(own, other) for other in products[1]] for own in products[0]]


def _products(
    source: LoadedBase, target: LoadedBase, texts: Iterable[str], options: CollectOptions, limit: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the products of rows behind every block, of both models."""
    bases = source, target
    readers = Reader(source, clip=options.clip), Reader(target, clip=options.clip)
    sites = [[Site(path, Side.OUTPUT) for path in block_paths(base)] for base in bases]
    parts: list[dict[Site, list[torch.Tensor]]] = [{site: [] for site in own} for own in sites]
    count = 0
    for text in _aligned(readers, texts, options):
        kept = slice(limit - count)
        sides = (text.source_ids, text.source_positions[kept]), (text.target_ids, text.target_positions[kept])
        for reader, own, (ids, positions) in zip(readers, parts, sides, strict=True):
            for site, rows in reader.rows(ids, positions, own).items():
                own[site].append(rows.float().cpu())
        count += len(text.source_positions[kept])
        if count >= limit:
            break
    _require_positions(count)
    device = fit_device(target.device)
    made = [
        [unbiased_products(torch.cat(own[site]).to(device)) for site in order]
        for own, order in zip(parts, sites, strict=True)
    ]
    return made[0], made[1]


def _aligned(readers: tuple[Reader, Reader], texts: Iterable[str], options: CollectOptions) -> Iterator[AlignedText]:
    """Yield the passages that have positions to compare."""
    tokenizers = [reader.base.text_tokenizer for reader in readers]
    limits = readers[0].limit, readers[1].limit
    for piece in passages(texts, limit_chars=options.limit_chars):
        text = aligned_positions(piece, *tokenizers, skip=options.skip, limits=limits)
        if text.source_positions:
            yield text


def _require_positions(count: int) -> None:
    if count < _LEAST_POSITIONS:
        raise TransferError(
            f"the calibration text has {count} positions that both models have read up to the same character: expected "
            f"at least {_LEAST_POSITIONS} to compare layers",
            code="too-little-text",
            hint="give more text",
        )
