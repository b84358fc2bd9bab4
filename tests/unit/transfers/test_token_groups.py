"""Groups of tokens, and the predictions that are wanted in them, against slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.ground_truth.materials import byte_tokenizer
from tests.reference import predictions as reference
from tests.unit.transfers.bases import merging_tokenizer
from ual_registry.errors import TransferError
from ual_registry.models.token_groups import TokenGroups, grouped, token_groups
from ual_registry.models.token_texts import token_bytes
from ual_registry.projection.token_change import with_rest
from ual_registry.transfers.final_state import FinalState, NormShape
from ual_registry.transfers.requirements import require_tokens
from ual_registry.transfers.source_change import TokenRows
from ual_registry.transfers.wanted_predictions import token_logs, wanted_predictions

WORDS = st.lists(st.text("abc", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=12, unique=True)


@given(source=WORDS, target=WORDS)
def test_every_token_stands_where_the_slow_search_puts_it(source: list[bytes], target: list[bytes]) -> None:
    found = grouped(dict(enumerate(source)), dict(enumerate(target)), sizes=(len(source), len(target)))
    wanted = reference.token_groups(source, target)
    names = [*sorted({group for group in wanted[1] if group is not None}), None]
    assert [names[group] for group in found.source.tolist()] == wanted[0]
    assert [names[group] for group in found.target.tolist()] == wanted[1]
    assert len(found) == len(names) - 1


def test_tokens_of_several_cuts_meet() -> None:
    source, target = (b"b", b"bank", b"banking", b"q"), (b"bank", b"banked", b"b", b"x")
    found = grouped(dict(enumerate(source)), dict(enumerate(target)), sizes=(5, 4))
    assert found.source.tolist() == [0, 1, 1, 2, 2]  # no target token begins with "banking"; nothing has "q"
    assert found.target.tolist() == [1, 1, 0, 2]


def test_bytes_are_found_behind_every_way_of_writing_them() -> None:
    bytewise, merged, falling = byte_tokenizer(), merging_tokenizer(), falling_tokenizer()
    merged.backend_tokenizer.decoder = decoders.ByteLevel()
    assert sorted(token_bytes(bytewise, 400).values()) == [bytes([value]) for value in range(256)]
    assert {len(data) for data in token_bytes(merged, 400).values()} >= {1, 2, 3}
    assert token_bytes(falling, 400) == {1: b"\xe2", 2: b" bank", 3: b"er"}
    groups = token_groups(bytewise, falling, sizes=(257, 4))
    assert len(groups) == 3
    assert groups.target.tolist() == [3, 2, 0, 1]


def falling_tokenizer() -> Any:
    """Return a tokenizer that writes a space as a low line and unknown characters as bytes."""
    vocabulary = {"<unk>": 0, "<0xE2>": 1, "\u2581bank": 2, "er": 3}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return fast(made)


def word_tokenizer(*words: str) -> Any:
    made = Tokenizer(models.WordLevel({"<unk>": 0} | {word: 1 + at for at, word in enumerate(words)}, "<unk>"))
    made.decoder = decoders.Fuse()
    return fast(made)


def fast(made: Tokenizer) -> Any:
    kind: Any = transformers.PreTrainedTokenizerFast
    return kind(tokenizer_object=made, unk_token="<unk>")


def test_vocabularies_that_share_no_beginning_are_refused() -> None:
    groups = token_groups(word_tokenizer("a", "bad"), word_tokenizer("a", "sad"), sizes=(1, 3))
    with pytest.raises(TransferError) as caught:
        require_tokens(len(groups), ("old", "new"))
    assert (caught.value.problem_code, caught.value.message) == (
        "no-shared-tokens",
        "the tokenizers of old and new have no token in common",
    )


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_wanted_predictions_are_those_of_the_slow_reference(weight: float) -> None:
    chosen = np.random.default_rng(0)
    groups = TokenGroups(source=torch.tensor([0, 1, 1, 2]), target=torch.tensor([0, 0, 1, 2, 1]), count=3)
    table, states = chosen.normal(size=(5, 4)), chosen.normal(size=(3, 4))
    before, after = (chosen.dirichlet(np.ones(4), size=3) for _ in range(2))
    final = FinalState(
        path="norm",
        norm=NormShape(gain=torch.ones(4, dtype=torch.float64), is_centred=False),
        table=torch.tensor(table),
        bias=None,
    )
    found = wanted_predictions(
        torch.tensor(states), rows_of(before, after), groups, final, count=4, teacher_weight=weight
    )
    own = [reference.softmax(table @ state) for state in states]
    sides = groups.source.tolist(), groups.target.tolist()
    for row, mine in enumerate(own):
        wanted = reference.wanted(mine, before[row], after[row], sides, weight)
        tokens = found.tokens[row].tolist()
        assert set(tokens) == set(np.argsort(-np.maximum(mine, wanted))[:4])
        np.testing.assert_allclose(found.chances[row, :4], wanted[tokens], atol=1e-12)
        np.testing.assert_allclose(found.chances[row, 4], 1 - wanted[tokens].sum(), atol=1e-12)
        np.testing.assert_allclose(found.logs[row, :4].exp(), mine[tokens], atol=1e-12)
    np.testing.assert_allclose(token_logs(torch.tensor(states), found.tokens, final), found.logs, atol=1e-12)


def rows_of(before: np.ndarray, after: np.ndarray) -> TokenRows:
    """Return rows in which the first two groups are told apart; the third is the rest."""

    def logs(chances: np.ndarray) -> torch.Tensor:
        return with_rest(torch.tensor(np.stack([chances[:, 0], chances[:, 1] + chances[:, 2]], axis=1)).log())

    count = len(before)
    return TokenRows(
        passages=torch.zeros(count, dtype=torch.long),
        positions=torch.arange(count),
        groups=torch.tensor([[0, 1]] * count),
        before=logs(before),
        after=logs(after),
        divergence=torch.zeros(count),
        covered=torch.ones(count),
    )
