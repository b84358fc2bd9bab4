"""Rows of tokens: what is trained on is what it should be, and what became of the rest is said."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.training.letters import COUNTING, FORGETFUL, MARKED, PLAIN, STRICT, letters, read, trained
from ual_registry.errors import FormatError, TrainingError, UALError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example, Message
from ual_registry.training.prepare import Prepared, prepare

ALL = TrainingConfig(held_out_share=0.0)
NO = None


def chat(*turns: str) -> Example:
    """Return a conversation of turns such as ``u: hi``."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return Example(place="line 1", messages=tuple(Message(role=roles[turn[0]], content=turn[3:]) for turn in turns))


def rows_of(tokenizer: Any, *examples: Example, **settings: Any) -> list[tuple[list[str], list[str | None]]]:
    prepared = prepare(examples, tokenizer, replace(ALL, **settings))
    return [(read(tokenizer, row), trained(tokenizer, row)) for row in prepared.train]


def refusal_of(tokenizer: Any, *examples: Example, **settings: Any) -> UALError:
    with pytest.raises(UALError) as caught:
        prepare(examples, tokenizer, replace(ALL, **settings))
    return caught.value


def test_every_token_of_a_text_but_the_first_is_trained_on_and_the_end_too() -> None:
    tokenizer = letters(frame="<s> $A")
    assert rows_of(tokenizer, Example(text="ab c")) == [
        (["<s>", "a", "b", " ", "c", "</s>"], [NO, "a", "b", " ", "c", "</s>"])
    ]
    assert rows_of(letters(), Example(text="ab")) == [(["a", "b", "</s>"], [NO, "b", "</s>"])]


def test_an_end_that_the_tokenizer_writes_itself_stands_there_once() -> None:
    tokenizer = letters(frame="$A </s>")
    assert rows_of(tokenizer, Example(text="ab")) == [(["a", "b", "</s>"], [NO, "b", "</s>"])]
    without = letters(frame="$A", eos_token=None)
    assert rows_of(without, Example(text="ab")) == [(["a", "b"], [NO, "b"])]


def test_labels_of_a_prompt_are_left_out() -> None:
    tokenizer = letters(frame="<s> $A")
    example = Example(prompt="q?", completion=" a")
    assert rows_of(tokenizer, example) == [(["<s>", "q", "?", " ", "a", "</s>"], [NO, NO, NO, " ", "a", "</s>"])]
    (row,) = prepare([example], tokenizer, ALL).train
    assert list(row.labels)[:3] == [-100, -100, -100]
    assert rows_of(tokenizer, example, loss_on="all") == [
        (["<s>", "q", "?", " ", "a", "</s>"], [NO, "q", "?", " ", "a", "</s>"])
    ]


def test_a_token_that_holds_the_border_of_a_prompt_belongs_to_the_completion() -> None:
    tokenizer = letters(joined=[("?", "a")])
    prepared = prepare([Example(prompt="q?", completion="a")], tokenizer, ALL)
    assert [trained(tokenizer, row) for row in prepared.train] == [[NO, "?a", "</s>"]]
    assert prepared.report.joined == 1


def test_spelled_special_tokens_are_counted() -> None:
    prepared = prepare([Example(text="a</s>b"), Example(text="ab")], letters(), ALL)
    assert prepared.report.special == 1


CHAT = chat("s: x", "u: hi", "a: yo", "u: ?", "a: !\n")
CHAT_TOKENS = [
    *"<s>s:x</s>\n<s>u:hi</s>\n<s>a:yo</s>\n<s>u:?</s>\n<s>a:!\n</s>\n".replace("<s>", "1").replace("</s>", "2")
]


@pytest.mark.parametrize("template", [MARKED, PLAIN])
def test_turns_of_the_assistant_are_trained_on_up_to_their_end(template: str) -> None:
    tokenizer = letters(frame="<s> $A", template=template)
    ((tokens, labels),) = rows_of(tokenizer, CHAT)
    assert tokens == [{"1": "<s>", "2": "</s>"}.get(own, own) for own in CHAT_TOKENS]
    answers = {CHAT_TOKENS.index("y"): "yo2", CHAT_TOKENS.index("!"): "!\n2"}
    expected: list[str | None] = [None] * len(tokens)
    for place, text in answers.items():
        expected[place : place + len(text)] = [{"2": "</s>"}.get(own, own) for own in text]
    assert labels == expected


