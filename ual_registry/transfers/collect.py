"""Statistics of two base models over the same text: one run of each model per passage, moments of paired rows.

Only sites that are asked for are read, and sites that read the very same tensor are read once. What a linear module
writes follows from what it reads and its weights (``outputs``), so the sites of its output need not be read.
Memory is that of the second moments, twice: for the passages that maps are fitted on and for those held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ual_registry.digest import Digest
from ual_registry.errors import TransferError
from ual_registry.models.aligned_text import SKIPPED_TOKENS, AlignedText, aligned_positions, passages, text_digest
from ual_registry.models.fit_device import fit_device
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.plain_tokens import tokenizer_digest
from ual_registry.transfers.requirements import require_passages, require_positions
from ual_registry.transfers.sites import Reader, Site, SitePair, shared_sites
from ual_registry.transfers.statistics_store import PairStatistics, Progress, Shelf, StatisticsStore

__all__ = ["CollectOptions", "Statistics", "collect"]

_FLUSH_ROWS = 512
"""Rows that are gathered before they go into the moments; adding few rows to large moments is slow."""

_SAVE_ROWS = 4096
"""Rows after which what was collected is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """How text is read.

    Attributes:
        skip: Tokens at the start of a passage, beside the special ones, that are left out.
        clip: Rows longer than this many times the median length of their passage are shortened to that; ``None``
            leaves all as they are.
        limit_chars: The longest passage, in characters.
        held_out_every: One of so many passages is held out.
    """

    skip: int = SKIPPED_TOKENS
    clip: float | None = None
    limit_chars: int = 2000
    held_out_every: int = 5

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            TransferError: A number is out of its range.
        """
        wrong = {
            "skip": self.skip < 0,
            "clip": self.clip is not None and not self.clip > 0,
            "limit_chars": self.limit_chars < 1,
            "held_out_every": self.held_out_every < 2,
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise TransferError(f"{name}: got {getattr(self, name)}, which is out of range", code="bad-option")

    def is_held_out(self, index: int, count: int) -> bool:
        """Tell whether a passage is held out; one of them always is."""
        every = min(self.held_out_every, count)
        return index % every == every - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Moments of pairs of sites, over one text.

    Attributes:
        leaders: For every pair that was asked for the one that has its rows.
        moments: By leading pair; empty where they stand on the shelf.
        shelf: Where they are kept; ``None`` where they are not.
        text: Digest of the passages.
        positions: Pairs of rows to fit on.
        held_out_positions: Pairs of rows to judge on.
    """

    leaders: Mapping[SitePair, SitePair]
    moments: Mapping[SitePair, PairStatistics] = field(default_factory=dict)
    shelf: Shelf | None = None
    text: Digest
    positions: int
    held_out_positions: int

    def of(self, pair: SitePair) -> PairStatistics:
        """Return the moments of a pair that was asked for.

        Raises:
            TransferError: The file that holds them was damaged since.
        """
        leader = self.leaders[pair]
        found = self.moments.get(leader) or (self.shelf.load(leader) if self.shelf else None)
        if found is None:
            raise TransferError(
                f"statistics of {pair.target.path}: their file was damaged or removed since it was written",
                code="statistics-lost",
                hint="run it again; what is missing is collected again",
            )
        return found


def collect(
    source: LoadedBase,
    target: LoadedBase,
    pairs: Iterable[SitePair],
    texts: Iterable[str],
    *,
    options: CollectOptions | None = None,
    store: StatisticsStore | None = None,
) -> Statistics:
    """Run both models over texts and take the moments of pairs of sites.

    Args:
        source: The base model of the adapter.
        target: The base model to go to.
        pairs: Which sites to compare.
        texts: Unlabelled text; at least two passages.
        options: How to read it.
        store: Where to keep the moments, to go on where a run was cut off, and to find those of earlier runs.

    Raises:
        TransferError: A base model has no tokenizer, the text is empty or too short, or a module is not run.
        NumericalError: An activation is not finite; its module is named.
        StorageError: The store cannot be written.
    """
    chosen = options or CollectOptions()
    text = _Text(source, target, passages(texts, limit_chars=chosen.limit_chars), chosen)
    leaders = _leaders(text, list(pairs))
    wanted = sorted(set(leaders.values()))
    if store is None:
        moments = _Collector(text, wanted, None).run(Progress())
        return _statistics(text, leaders, moments, None)
    shelf = store.shelf(_about(text))
    with shelf.locked():
        missing = [pair for pair in wanted if not shelf.has(pair)]
        if missing:
            shelf.finish(_Collector(text, missing, shelf).run(shelf.progress(missing)))
    return _statistics(text, leaders, {}, shelf)


class _Text:
    """Passages, and the two models that read them."""

    def __init__(self, source: LoadedBase, target: LoadedBase, pieces: list[str], options: CollectOptions) -> None:
        self.pieces = pieces
        self.options = options
        self.readers = (Reader(source, clip=options.clip), Reader(target, clip=options.clip))
        self.tokenizers = (source.text_tokenizer, target.text_tokenizer)
        require_passages(pieces)

    def aligned(self, index: int) -> AlignedText:
        """Return a passage as both models read it."""
        limits = (self.readers[0].limit, self.readers[1].limit)
        return aligned_positions(self.pieces[index], *self.tokenizers, skip=self.options.skip, limits=limits)

    def first(self) -> AlignedText:
        """Return the first passage that has positions to compare.

        Raises:
            TransferError: None has.
        """
        found = next((own for own in map(self.aligned, range(len(self.pieces))) if own.source_positions), None)
        if found is None:
            require_positions(0, 0)
        assert found is not None  # or else it was refused
        return found

    def is_held_out(self, index: int) -> bool:
        """Tell whether a passage is held out."""
        return self.options.is_held_out(index, len(self.pieces))


