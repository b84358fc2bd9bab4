"""Positions of two tokenizers that have read the same text."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.ground_truth.materials import byte_tokenizer
from ual_registry.errors import TransferError
from ual_registry.models.aligned_text import AlignedText, aligned_positions, passages, text_digest


def word_tokenizer() -> Any:
    """Return a tokenizer of words that puts one token before the text and one behind it."""
    made = Tokenizer(models.WordLevel(vocab={"<s>": 0, "</s>": 1, "?": 2, "one": 3, "two": 4}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def test_positions_are_those_where_both_tokenizers_end_on_one_character() -> None:
    found = aligned_positions("one two six", byte_tokenizer(), word_tokenizer(), skip=0)
    assert found == AlignedText(
        source_ids=byte_tokenizer()("one two six")["input_ids"],
        target_ids=[0, 3, 4, 2, 1],
        source_positions=[2, 6, 10],
        target_positions=[1, 2, 3],
    )


@pytest.mark.parametrize(("skip", "source", "target"), [(1, [6, 10], [2, 3]), (2, [10], [3]), (3, [], []), (4, [], [])])
def test_the_first_tokens_of_either_are_left_out_and_special_ones_do_not_count(
    skip: int, source: list[int], target: list[int]
) -> None:
    found = aligned_positions("one two six", byte_tokenizer(), word_tokenizer(), skip=skip)
    assert (found.source_positions, found.target_positions) == (source, target)


def test_of_the_bytes_of_one_character_the_last_counts() -> None:
    found = aligned_positions("aé€b", byte_tokenizer(), byte_tokenizer(), skip=0)
    assert found.source_positions == found.target_positions == [0, 2, 5, 6]


def test_what_a_model_cannot_read_is_left_out() -> None:
    found = aligned_positions("one two six", byte_tokenizer(), word_tokenizer(), skip=0, limits=(7, None))
    assert len(found.source_ids) == 7
    assert (found.source_positions, found.target_positions) == ([2, 6], [1, 2])


@given(st.text(min_size=1))
def test_a_tokenizer_is_aligned_with_itself_everywhere(text: str) -> None:
    tokenizer = byte_tokenizer()
    found = aligned_positions(text, tokenizer, tokenizer, skip=0)
    assert found.source_positions == found.target_positions
    assert len(found.source_positions) == len(text)


def test_texts_are_cut_at_white_space_and_empty_or_repeated_ones_left_out() -> None:
    assert passages(["one two three", "  ", "seven", "seven", "abcdefghijkl"], limit_chars=8) == [
        "one two",
        "three",
        "seven",
        "abcdefgh",
        "ijkl",
    ]


@pytest.mark.parametrize("texts", [[], [""], [" \n", "\t"]])
def test_empty_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(TransferError) as caught:
        passages(texts)
    assert caught.value.message == "the calibration text is empty"
    assert caught.value.problem_code == "empty-text"


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert passages(["a\ud800b"]) == ["a?b"]


@given(
    st.lists(st.text(alphabet="ab1:", min_size=1), max_size=4),
    st.lists(st.text(alphabet="ab1:", min_size=1), max_size=4),
)
def test_different_passages_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (text_digest(one) == text_digest(other)) is (one == other)