def test_all_turns_are_trained_on_where_that_is_asked_for() -> None:
    ((tokens, labels),) = rows_of(letters(template=PLAIN), CHAT, loss_on="all")
    assert labels == [None, *tokens[1:]]


def test_a_template_that_writes_earlier_turns_otherwise_makes_one_row_for_each_answer() -> None:
    tokenizer = letters(template=FORGETFUL)
    prepared = prepare([chat("u: q", "a: t!y", "u: r", "a: s!z")], tokenizer, ALL)
    assert ["".join(read(tokenizer, row)) for row in prepared.train] == [
        "<s>u:q</s>\n<s>a:t!y</s>\n",
        "<s>u:q</s>\n<s>a:y</s>\n<s>u:r</s>\n<s>a:s!z</s>\n",
    ]
    assert ["".join(filter(None, trained(tokenizer, row))) for row in prepared.train] == ["t!y</s>", "s!z</s>"]
    assert prepared.report.unrolled == 1


def test_a_template_that_asks_for_today_always_gets_the_same_day() -> None:
    tokenizer = letters(template="{{ strftime_now('%d %b %Y') }}|{{ strftime_now( \"%H\" ) }}|" + PLAIN)
    ((tokens, _),) = rows_of(tokenizer, chat("u: hi", "a: yo"))
    assert "".join(tokens) == "26 Jul 2024|00|<s>u:hi</s>\n<s>a:yo</s>\n"


@pytest.mark.parametrize(
    ("template", "example", "message"),
    [
        (STRICT, CHAT, "line 1: the chat template refuses the conversation: no system turn"),
        (
            COUNTING,
            CHAT,
            (
                "line 1: messages[2]: what the chat template writes before the assistant's turn is not how the "
                "conversation begins"
            ),
        ),
    ],
)
def test_a_template_that_makes_no_sense_of_a_conversation_is_refused(
    template: str, example: Example, message: str
) -> None:
    error = refusal_of(letters(template=template), example)
    assert (type(error), error.message, error.problem_code) == (FormatError, message, "training-data")


def test_a_base_model_without_a_template_takes_no_conversations() -> None:
    error = refusal_of(letters(), CHAT)
    assert (error.message, error.problem_code) == (
        "the base model has no chat template, and the examples are conversations",
        "no-chat-template",
    )


def test_a_long_text_goes_on_and_each_of_its_tokens_is_trained_on_once() -> None:
    tokenizer = letters(frame="<s> $A")
    assert rows_of(tokenizer, Example(text="abcdef"), max_length=4) == [
        (["<s>", "a", "b", "c"], [NO, "a", "b", "c"]),
        (["<s>", "d", "e", "f"], [NO, "d", "e", "f"]),
        (["<s>", "</s>"], [NO, "</s>"]),
    ]
    assert rows_of(letters(), Example(text="abcdef"), max_length=4) == [
        (["a", "b", "c", "d"], [NO, "b", "c", "d"]),
        (["d", "e", "f", "</s>"], [NO, "e", "f", "</s>"]),
    ]


def test_what_is_cut_off_is_counted() -> None:
    tokenizer = letters(frame="<s> $A")
    prepared = prepare(
        [Example(text="abcdef"), Example(text="ab")], tokenizer, replace(ALL, max_length=4, long_texts="cut")
    )
    assert sorted("".join(read(tokenizer, row)) for row in prepared.train) == ["<s>ab</s>", "<s>abc"]
    assert (prepared.report.cut, prepared.report.cut_tokens, prepared.report.continued) == (1, 4, 0)


