"""Inputs that are asked for by their answer: headings, and the prompts that show them."""

from __future__ import annotations

from ual_registry.distillation.headings import Asked, asked_for, heading
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.distillation.texts import Ended, Text

SEEDS = SeedPrompts(inputs=("book a room", "bake a cake"), template="Sort this.\nRequest: {input}\nTopic:\n")
SHOWN = (Asked("travel", "book a room"), Asked("kitchen and dining", "bake a cake"))


def text(says: str, answer: str) -> Text:
    return Text(batch=0, prompt=SEEDS.prompt(says), completion=answer, ended=Ended.LENGTH, tokens=3)


def test_a_heading_is_what_most_answers_of_a_group_begin_with() -> None:
    answers = ["kitchen and dining", *["kitchen and work"] * 4]
    assert heading([text("a", f" {own}") for own in answers]) == "kitchen and work"
    assert heading([text("a", f" {own}") for own in [*answers, "kitchen"]]) == "kitchen and"
    assert heading([text("a", "home"), text("b", "home office")]) == "home"
    assert heading([]) == ""


def test_rare_answers_are_asked_for_more_often_in_turn() -> None:
    groups = [("home", [text("clean up", " home")]), ("travel", [text(f"trip {n}", " travel") for n in range(9)])]
    prompts = asked_for(groups, SEEDS, SHOWN, wanted=20, size=10, separator="\n", seed=0)
    # 10 are wanted of each, and of the 10 of a prompt 8 are thought to be used
    assert [prompt.rsplit("Topic: ", 1)[1] for prompt in prompts] == [
        "home\nRequest:",
        "travel\nRequest:",
        "home\nRequest:",
    ]
    assert sorted(prompts[0].split("\n\n")) == [
        "Topic: home\nRequest:",
        "Topic: home\nRequest: clean up",
        "Topic: kitchen and dining\nRequest: bake a cake",
        "Topic: travel\nRequest: book a room",
    ]
    assert prompts[1].count("trip") == 2
    assert asked_for(groups, SEEDS, SHOWN, wanted=20, size=10, separator="\n", seed=0) == prompts
    assert asked_for(groups, SEEDS, SHOWN, wanted=2, size=10, separator="\n", seed=0) == ()


def test_a_template_that_says_nothing_gets_names() -> None:
    seeds = SeedPrompts(inputs=("one", "two"))
    groups = [("a", [Text(batch=0, prompt="three", completion=" a", ended=Ended.END, tokens=1)])]
    (prompt,) = asked_for(groups, seeds, (), wanted=2, size=10, separator="\n", seed=0)
    assert prompt == "Answer: a\n- three\n\nAnswer: a\n-"
