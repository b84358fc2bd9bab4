"""Two base models seen through the tokens that they share: the maps between their residual streams.

It decides which rows of their tables are anchors, and gives every module's read and write map where that leads into
the stream. What modules have inside is left to ``vocabulary_fit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ual_registry.errors import TransferError
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.vocabulary import Anchors, StreamMaps, stream_maps
from ual_registry.transfers.final_state import NormShape
from ual_registry.transfers.norm_places import NormPlaces, find_norms
from ual_registry.transfers.shared_tokens import SharedTokens, shared_tokens
from ual_registry.transfers.sites import Reader
from ual_registry.transfers.weight_fit import AnchorKind, WeightOptions

__all__ = ["Alignment", "align"]

_PROBED_TOKENS = 8
_LEAST_R2 = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Two base models and the maps between their residual streams.

    Attributes:
        source: The base model of the adapter.
        target: The base model to go to.
        norms: The norms of both.
        maps: Between streams of unit size.
        anchors: How many tokens they share.
    """

    source: LoadedBase
    target: LoadedBase
    norms: tuple[NormPlaces, NormPlaces]
    maps: StreamMaps
    anchors: int

    def read_maps(self, source: str, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps between what two modules read of the streams, by their paths.

        Returns:
            From the target's to the source's, shape (d_s, d_t), and back.
        """
        own, other = (_gain(norms.before.get(path), width) for norms, path, width in self._ends(source, target))
        there, back = self.maps.to_source, self.maps.to_target
        return own[:, None] * there / other, other[:, None] * back / own

    def write_maps(self, source: str, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps between what two modules give to the streams, by their paths.

        Returns:
            From the source's to the target's, shape (d_t, d_s), and back.
        """
        own, other = (_gain(norms.behind.get(path), width) for norms, path, width in self._ends(source, target))
        there, back = self.maps.to_target, self.maps.to_source
        return there * own / other[:, None], back * other / own[:, None]

    def warnings(self) -> Iterator[str]:
        """Yield what to know before the maps are trusted."""
        widest = max(self.maps.to_target.shape)
        if self.anchors < widest:
            yield (
                f"{self.anchors} shared tokens for maps from up to {widest} features: in some directions the penalty "
                "alone decides"
            )
        if min(self.maps.r2) < _LEAST_R2:
            yield (
                f"the tables of the two bases predict {max(min(self.maps.r2), 0.0):.0%} of each other on tokens held "
                "out; do not expect an effect"
            )

    def _ends(self, source: str, target: str) -> tuple[tuple[NormPlaces, str, int], tuple[NormPlaces, str, int]]:
        width, other = self.maps.to_source.shape
        return (self.norms[0], source, width), (self.norms[1], target, other)


def _gain(norm: NormShape | None, width: int) -> torch.Tensor:
    return torch.ones(width, dtype=torch.float64) if norm is None else norm.gain


def align(source: LoadedBase, target: LoadedBase, options: WeightOptions) -> Alignment:
    """Align two base models on the tokens that they share.

    Args:
        source: The base model of the adapter.
        target: The base model to go to.
        options: Which tables count, and the penalties.

    Raises:
        TransferError: A base model has no tokenizer or two stacks, there is no shared token, or a table is missing or
            of another width than the stream.
        NumericalError: A row of a table is not finite.
    """
    bases = (source, target)
    for base in bases:
        Reader(base)  # refuses what no single text runs through
    tables = [_table(base, base.model.get_input_embeddings(), "embedding") for base in bases]
    shared = shared_tokens(
        source.text_tokenizer,
        target.text_tokenizer,
        sizes=(len(tables[0]), len(tables[1])),
        bases=(source.base.id, target.base.id),
    )
    if len(shared) < 2:
        raise TransferError(
            f"the tokenizers of {source.base.id} and {target.base.id} have one token in common: expected at least two",
            code="no-shared-tokens",
            hint="carry the adapter by 'activations', which compares positions and not tokens",
        )
    norms = _norms(source, shared.source), _norms(target, shared.target)
    embedding, unembedding = _anchors(bases, norms, tables, shared, options.anchors)
    maps = stream_maps(embedding, unembedding, penalties=options.penalties)
    return Alignment(source=source, target=target, norms=norms, maps=maps, anchors=len(shared))


def _norms(base: LoadedBase, ids: torch.Tensor) -> NormPlaces:
    return find_norms(base, list(base.binding.modules), ids[:_PROBED_TOKENS].tolist())


def _anchors(
    bases: tuple[LoadedBase, LoadedBase],
    norms: tuple[NormPlaces, NormPlaces],
    tables: list[torch.Tensor],
    shared: SharedTokens,
    kind: AnchorKind,
) -> tuple[Anchors | None, Anchors | None]:
    embedding = unembedding = None
    if kind != AnchorKind.UNEMBEDDING:
        embedding = _gathered(shared, [_embeddings(*item) for item in zip(tables, norms, strict=True)])
    heads = [base.model.get_output_embeddings() for base in bases]
    if kind != AnchorKind.EMBEDDING and all(head is not None for head in heads):
        unembedding = _gathered(shared, [_predictors(*item) for item in zip(bases, heads, norms, strict=True)])
    if embedding is None and unembedding is None:
        lacking = next(base for base, head in zip(bases, heads, strict=True) if head is None)
        raise TransferError(
            f"base model {lacking.base.id}: {type(lacking.model).__name__} has no output table",
            code="no-table",
            context={"base_model": lacking.base.id},
            hint="take the embeddings as anchors",
        )
    return embedding, unembedding


_Rows = Callable[[torch.Tensor], torch.Tensor]


def _gathered(shared: SharedTokens, sides: Sequence[_Rows]) -> Anchors:
    source, target = sides
    return Anchors.gathered(len(shared), lambda index: (source(shared.source[index]), target(shared.target[index])))


def _embeddings(table: torch.Tensor, norms: NormPlaces) -> _Rows:
    """Return what gives embeddings as the first norm leaves them, but for its weights: streams at one size."""
    gain = torch.ones(table.shape[1], dtype=torch.float64)
    plain = NormShape(gain=gain, is_centred=norms.stream is not None and norms.stream.is_centred)
    return lambda ids: plain.scaled(_rows_of(table, ids))


def _predictors(base: LoadedBase, head: Any, norms: NormPlaces) -> _Rows:
    """Return what gives the directions in which the normed stream is read to predict tokens."""
    table = _table(base, head, "output")
    final = norms.final
    return lambda ids: _rows_of(table, ids) if final is None else final.folded(_rows_of(table, ids))


def _rows_of(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return table[ids.to(table.device)].to("cpu", torch.float64)


def _table(base: LoadedBase, module: Any, name: str) -> torch.Tensor:
    table: torch.Tensor = module.weight.detach()
    width = base.base.stacks[0].hidden_size
    if table.shape[1] != width:
        raise TransferError(
            f"base model {base.base.id}: its {name} table is {table.shape[1]} wide and its stream {width}, so its rows "
            "are no places in the stream",
            code="narrow-table",
            context={"base_model": base.base.id},
            hint="carry the adapter by 'activations'",
        )
    return table
