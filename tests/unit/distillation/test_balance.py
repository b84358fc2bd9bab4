"""Inputs for rare answers: which answers are labels, which lists are made, which texts are chosen."""

from __future__ import annotations

from collections import Counter

from ual_registry.distillation.balance import answer_groups, balanced, lists_of_rare
from ual_registry.distillation.prompts import Lists
from ual_registry.distillation.texts import Ended, Text


def text(number: int, answer: str) -> Text:
    return Text(batch=0, prompt=f"request {number}", completion=answer, ended=Ended.LENGTH, tokens=3)


TEXTS = [
    *(text(number, " kitchen and dining") for number in range(20)),
    *(text(number, " Travel and") for number in range(20, 25)),
    *(text(number, " travel home") for number in range(25, 27)),
    text(27, " meta"),
]


def test_texts_are_grouped_by_the_first_word_of_few_answers() -> None:
    assert answer_groups(TEXTS) == {"kitchen": TEXTS[:20], "meta": TEXTS[27:], "travel": TEXTS[20:27]}


def test_answers_that_are_all_different_or_all_the_same_are_no_labels() -> None:
    assert answer_groups([text(number, f" word{number}") for number in range(20)]) == {}
    assert answer_groups(TEXTS[:20]) == {}
    assert answer_groups([]) == {}


def test_rare_answers_get_more_lists_in_turn_and_seeds_fill_them_up() -> None:
    groups = {"kitchen": [f"k{n}" for n in range(20)], "meta": ["m"], "travel": [f"t{n}" for n in range(7)]}
    lists = lists_of_rare(groups, ("seed a", "seed b"), wanted=60, listed=3, size=10, seed=0)
    # 20 are wanted of each, and half of what a list of 10 gives is thought to fit
    kinds = [{own[0] for own in found if " " not in own} for found in lists]
    assert kinds == [{"m"}, {"t"}, {"m"}, {"t"}, {"m"}, {"t"}, {"m"}]
    assert all(sorted(own) == ["m", "seed a", "seed b"] for own in lists[::2])
    assert all(len(set(own)) == 3 for own in lists)
    assert lists_of_rare(groups, ("seed a", "seed b"), wanted=60, listed=3, size=10, seed=0) == lists


def test_every_answer_is_chosen_as_often_as_there_are_texts_for_it() -> None:
    chosen = balanced(TEXTS, 15)
    assert Counter(own.completion.split()[0].lower() for own in chosen) == {"kitchen": 7, "travel": 7, "meta": 1}
    assert list(chosen) == [own for own in TEXTS if own in chosen]
    assert balanced(TEXTS, 100) == tuple(TEXTS)


def test_texts_without_labels_are_taken_as_they_come() -> None:
    texts = [text(number, f" word{number}") for number in range(20)]
    assert balanced(texts, 5) == tuple(texts[:5])


def test_each_batch_goes_on_with_a_list_of_its_own_until_they_run_out() -> None:
    prompts = Lists((("a", "b"), ("c",)), "\n")
    assert list(prompts.batch(0, 2, 7)) == ["- a\n- b\n-"] * 2
    assert list(prompts.batch(1, 1, 7)) == ["- c\n-"]
    assert list(prompts.batch(2, 2, 7)) == []
    assert (prompts.document()["count"], prompts.document() == Lists((("a", "b"),), "\n").document()) == (2, False)
