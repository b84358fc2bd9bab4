"""What a whole adapter does to the residual stream of its own base, carried into the stream of another base.

It decides at which positions of a text streams are compared, and how the change of one becomes the wanted change of
the other. Streams are linearly related where their models read the same text; how well is said for every layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.models.aligned_text import aligned_positions, passages, text_digest
from ual_registry.models.attach import attach
from ual_registry.models.fit_device import fit_device
from ual_registry.models.loaded import LoadedBase
from ual_registry.projection.maps import Direction, LinearMap, best_ridge
from ual_registry.projection.moments import PairMoments
from ual_registry.transfers.collect import CollectOptions
from ual_registry.transfers.requirements import require_passages, require_positions
from ual_registry.transfers.sites import Reader
from ual_registry.transfers.streams import WRITERS, Point, Stream

__all__ = ["EffectMaterial", "ResidualOptions", "StreamText", "WantedStream", "read_texts", "wanted_stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualOptions:
    """How the effect on the residual stream is carried, and where updates go.

    Attributes:
        roles: Which modules of each layer get an update: those that write into the stream.
        layers: Which layers of the target; all where absent.
        rank: Of each update.
        penalties: Of the regression on what a module reads; the one that predicts held-out text best is taken.
        map_penalties: Of the maps between streams, likewise.
        reach: How many points of the source, before and behind the corresponding one, are tried for each point of the
            target; the one that predicts held-out text best is taken.
        gate: The least held-out R2 of the map to a layer; layers below get nothing.
        max_rows: The most positions to use, taken at random.
        seed: Of that choice.
        text: How text is read.
        any_base: Whether to take base models that are not those of the adapter and the plan.
    """

    roles: tuple[str, ...] = ("mlp_down",)
    layers: tuple[int, ...] | None = None
    rank: int = 32
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    map_penalties: tuple[float, ...] = (0.1, 0.03, 0.01, 0.001)
    reach: int = 0
    gate: float = 0.3
    max_rows: int = 8000
    seed: int = 0
    text: CollectOptions = field(default_factory=CollectOptions)
    any_base: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TransferError: A number is out of its range, or there is no penalty.
        """
        wrong = {
            "rank": self.rank < 1,
            "reach": self.reach < 0,
            "gate": not self.gate <= 1,
            "max_rows": self.max_rows < 4,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise TransferError(f"{name}: got {getattr(self, name)}, which is out of range", code="bad-option")
        if not self.roles or not set(self.roles) <= set(WRITERS):
            raise TransferError(
                f"roles {', '.join(self.roles) or '(none)'}: expected some of {', '.join(WRITERS)}", code="bad-option"
            )
        for name in ("penalties", "map_penalties"):
            given = getattr(self, name)
            if not given or not all(0 < penalty < float("inf") for penalty in given):
                raise TransferError(f"{name}: expected at least one number above 0", code="bad-option")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamText:
    """A passage as both models read it, and the positions where they are compared.

    Attributes:
        source_ids: Token ids of the source.
        target_ids: Token ids of the target.
        source_positions: Positions in ``source_ids``.
        target_positions: As many in ``target_ids``.
        is_held_out: Whether nothing is fitted to it.
    """

    source_ids: Sequence[int]
    target_ids: Sequence[int]
    source_positions: Sequence[int]
    target_positions: Sequence[int]
    is_held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedStream:
    """The target's stream at one point as it is to become.

    Attributes:
        rows: Shape (n, d), float32.
        change: By how much it is to change, shape (n, d), float32.
        source: The point of the source that it is carried from.
        r2: Held-out R2 of the map from the source's stream to the target's, without the adapter.
        penalty: Of that map.
    """

    rows: torch.Tensor
    change: torch.Tensor
    source: Point
    r2: float
    penalty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectMaterial:
    """Streams at the chosen positions of all texts.

    Attributes:
        texts: The passages.
        text: Digest of the passages.
        is_held_out: Which rows are held out, shape (n,).
        before: The source's stream at each point that is used, shape (n, d_s), float32.
        change: What the adapter adds to it, likewise.
        target: The target's stream at each point that is used, shape (n, d_t), float32.
        device: Where maps are fitted; what was read is kept in the memory of the host.
    """

    texts: Sequence[StreamText]
    text: Digest
    is_held_out: torch.Tensor
    before: Mapping[Point, torch.Tensor]
    change: Mapping[Point, torch.Tensor]
    target: Mapping[Point, torch.Tensor]
    device: torch.device

    @classmethod
    def read(
        cls,
        adapter: Adapter,
        source: LoadedBase,
        target: LoadedBase,
        texts: Iterable[str],
        *,
        points: Mapping[Point, Sequence[Point]],
        options: ResidualOptions,
    ) -> EffectMaterial:
        """Run the source with and without the adapter, and the target, over a text.

        Args:
            adapter: The adapter.
            source: Its base model.
            target: The base model to go to.
            texts: Unlabelled text; at least two passages.
            points: Points of the source for every point of the target that is used.
            options: How text is read.

        Raises:
            TransferError: A base model has no tokenizer, or the text does not do.
            NumericalError: A stream is not finite.
        """
        chosen, digest = read_texts(source, target, texts, options)
        held = [torch.full((len(text.source_positions),), text.is_held_out) for text in chosen]
        own = [(text.source_ids, text.source_positions) for text in chosen]
        other = [(text.target_ids, text.target_positions) for text in chosen]
        used = {point for some in points.values() for point in some}
        before = _streams(source, own, used, None)
        after = _streams(source, own, used, adapter)
        return cls(
            texts=chosen,
            text=digest,
            is_held_out=torch.cat(held),
            before=before,
            change={point: after[point] - rows for point, rows in before.items()},
            target=_streams(target, other, set(points), None),
            device=fit_device(target.device),
        )


def read_texts(
    source: LoadedBase, target: LoadedBase, texts: Iterable[str], options: ResidualOptions
) -> tuple[list[StreamText], Digest]:
    """Align texts, and choose positions; passages without any are left out.

    Args:
        source: The base model of the adapter.
        target: The base model to go to.
        texts: Unlabelled text.
        options: How it is read.

    Returns:
        The passages, and the digest of all of the text.

    Raises:
        TransferError: A base model has no tokenizer, or there are fewer than two positions to fit or to judge on.
    """
    pieces = passages(texts, limit_chars=options.text.limit_chars)
    require_passages(pieces)
    limits = Reader(source).limit, Reader(target).limit
    tokenizers = source.text_tokenizer, target.text_tokenizer
    found = []
    for index, piece in enumerate(pieces):
        aligned = aligned_positions(piece, *tokenizers, skip=options.text.skip, limits=limits)
        is_held_out = options.text.is_held_out(index, len(pieces))
        found.append(
            StreamText(
                source_ids=aligned.source_ids,
                target_ids=aligned.target_ids,
                source_positions=aligned.source_positions,
                target_positions=aligned.target_positions,
                is_held_out=is_held_out,
            )
        )
    chosen = [text for text in _thinned(found, options) if text.source_positions]
    counts = [sum(len(text.source_positions) for text in chosen if text.is_held_out is held) for held in (False, True)]
    require_positions(*counts)
    return chosen, text_digest(pieces)


def _thinned(texts: Sequence[StreamText], options: ResidualOptions) -> list[StreamText]:
    """Leave positions out at random where there are too many."""
    total = sum(len(text.source_positions) for text in texts)
    if total <= options.max_rows:
        return list(texts)
    generator = torch.Generator().manual_seed(options.seed)
    kept = torch.zeros(total, dtype=torch.bool)
    kept[torch.randperm(total, generator=generator)[: options.max_rows]] = True
    found = []
    for text, mask in zip(texts, torch.split(kept, [len(text.source_positions) for text in texts]), strict=True):
        index = mask.nonzero()[:, 0].tolist()
        found.append(
            StreamText(
                source_ids=text.source_ids,
                target_ids=text.target_ids,
                source_positions=[text.source_positions[i] for i in index],
                target_positions=[text.target_positions[i] for i in index],
                is_held_out=text.is_held_out,
            )
        )
    return found


def _streams(
    base: LoadedBase,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    points: Collection[Point],
    adapter: Adapter | None,
) -> dict[Point, torch.Tensor]:
    """Return the stream at some points at the positions of all texts, with an adapter or without."""
    stream, reader = Stream.of(base, points, texts[0][0]), Reader(base)
    parts: dict[Point, list[torch.Tensor]] = {point: [] for point in sorted(points)}
    sites = {site for point in points for site in stream.sites(point)}
    with contextlib.nullcontext() if adapter is None else attach(base.model, adapter):
        for ids, positions in texts:
            rows = {site: own.cpu() for site, own in reader.rows(ids, positions, sites).items()}
            for point, found in parts.items():
                found.append(stream.rows(point, rows).float())
    return {point: torch.cat(rows) for point, rows in parts.items()}


def wanted_stream(
    material: EffectMaterial, sources: Sequence[Point], target: Point, options: ResidualOptions
) -> WantedStream:
    """Carry what the adapter does at a point of the source to a point of the target.

    Args:
        material: The streams.
        sources: Points of the source; of equally good ones the first is taken.
        target: The point of the target.
        options: Penalties of the map.
    """
    own = material.target[target]
    fits = {point: _mapped(material, point, own, options) for point in sources}
    best = max(sources, key=lambda point: round(fits[point][1], 6))
    fitted, r2 = fits[best]
    # A difference of two states has no bias: the matrix alone carries it.
    change = (material.change[best].to(material.device) @ fitted.matrix.T.float()).cpu()
    assert fitted.report is not None  # it was fitted
    return WantedStream(rows=own + change, change=change, source=best, r2=r2, penalty=fitted.report.penalty)


def _mapped(
    material: EffectMaterial, source: Point, own: torch.Tensor, options: ResidualOptions
) -> tuple[LinearMap, float]:
    """Return the map from a stream of the source, and its held-out R2."""
    before, moments = material.before[source], []
    for index in (~material.is_held_out, material.is_held_out):
        found = PairMoments(before.shape[1], own.shape[1], device=material.device)
        found.update(before[index], own[index])
        moments.append(found)
    return best_ridge(*moments, penalties=options.map_penalties, direction=Direction.X_TO_Y)
