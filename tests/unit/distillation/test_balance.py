"""Texts for every answer: which answers are labels, and which texts are chosen."""

from __future__ import annotations

from collections import Counter

from ual_registry.distillation.balance import answer_groups, balanced, fine_groups
from ual_registry.distillation.prompts import Repeated
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


def test_every_answer_is_chosen_as_often_as_there_are_texts_for_it() -> None:
    chosen = balanced(TEXTS, 15)
    assert Counter(own.completion.split()[0].lower() for own in chosen) == {"kitchen": 7, "travel": 7, "meta": 1}
    assert list(chosen) == [own for own in TEXTS if own in chosen]
    assert balanced(TEXTS, 100) == tuple(TEXTS)


def test_texts_without_labels_are_taken_as_they_come() -> None:
    texts = [text(number, f" word{number}") for number in range(20)]
    assert balanced(texts, 5) == tuple(texts[:5])


def test_which_texts_of_an_answer_are_chosen_does_not_follow_from_their_order() -> None:
    chosen = balanced(TEXTS, 15)
    assert list(balanced(TEXTS[::-1], 15)[::-1]) == list(chosen)
    kitchen = [own for own in chosen if "kitchen" in own.completion]
    assert kitchen != TEXTS[: len(kitchen)]


def test_groups_are_split_word_by_word_where_enough_texts_go_on_alike() -> None:
    cards = [
        *(text(number, " card arrival") for number in range(6)),
        *(text(number, " card arrival late") for number in range(6, 10)),
        *(text(number, " Card payment fee") for number in range(10, 15)),
        *(text(number, " card lost") for number in range(15, 18)),
        text(18, " card"),
    ]
    pins = [text(number, " change pin") for number in range(20, 26)]
    groups = answer_groups([*cards, *pins])
    assert fine_groups(groups) == {
        "card": cards[15:],
        "card arrival": cards[:6],
        "card arrival late": cards[6:10],
        "card payment": cards[10:15],
        "change": pins,  # every one goes on alike: it is one answer
    }
    assert fine_groups({}) == {}


def test_a_larger_batch_goes_on_with_several_prompts_of_which_each_is_used_as_often() -> None:
    prompts = Repeated(("a", "b", "c"))
    assert list(prompts.batch(0, 64, 7)) == ["a"] * 32 + ["b"] * 32
    assert list(prompts.batch(1, 64, 7)) == ["c"] * 32
    assert list(prompts.batch(2, 64, 7)) == []


def test_each_batch_goes_on_with_a_prompt_of_its_own_until_they_run_out() -> None:
    prompts = Repeated(("one", "other"))
    assert [list(prompts.batch(number, 2, 7)) for number in range(3)] == [["one"] * 2, ["other"] * 2, []]