_PROBED_TOKENS = 8


def _leaders(text: _Text, pairs: list[SitePair]) -> dict[SitePair, SitePair]:
    """Return for every pair the one whose sites read the same tensors first."""
    first = text.first()
    source, target = text.readers
    sources = shared_sites(source, first.source_ids[:_PROBED_TOKENS], {pair.source for pair in pairs})
    targets = shared_sites(target, first.target_ids[:_PROBED_TOKENS], {pair.target for pair in pairs})
    return {pair: SitePair(sources[pair.source], targets[pair.target]) for pair in pairs}


def _about(text: _Text) -> dict[str, Any]:
    """Say what statistics depend on beside the sites."""
    options = text.options
    return {
        "source": _model(text.readers[0].base),
        "target": _model(text.readers[1].base),
        "text": str(text_digest(text.pieces)),
        "options": {"skip": options.skip, "clip": options.clip, "held_out_every": options.held_out_every},
    }


def _model(base: LoadedBase) -> dict[str, str | None]:
    return {
        "config": base.base.config_digest,
        "weights": base.base.weights_digest,
        "tokenizer": str(tokenizer_digest(base.text_tokenizer)),
        "dtype": str(base.model.dtype),
    }


def _statistics(
    text: _Text,
    leaders: Mapping[SitePair, SitePair],
    moments: Mapping[SitePair, PairStatistics],
    shelf: Shelf | None,
) -> Statistics:
    """Count the positions, the same for all pairs; with too few there is nothing to fit."""
    made = Statistics(
        leaders=leaders,
        moments=moments,
        shelf=shelf,
        text=text_digest(text.pieces),
        positions=0,
        held_out_positions=0,
    )
    found = made.of(next(iter(leaders)))
    counts = found.fit.count, found.held_out.count
    require_positions(*counts)
    return replace(made, positions=counts[0], held_out_positions=counts[1])


class _Collector:
    """Runs both models over the passages and adds their rows to the moments."""

    def __init__(self, text: _Text, pairs: Sequence[SitePair], shelf: Shelf | None) -> None:
        self.text = text
        self.pairs = pairs
        self.shelf = shelf
        self.device = fit_device(text.readers[1].base.device)
        self.moments: dict[SitePair, PairStatistics] = {}
        self.waiting = {False: _Waiting(), True: _Waiting()}

    def run(self, progress: Progress) -> dict[SitePair, PairStatistics]:
        """Go on where an earlier run stopped, to the end."""
        self.moments = {pair: own.to(self.device) for pair, own in progress.moments.items()}
        unsaved = 0
        for index in range(progress.passages, len(self.text.pieces)):
            unsaved += self._read(index)
            if unsaved >= _SAVE_ROWS and self.shelf is not None:
                self._flush()
                self.shelf.save_progress(Progress(passages=index + 1, moments=self.moments))
                unsaved = 0
        self._flush()
        return self.moments

    def _read(self, index: int) -> int:
        """Take the rows of one passage and return how many there were."""
        aligned = self.text.aligned(index)
        if aligned.source_positions:
            source, target = self.text.readers
            is_held_out = self.text.is_held_out(index)
            waiting = self.waiting[is_held_out]
            waiting.add(
                source.rows(aligned.source_ids, aligned.source_positions, {pair.source for pair in self.pairs}),
                target.rows(aligned.target_ids, aligned.target_positions, {pair.target for pair in self.pairs}),
                len(aligned.source_positions),
            )
            if waiting.count >= _FLUSH_ROWS or not self.moments:
                self._flush()
        return len(aligned.source_positions)

    def _flush(self) -> None:
        for is_held_out, waiting in self.waiting.items():
            for pair in self.pairs if waiting.parts else ():
                x, y = waiting.rows(pair)
                if pair not in self.moments:
                    self.moments[pair] = PairStatistics.empty(x.shape[1], y.shape[1], self.device)
                chosen = self.moments[pair].held_out if is_held_out else self.moments[pair].fit
                chosen.update(x, y)
            self.waiting[is_held_out] = _Waiting()


class _Waiting:
    """Rows that are not in the moments yet."""

    def __init__(self) -> None:
        self.parts: list[tuple[dict[Site, torch.Tensor], dict[Site, torch.Tensor]]] = []
        self.count = 0

    def add(self, source: dict[Site, torch.Tensor], target: dict[Site, torch.Tensor], count: int) -> None:
        """Take the rows of one passage."""
        self.parts.append((source, target))
        self.count += count

    def rows(self, pair: SitePair) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of a pair, of all passages."""
        return (
            torch.cat([source[pair.source] for source, _ in self.parts]),
            torch.cat([target[pair.target] for _, target in self.parts]),
        )
