"""What a fit to predictions is made of: aligned text, what the adapter changes on it, and the positions that count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ual_registry.air.adapter import Adapter
from ual_registry.digest import Digest
from ual_registry.models.aligned_text import AlignedText, aligned_positions, passages, text_digest
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.token_groups import TokenGroups, token_groups
from ual_registry.transfers.final_state import FinalState, find_final_state
from ual_registry.transfers.prediction_fit import PredictionOptions, choose_rows
from ual_registry.transfers.requirements import require_passages, require_tokens
from ual_registry.transfers.sites import Reader
from ual_registry.transfers.source_change import TokenRows, output_size, read_source

__all__ = ["Material"]

_PROBED_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What does not change from sweep to sweep.

    Attributes:
        source: The base model of the adapter.
        target: The base model to go to.
        reader: Of the target.
        texts: Passages as both read them.
        text: Digest of the passages.
        groups: The group of every token of both.
        rows: The chosen positions.
        is_held_out: Which of them are held out, shape (n,).
        final: The way from the target's residual stream to its logits.
    """

    source: LoadedBase
    target: LoadedBase
    reader: Reader
    texts: Sequence[AlignedText]
    text: Digest
    groups: TokenGroups
    rows: TokenRows
    is_held_out: torch.Tensor
    final: FinalState

    @classmethod
    def read(
        cls,
        adapter: Adapter,
        source: LoadedBase,
        target: LoadedBase,
        texts: Iterable[str],
        options: PredictionOptions,
    ) -> Material:
        """Align the text, run the source over it, and choose the positions.

        Args:
            adapter: The adapter.
            source: Its base model.
            target: The base model to go to.
            texts: Unlabelled text; at least two passages.
            options: How text is read, and how many positions are chosen.

        Raises:
            TransferError: As ``run_predictions.run_predictions`` says of text, tokens and models.
            NumericalError: A logit is not finite.
        """
        pieces = passages(texts, limit_chars=options.text.limit_chars)
        require_passages(pieces)
        readers = Reader(source), Reader(target)
        tokenizers = source.text_tokenizer, target.text_tokenizer
        limits = readers[0].limit, readers[1].limit
        aligned = [aligned_positions(piece, *tokenizers, skip=options.text.skip, limits=limits) for piece in pieces]
        sizes = output_size(source), output_size(target)
        groups = token_groups(*tokenizers, sizes=sizes)
        require_tokens(len(groups), (source.base.id, target.base.id))
        everything = read_source(source, adapter, aligned, groups, count=options.tokens)
        is_held_out = torch.tensor([options.text.is_held_out(int(i), len(pieces)) for i in everything.passages])
        chosen = choose_rows(everything, is_held_out, options)
        first = aligned[int(everything.passages[chosen[0]])].target_ids[:_PROBED_TOKENS]
        return cls(
            source=source,
            target=target,
            reader=readers[1],
            texts=aligned,
            text=text_digest(pieces),
            groups=groups,
            rows=everything.at(chosen),
            is_held_out=is_held_out[chosen],
            final=find_final_state(target, first),
        )