def test_an_example_of_which_nothing_would_be_trained_on_is_left_out_with_its_line() -> None:
    examples = [
        Example(prompt="long prompt", completion="c", place="d.jsonl, line 1"),
        Example(prompt="p", completion=" \n", place="d.jsonl, line 2"),
        Example(prompt="p", completion="c", place="d.jsonl, line 3"),
    ]
    prepared = prepare(examples, letters(), replace(ALL, max_length=5))
    assert [row.place for row in prepared.train] == ["d.jsonl, line 3"]
    beyond = "what is trained on lies beyond max_length, or is no more than one token"
    assert sorted((own.place, own.reason) for own in prepared.report.left_out) == [
        ("d.jsonl, line 1", beyond),
        ("d.jsonl, line 2", "the completion is blank"),
    ]
    assert (prepared.report.cut, prepared.report.cut_tokens) == (0, 0)
    error = refusal_of(letters(), *examples[:1], max_length=5)
    assert error.message == f"none of 1 examples can be trained on (first: d.jsonl, line 1: {beyond})"
    assert error.problem_code == "nothing-to-train"


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (Example(text=" "), "the text is blank"),
        (chat("u: hi"), "no turn of the assistant says anything"),
        (chat("u: hi", "a: "), "no turn of the assistant says anything"),
    ],
)
def test_what_says_nothing_is_left_out(example: Example, reason: str) -> None:
    other = replace(example, text="a b") if example.text else chat("u: hi", "a: yo")
    prepared = prepare([example, other], letters(template=PLAIN), ALL)
    assert [own.reason for own in prepared.report.left_out] == [reason]
    assert prepared.report.train.examples == 1


def test_a_masked_head_can_be_asked_for_every_token_but_special_ones() -> None:
    tokenizer = letters(frame="<s> $A </s>")
    examples = [Example(text="abcde")]
    assert rows_of(tokenizer, *examples, head="masked", max_length=5) == [
        (["<s>", "a", "b", "c", "</s>"], [NO, "a", "b", "c", NO]),
        (["<s>", "d", "e", "</s>"], [NO, "d", "e", NO]),
    ]
    prepared = prepare(examples, tokenizer, replace(ALL, head="masked", max_length=5, long_texts="cut"))
    assert (len(prepared.train), prepared.report.cut, prepared.report.cut_tokens) == (1, 1, 2)
    assert (prepared.mask_id, prepared.plain_ids) == (3, tuple(range(4, 260)))


def test_a_masked_head_needs_a_mask_token() -> None:
    error = refusal_of(letters(mask_token=None), Example(text="ab"), head="masked")
    assert (error.problem_code, type(error)) == ("no-mask", TrainingError)


def test_an_encoder_reads_the_prompt_and_a_decoder_writes_the_completion() -> None:
    tokenizer = letters(frame="$A </s>")
    example = Example(prompt="abcd", completion="efgh")
    assert rows_of(tokenizer, example, head="seq2seq") == [(["a", "b", "c", "d", "</s>"], ["e", "f", "g", "h", "</s>"])]
    prepared = prepare([example], tokenizer, replace(ALL, head="seq2seq", max_length=3))
    assert [(read(tokenizer, row), trained(tokenizer, row)) for row in prepared.train] == [
        (["a", "b", "</s>"], ["e", "f", "g"])
    ]
    assert (prepared.report.cut, prepared.report.cut_tokens, prepared.train[0].size_bytes) == (1, 4, 3)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["no", "yes", "no"], ("no", "yes")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_labels_are_sorted_and_rows_hold_their_places(given: list[str], labels: tuple[str, ...]) -> None:
    examples = [Example(text=f"a{place}", label=label, place=label) for place, label in enumerate(given)]
    prepared = prepare(examples, letters(frame="<s> $A </s>"), replace(ALL, head="classification"))
    assert prepared.labels == labels
    assert {row.place: list(row.labels) for row in prepared.train} == {name: [labels.index(name)] for name in given}
    assert prepared.report.labels == {name: given.count(name) for name in labels}


