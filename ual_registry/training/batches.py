"""Rows of tokens as tensors: padded to the longest of a micro-batch, or several in a line that do not see one another.

A packed line is told by its position ids, which begin anew with every row. Where neither an attention mask nor a cache
is given, transformers reads them as a block-diagonal causal mask, and with it the sliding windows of the models that
have them (``transformers.masking_utils.find_packed_sequence_indices``). ``packing.check_packing`` runs a model to see
that it does. What is masked for a masked head follows from seed, epoch and row, so a resumed run masks the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch

from ual_registry.training.config import TrainingConfig
from ual_registry.training.order import Bins, cut_by_length, filled, lay_out, share_of, steps_of
from ual_registry.training.place import place_of
from ual_registry.training.prepare import Prepared
from ual_registry.training.rows import NO_LABEL, TokenRow

__all__ = ["Batch", "Batches"]

Batch = dict[str, torch.Tensor]

_HELD_OUT = -1
"""The epoch that held-out rows are masked for: always the same, so that looks can be compared."""
_MASKED, _RANDOM = 0.8, 0.1
"""Shares of those that are masked, and that become another token; the rest stays (BERT, Devlin et al. 2018, 3.1)."""


_PASS_COST = {"cpu": 40, "cuda": 1024}
"""What a pass costs beside its places, in places: measured on a CPU with a model of 135M, guessed for a GPU."""


class Batches:
    """Makes the batches of one side of the split.

    Args:
        rows: The rows.
        prepared: What they were prepared with.
        config: How they are put together.
    """

    def __init__(self, rows: Sequence[TokenRow], prepared: Prepared, config: TrainingConfig) -> None:
        self.rows = rows
        self._prepared, self._config = prepared, config
        self._lengths = [len(row.input_ids) for row in rows]

    def steps(self, epoch: int, processes: int = 1) -> tuple[tuple[int, ...], ...]:
        """Return the rows of every step of an epoch; every epoch has as many steps.

        Args:
            epoch: The epoch, from 0.
            processes: How many processes share a step.
        """
        config = self._config
        size, is_grouped = config.effective_batch * processes, config.batching == "grouped"
        return steps_of(self._lengths, size=size, seed=config.seed, epoch=epoch, by_length=is_grouped)

    def parts(self, step: Sequence[int], process: int = 0, processes: int = 1) -> Bins:
        """Return the micro-batches of one process in a step.

        Shuffled rows, and pairs of rows for a decoder, come ``batch_size`` at a time. Of others come as many as cost
        the least, and no more than take the places of ``batch_size`` of the longest rows that there are.

        Args:
            step: The rows of the step.
            process: Which process, from 0.
            processes: How many processes share it.
        """
        size, batching = self._config.batch_size, self._config.batching
        parts = share_of(step, size=size, process=process, processes=processes)
        rows = [row for part in parts for row in part]
        if batching == "shuffled" or self._config.head == "seq2seq" or not rows:
            return parts
        widths, limit = [self._lengths[row] for row in rows], size * max(self._lengths)
        if batching == "packed":
            return filled(rows, widths, limit=limit)
        return cut_by_length(rows, widths, limit=limit, pass_cost=_PASS_COST[place_of(self._config).device])

    def collate(self, positions: Sequence[int], epoch: int) -> Batch:
        """Return the batch of some rows.

        Args:
            positions: Which rows; where there are none the batch is one row on which nothing is trained.
            epoch: The epoch, which masks follow from.

        Returns:
            ``input_ids``, ``labels`` and ``attention_mask``, int64, shape (rows, tokens); of packed lines
            ``position_ids`` in place of the mask; of classes ``labels`` of shape (rows,).
        """
        if not positions:
            batch = self.collate([0], epoch)
            return {**batch, "labels": torch.full_like(batch["labels"], NO_LABEL)}
        rows = [self.rows[position] for position in positions]
        if self._config.batching == "packed":
            lengths = [self._lengths[position] for position in positions]
            return _packed(rows, lay_out(lengths, limit=self._config.max_length), self._prepared.pad_id)
        if self._config.head == "masked":
            rows = [self._masked(row, epoch, place) for row, place in zip(rows, positions, strict=True)]
        return _padded(rows, self._prepared.pad_id, has_classes=self._config.head == "classification")

    def held_out(self, process: int = 0, processes: int = 1) -> Iterator[Batch]:
        """Yield all rows in batches of like length, the longest first, or the share of one process of them."""
        order = sorted(range(len(self.rows)), key=lambda row: (-self._lengths[row], row))
        size = self._config.batch_size
        for start in range(process * size, len(order), processes * size):
            yield self.collate(order[start : start + size], _HELD_OUT)

    def _masked(self, row: TokenRow, epoch: int, place: int) -> TokenRow:
        """Return a row with some tokens to be found; at least one, and the same for the same epoch."""
        config, prepared = self._config, self._prepared
        chance = random.Random(f"masks {config.seed} {epoch} {place}")  # noqa: S311  # a mask is no secret
        can_be = [index for index, label in enumerate(row.labels) if label != NO_LABEL]
        ids, labels = row.input_ids[:], row.labels[:]
        wanted = set(chance.sample(can_be, max(1, round(config.mask_share * len(can_be)))))
        for index in can_be:
            if index not in wanted:
                labels[index] = NO_LABEL
                continue
            fate = chance.random()
            if fate < _MASKED and prepared.mask_id is not None:
                ids[index] = prepared.mask_id
            elif fate < _MASKED + _RANDOM:
                ids[index] = chance.choice(prepared.plain_ids)
        return TokenRow(input_ids=ids, labels=labels, document=row.document)


def _padded(rows: Sequence[TokenRow], pad_id: int, *, has_classes: bool) -> Batch:
    """Return rows filled up on the right to the longest of them."""
    width = max(len(row.input_ids) for row in rows)
    filled = [[*row.input_ids, *[pad_id] * (width - len(row.input_ids))] for row in rows]
    mask = [[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows]
    if has_classes:
        labels = torch.tensor([row.labels[0] for row in rows])
    else:
        wide = max(len(row.labels) for row in rows)
        labels = torch.tensor([[*row.labels, *[NO_LABEL] * (wide - len(row.labels))] for row in rows])
    return {"input_ids": torch.tensor(filled), "attention_mask": torch.tensor(mask), "labels": labels}


def _packed(rows: Sequence[TokenRow], lines: Bins, pad_id: int) -> Batch:
    """Return lines of rows; position ids begin anew with every row, and with what fills a line up."""
    width = max(sum(len(rows[row].input_ids) for row in line) for line in lines)
    ids, labels, positions = [], [], []
    for line in lines:
        own = [token for row in line for token in rows[row].input_ids]
        room = width - len(own)
        ids.append([*own, *[pad_id] * room])
        labels.append([*(label for row in line for label in rows[row].labels), *[NO_LABEL] * room])
        sizes = (*(len(rows[row].input_ids) for row in line), room)
        positions.append([place for size in sizes for place in range(size)])
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "position_ids": torch.tensor(positions),
    }
