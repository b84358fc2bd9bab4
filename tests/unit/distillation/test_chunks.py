"""Pieces and chunks: exact on hand-made cases, and lawful on any text."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.distillation import shared_cuts
from tests.unit.distillation.material import make_tokenizer
from ual_registry.distillation.chunks import Chunks, chunk_sums, common_ends, scored_pieces, shared_chunks
from ual_registry.distillation.pieces import Cutter, Pieces
from ual_registry.errors import TrainingError


@functools.cache
def cutter(vocab_size: int, has_start: bool, trim: bool = False) -> Cutter:
    return Cutter(make_tokenizer(vocab_size, has_start=has_start, trim=trim))


def made(*texts: str, prefix: int = 1, first: int | None = None) -> Pieces:
    """Return pieces of one token each, cut by hand."""
    ends = tuple(itertools.accumulate(len(text) for text in texts))
    bounds = tuple(range(prefix + 1, prefix + len(texts) + 1))
    ids = tuple(range(prefix + len(texts)))
    return Pieces(ids=ids, prefix=prefix, first=max(prefix if first is None else first, 1), bounds=bounds, ends=ends)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (made("ab", "c"), made("ab", "c"), Chunks((2, 3), ((0, 1), (1, 2)), ((1, 2), (2, 3)))),
        (made("ab", "c"), made("a", "bc"), Chunks((3,), ((0, 2),), ((1, 3),))),
        (made("abc", "d"), made("a", "b", "c", "d"), Chunks((3, 4), ((0, 1), (1, 2)), ((1, 4), (4, 5)))),
        (made("a", "b", "cd"), made("ab", "c", "d"), Chunks((2, 4), ((0, 2), (2, 3)), ((1, 2), (2, 4)))),
        # the source has no start token: its first piece is not scored, and what shares characters with it is left out
        (made("a", "b", "c", prefix=0), made("a", "bc"), Chunks((3,), ((0, 2),), ((2, 3),))),
        (made("a", "b", "c", prefix=0), made("ab", "c"), Chunks((3,), ((1, 2),), ((2, 3),))),
        # a prompt of two characters, which the target's second token crosses
        (made("ab", "c", "d", first=2), made("a", "bc", "d", first=2), Chunks((4,), ((1, 2),), ((3, 4),))),
        (made("a"), made("a", first=2), Chunks((), (), ())),
    ],
)
def test_chunks_end_where_both_sides_end_a_piece(source: Pieces, target: Pieces, expected: Chunks) -> None:
    start, scored = scored_pieces(source)
    assert shared_chunks(start, [end for _, _, end in scored], target) == expected


def test_common_ends_are_those_of_both() -> None:
    assert common_ends((1, 3, 4, 9), (3, 6, 9)) == (3, 9)


@pytest.mark.parametrize("trim", [False, True])
def test_pieces_are_exact_where_the_tokenizer_trims_offsets_and_splits_characters(trim: bool) -> None:
    pieces = cutter(280, False, trim).cut("", "a\n  naïve 🐈 ")
    texts = ["a\n  naïve 🐈 "[before:after] for before, after in itertools.pairwise((0, *pieces.ends))]
    assert "".join(texts) == "a\n  naïve 🐈 "
    assert "ï" in texts
    assert " 🐈" in ["".join(pair) for pair in itertools.pairwise(texts)] or " 🐈" in texts


def test_a_token_that_crosses_the_end_of_the_prompt_belongs_to_the_completion() -> None:
    # " sees" is one token; the prompt ends after its space
    pieces = cutter(280, True).cut("the cat ", "sees")
    assert pieces.first == len(pieces.ids) - 1
    assert pieces.prefix == 1
    assert cutter(280, True).cut("", "the").first == 1


def test_a_start_token_is_put_before_an_empty_prompt_alone() -> None:
    assert cutter(280, False).cut("", "the").ids[0] == 0
    assert cutter(280, False).cut("t", "he").ids == cutter(280, False).cut("", "the").ids[1:]
    assert cutter(280, False).prompt_ids("") == [0]


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        Cutter(object())
    assert caught.value.message == "object: knows no character offsets"


def test_an_empty_prompt_needs_a_token_to_begin_with() -> None:
    tokenizer = make_tokenizer(280, has_start=False)
    tokenizer.bos_token = tokenizer.eos_token = None
    cutter = Cutter(tokenizer)
    assert cutter.cut("", "the").first == 1  # the first token follows nothing and cannot be scored
    with pytest.raises(TrainingError) as caught:
        cutter.prompt_ids("")
    assert (caught.value.problem_code, caught.value.hint) == ("no-start-token", "give prompts")


TEXTS = st.text(st.sampled_from("the catseesZoëïa. \n\t🐈é́漢"), min_size=1, max_size=40)


@given(text=TEXTS, prompt=st.integers(0, 10))
def test_chunks_laid_together_are_the_text_and_their_sums_are_those_of_the_tokens(text: str, prompt: int) -> None:
    source = cutter(280, True).cut(text[:prompt], text[prompt:])
    target = cutter(320, False).cut(text[:prompt], text[prompt:])
    start, scored = scored_pieces(source)
    chunks = shared_chunks(start, [end for _, _, end in scored], target)
    begin = chunks.ends[-1] - sum(len(part) for part in _parts(text, chunks, start, target)) if chunks.ends else 0
    assert "".join(_parts(text, chunks, start, target)) == (text[begin:] if chunks.ends else "")

    values = torch.arange(1.0, len(target.ids) + 1, dtype=torch.float64)
    sums = chunk_sums(values, chunks.target)
    covered = range(chunks.target[0][0], chunks.target[-1][1]) if chunks.target else range(0)
    assert float(sums.sum()) == float(values[list(covered)].sum())
    if chunks.target:
        assert covered.stop == len(target.ids)
        assert covered.start >= target.first


def _parts(text: str, chunks: Chunks, start: int, target: Pieces) -> list[str]:
    """Return the characters of each chunk, from where its first target token begins."""
    if not chunks.ends:
        return []
    ends = dict(zip(target.bounds, target.ends, strict=True))
    begin = ends.get(chunks.target[0][0], 0)
    assert begin >= start
    return [text[before:after] for before, after in itertools.pairwise((begin, *chunks.ends))]


@given(text=TEXTS)
def test_without_a_prompt_chunks_are_the_shared_cuts_of_both_sides(text: str) -> None:
    source, target = cutter(280, True).cut("", text), cutter(320, False).cut("", text)
    start, scored = scored_pieces(source)
    chunks = shared_chunks(start, [end for _, _, end in scored], target)
    sides = [[text[a:b] for a, b in itertools.pairwise((0, *side.ends))] for side in (source, target)]
    assert [text[a:b] for a, b in itertools.pairwise((0, *chunks.ends))] == shared_cuts(*sides)
    assert chunks.ends[-1] == len(text)


def test_sums_keep_to_their_chunks_and_carry_gradients() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    sums = chunk_sums(values, [(0, 2), (3, 4)])
    assert sums.tolist() == [3.0, 8.0]
    torch.autograd.backward(sums.sum())
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert chunk_sums(values, []).tolist() == []