@pytest.mark.parametrize(
    ("examples", "settings", "code", "message"),
    [
        ([], {}, "too-few-examples", "no examples to train on"),
        (
            [Example(text="a")],
            {"held_out_share": 0.1},
            "too-few-examples",
            "1 document to train on, expected 2 or more, since some are held out",
        ),
        (
            [Example(text="ab", label="x")],
            {"head": "classification"},
            "too-few-labels",
            "all examples have one label, 'x'; expected two or more",
        ),
        (
            [Example(text="ab", label="x", place="line 1")],
            {},
            "wrong-form",
            "line 1: expected text or completion or chat for a causal head, got label",
        ),
        (
            [Example(text="ab"), Example(prompt="a", completion="b", place="line 2")],
            {},
            "wrong-form",
            "line 2: expected text for a causal head, got completion",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    examples: list[Example], settings: dict[str, Any], code: str, message: str
) -> None:
    if code == "too-few-examples" and examples:
        examples = [Example(text="abc")]
    error = refusal_of(letters(), *examples, **settings)
    assert (type(error), error.problem_code, error.message) == (TrainingError, code, message)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        pass

    error = refusal_of(Slow(), Example(text="ab"))
    assert (error.message, error.problem_code) == ("Slow: knows no character offsets", "slow-tokenizer")


@pytest.mark.parametrize(
    ("tokens", "pad"), [({}, 0), ({"pad_token": None}, 2), ({"pad_token": None, "eos_token": None}, 0)]
)
def test_a_tokenizer_without_a_pad_token_fills_up_with_another(tokens: dict[str, Any], pad: int) -> None:
    assert prepare([Example(text="abc")], letters(**tokens), ALL).pad_id == pad


def many(count: int) -> list[Example]:
    return [Example(text=f"text {number}", place=f"line {number}") for number in range(count)]


def test_nothing_depends_on_the_order_of_the_examples() -> None:
    config = TrainingConfig(held_out_share=0.25)
    examples = [*many(20), *(Example(text=f"x {number}", document="one") for number in range(5))]
    first = prepare(examples, letters(), config)
    random.Random(3).shuffle(examples)
    second = prepare(examples, letters(), config)
    assert (first.train, first.held_out, first.report) == (second.train, second.held_out, second.report)


def test_no_document_is_on_both_sides_and_the_seed_chooses() -> None:
    examples = [replace(own, document=f"d{number % 8}") for number, own in enumerate(many(40))]

    def sides(seed: int) -> tuple[set[str], set[str]]:
        found = prepare(examples, letters(), TrainingConfig(held_out_share=0.25, seed=seed))
        return {row.document for row in found.train}, {row.document for row in found.held_out}

    train, held_out = sides(0)
    assert (len(train), len(held_out), train & held_out) == (6, 2, set())
    assert any(sides(seed)[1] != held_out for seed in range(1, 5))


def test_examples_that_say_the_same_are_left_out_once_white_space_is_alike() -> None:
    examples = [Example(text="a b"), Example(text=" a\n b "), Example(text="a b", document="d"), Example(text="ab")]
    assert prepare(examples, letters(), ALL).report.duplicates == 2
    kept: Prepared = prepare(examples, letters(), replace(ALL, deduplicate=False))
    assert (kept.report.duplicates, kept.report.train.examples) == (0, 4)


def test_bytes_that_are_trained_on_are_counted_once() -> None:
    texts = {"é": 2, "aé": 2, "a€b": 4, "ab": 1}
    for text, size in texts.items():
        assert [row.size_bytes for row in prepare([Example(text=text)], letters(), ALL).train] == [size]
    with_start = letters(frame="<s> $A")
    assert [row.size_bytes for row in prepare([Example(text="aé€")], with_start, ALL).train] == [6]
    assert [row.size_bytes for row in prepare([Example(prompt="é", completion="é")], with_start, ALL).train] == [2]


def test_the_report_says_what_became_of_the_examples() -> None:
    examples = [
        *(Example(prompt="p", completion=f"c{number}", place=f"line {number}") for number in range(4)),
        Example(prompt="p", completion="c1", place="line 4"),
        Example(prompt="p", completion=" ", place="line 5"),
        Example(prompt="p", completion="much too long", place="line 6"),
    ]
    report = prepare(examples, letters(), TrainingConfig(held_out_share=0.2, max_length=6)).report
    document = report.document()
    digests = [document[side].pop("digest") for side in ("train", "held_out")]
    assert document == {
        "form": "completion",
        "digest": str(report.digest),
        "examples": 7,
        "duplicates": 1,
        "left_out": {"the completion is blank": 1},
        "cut": {"rows": 1, "tokens": 9, "side": "right"},
        "continued": 0,
        "unrolled": 0,
        "joined": 0,
        "special": 0,
        "labels": {},
        "train": document["train"],
        "held_out": document["held_out"],
    }
    assert {name: document["train"][name] + document["held_out"][name] for name in document["train"]} == {
        "documents": 5,
        "examples": 5,
        "rows": 5,
        "tokens": 22,
        "trained_tokens": 17,
        "size_bytes": 13,
        "longest": 10,
    }
    assert document["held_out"]["examples"] == 1
    assert len(set(digests)) == 2
    assert report.notes() == (
        "1 example left out: another one says the same",
        "1 example left out: the completion is blank (first: line 5)",
        "1 row cut off on the right: 9 tokens lost",
    )
