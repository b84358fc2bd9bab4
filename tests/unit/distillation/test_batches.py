"""Batches of texts of like length: every text once, other company each time, less padding."""

from __future__ import annotations

import random

from ual_registry.distillation.train import alike

LENGTHS = random.Random(0).choices(range(5, 60), k=203)


def padding(batches: list[list[int]]) -> int:
    return sum(max(LENGTHS[i] for i in batch) * len(batch) - sum(LENGTHS[i] for i in batch) for batch in batches)


def test_every_text_is_in_one_batch_and_only_a_few_batches_are_smaller() -> None:
    batches = alike(LENGTHS, 10, random.Random(1))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert sorted(map(len, batches)) == [3, *[10] * 20]


def test_the_same_seed_gives_the_same_batches_and_another_one_others() -> None:
    first = alike(LENGTHS, 10, random.Random(1))
    assert alike(LENGTHS, 10, random.Random(1)) == first
    other = alike(LENGTHS, 10, random.Random(2))
    assert {frozenset(batch) for batch in first}.isdisjoint(frozenset(batch) for batch in other)


def test_most_of_the_padding_of_random_batches_is_gone() -> None:
    order = random.Random(1).sample(range(203), 203)
    at_random = [order[start : start + 10] for start in range(0, 203, 10)]
    assert padding(alike(LENGTHS, 10, random.Random(1))) < 0.3 * padding(at_random)


def test_fewer_texts_than_a_batch_are_one_batch() -> None:
    assert sorted(alike([3, 1, 2], 10, random.Random(0))[0]) == [0, 1, 2]
