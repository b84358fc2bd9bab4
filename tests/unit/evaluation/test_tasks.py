"""The numbers of every task against whole forward passes of one text, and the rules of prompts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.peft_folders import tiny_model
from tests.unit.evaluation.conftest import COLOURS, Loaded, Scene, word_tokenizer
from ual_registry.errors import NumericalError, TransferError
from ual_registry.evaluation import likelihood
from ual_registry.evaluation.items import Document, ExactItem, LabelItem
from ual_registry.evaluation.likelihood import answer_scores, greedy, segments, token_scores
from ual_registry.evaluation.prompts import Question, label_order, question, start_ids
from ual_registry.evaluation.tasks import BitsPerByte, ExactMatch, LabelLikelihood
from ual_registry.models.attach import attach

CAUSAL = ("llama", "gemma3_text", "qwen2", "gpt2", "gpt_neox")


def slow_scores(model: Any, ids: list[int]) -> list[float]:
    """Return the log-likelihood of every token after the first from one whole forward pass, float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return [float(torch.log_softmax(row, dim=0)[token]) for row, token in zip(logits[:-1], ids[1:], strict=True)]


QUESTIONS = [
    Question((3, 4, 5), ((7,), (8, 9), (10, 11, 12))),
    Question((3, 4, 6), ((7, 7, 7, 7), (8,), (9, 2))),
    Question((5,), ((1,), (2, 3))),
]


@pytest.mark.parametrize("positions", [None, 8])
@pytest.mark.parametrize("architecture", CAUSAL)
def test_answers_score_as_in_a_whole_pass(
    architecture: str, positions: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if positions:
        monkeypatch.setattr(likelihood, "_LOGIT_BYTES", 1)
        monkeypatch.setattr(likelihood, "_MOST_ROWS", 2)
    model = tiny_model(architecture, _causal(architecture))
    expected = [
        [math.fsum(slow_scores(model, [*own.context, *answer])[len(own.context) - 1 :]) for answer in own.answers]
        for own in QUESTIONS
    ]
    for got, wanted in zip(answer_scores(model, QUESTIONS), expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-5)  # float32 in another order of sums


def test_a_model_without_a_cache_to_pick_from_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", "LlamaForCausalLM")
    expected = answer_scores(model, QUESTIONS)
    monkeypatch.setattr(likelihood, "_selected", lambda _cache, _rows: None)
    for got, wanted in zip(answer_scores(model, QUESTIONS), expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_a_text_in_segments_scores_as_in_a_whole_pass(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_LOGIT_BYTES", 1)  # eight positions at once
    model = tiny_model(architecture, _causal(architecture))
    ids = [(7 * index + 3) % 32 for index in range(27)]
    assert [start for start, _ in segments(model, ids)] == [0, 8, 16, 24]
    assert token_scores(model, ids) == pytest.approx(slow_scores(model, ids), abs=1e-5)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_greedy_answers_are_those_of_generate(architecture: str) -> None:
    model = tiny_model(architecture, _causal(architecture))
    contexts = [[3, 4, 5], [6, 7, 8], [9, 10]]
    model.generation_config.eos_token_id = None
    expected = [
        model.generate(torch.tensor([own]), do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0)[0]
        for own in contexts
    ]
    found = greedy(model, contexts, most=6, ends=frozenset())
    assert found == [own[len(context) :].tolist() for own, context in zip(expected, contexts, strict=True)]


def test_a_greedy_answer_stops_before_its_end() -> None:
    model = tiny_model("llama", "LlamaForCausalLM")
    (whole,) = greedy(model, [[3, 4, 5]], most=6, ends=frozenset())
    end = whole[3]
    expected = whole[: whole.index(end)]
    assert greedy(model, [[3, 4, 5]], most=6, ends=frozenset({end})) == [expected]


@pytest.mark.parametrize(("length", "expected"), [(28, 5), (32, 1), (33, 0)])
def test_a_greedy_answer_ends_where_a_model_can_read_no_further(length: int, expected: int) -> None:
    model = tiny_model("gpt2", "GPT2LMHeadModel")
    assert model.config.max_position_embeddings == 32
    (answer,) = greedy(model, [[3] * length], most=9, ends=frozenset())
    assert len(answer) == expected


def _causal(architecture: str) -> str:
    from tests.peft_folders import ARCHITECTURES

    return ARCHITECTURES[architecture].causal


def test_logits_that_are_not_finite_are_refused() -> None:
    model = tiny_model("llama", "LlamaForCausalLM")
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.inf)
    with pytest.raises(NumericalError) as caught:
        token_scores(model, [1, 2, 3])
    assert caught.value.message == "LlamaForCausalLM: its logits are not finite"
    assert caught.value.hint == "the weights are damaged; get the base model again"


# Prompts


def test_a_prompt_and_its_answers_share_a_context() -> None:
    tokenizer = word_tokenizer()
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("the", "colour", "is", "dark", "red", "blue")}
    found = question(tokenizer, "the colour is", ["dark red", "blue"])
    assert found == Question((ids["the"], ids["colour"], ids["is"]), ((ids["dark"], ids["red"]), (ids["blue"],)))


def test_a_tokenizer_that_joins_prompt_and_answer_moves_the_seam_back() -> None:
    class Joining:
        """Reads two characters at once."""

        chat_template = None
        bos_token_id = 0

        def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
            assert add_special_tokens
            return {"input_ids": [hash(text[at : at + 2]) for at in range(0, len(text), 2)]}

    found = question(Joining(), "abc", ["de", "f"])
    assert found.context == (hash("ab"),)
    assert found.answers == ((hash("c "), hash("de")), (hash("c "), hash("f")))


def latin_tokenizer() -> Any:
    """Return a tokenizer of small letters, which has no token for anything else, not even an unknown one."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = {letter: index for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz ")}
    inner = Tokenizer(models.BPE(letters, []))
    fast: Any = PreTrainedTokenizerFast  # it has no types
    return fast(tokenizer_object=inner, bos_token="<s>")


@pytest.mark.parametrize(("prompt", "answer"), [("the colour is", "красный"), ("цвет", "красный")])
def test_an_answer_without_a_token_has_no_likelihood(prompt: str, answer: str) -> None:
    with pytest.raises(TransferError) as caught:
        question(latin_tokenizer(), prompt, ["red", answer], is_plain=True)
    assert caught.value.message == f"the tokenizer of  has no token for {answer!r}, so it has no likelihood"
    assert caught.value.problem_code == "no-tokens"


def test_a_prompt_without_a_token_leaves_the_start_alone() -> None:
    tokenizer = latin_tokenizer()
    ids = tuple(tokenizer.convert_tokens_to_ids(list(" red")))
    assert question(tokenizer, "цвет", ["red"]) == Question(start_ids(tokenizer), (ids,))


def test_a_document_without_a_token_has_no_bits() -> None:
    loaded = Loaded(tiny_model("llama", "LlamaForCausalLM"), latin_tokenizer())
    with pytest.raises(TransferError) as caught:
        BitsPerByte().score(loaded, [Document(line=1, text="red"), Document(line=2, text="красный")])
    assert caught.value.message == "the tokenizer of  has no token for 'красный', so it has no likelihood"


def test_the_chat_template_of_the_base_is_used_where_it_has_one() -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<s> of {{ m.content }} </s>{% endfor %}{% if add_generation_prompt %} is {% endif %}"
    )
    found = question(tokenizer, "the colour", ["red", "blue"])
    words = [tokenizer.convert_ids_to_tokens(list(part)) for part in (found.context, *found.answers)]
    assert words == [["<s>", "of", "the", "colour", "</s>", "is"], ["red"], ["blue"]]
    plain = question(tokenizer, "the colour", ["red", "blue"], is_plain=True)
    assert tokenizer.convert_ids_to_tokens(list(plain.context)) == ["the", "colour"]


def test_a_chat_template_that_fails_is_named() -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(TransferError) as caught:
        question(tokenizer, "the colour", ["red"])
    assert caught.value.message == "the chat template of  fails: no system message"
    assert caught.value.problem_code == "chat-template"


def test_a_text_begins_after_the_token_for_it_or_for_the_end() -> None:
    tokenizer = word_tokenizer()
    assert start_ids(tokenizer) == (0,)
    tokenizer.bos_token = None
    assert start_ids(tokenizer) == (1,)
    tokenizer.eos_token = None
    with pytest.raises(TransferError) as caught:
        start_ids(tokenizer)
    assert caught.value.problem_code == "no-start-token"


def test_the_order_of_labels_belongs_to_seed_and_item() -> None:
    items = [LabelItem(line=line, prompt="p", labels=tuple("abcdefgh"), gold="a") for line in (1, 2)]
    orders = [label_order(item, seed) for item in items for seed in (0, 1)]
    assert [sorted(order) for order in orders] == [list("abcdefgh")] * 4
    assert len(set(orders)) == 4
    assert label_order(items[0], 0) == orders[0]


# Tasks


def items_of(*things: int, gold: str = "red") -> list[LabelItem]:
    return [
        LabelItem(line=line, prompt=f"the colour of thing{thing} is", labels=COLOURS, gold=gold)
        for line, thing in enumerate(things, start=1)
    ]


def test_label_likelihood_is_the_likelihood_of_the_text(scene: Scene) -> None:
    loaded, items = scene.loaded, items_of(0, 1, 2)
    loss, accuracy = LabelLikelihood().score(loaded, items)
    scores = [
        {
            label: slow_scores(loaded.model, loaded.tokenizer(f"{item.prompt} {label}")["input_ids"])[-1]
            for label in COLOURS
        }
        for item in items
    ]
    assert loss.values == pytest.approx([-own["red"] for own in scores], abs=1e-5)
    assert accuracy.values.tolist() == [float(max(own, key=own.__getitem__) == "red") for own in scores]
    assert [(own.metric, own.is_better_high, own.is_share) for own in (loss, accuracy)] == [
        ("gold_nll", False, False),
        ("accuracy", True, True),
    ]


def test_a_trained_adapter_answers_right(scene: Scene) -> None:
    items = [*items_of(0, 3, 6), *items_of(1, 4, gold="green"), *items_of(2, 5, gold="blue")]
    with scene.adapter("native") as adapter, attach(scene.loaded.model, adapter):
        loss, accuracy = LabelLikelihood().score(scene.loaded, items)
    assert accuracy.value == 1
    assert loss.value < 0.1


def test_labels_in_the_prompt_stand_in_the_order_of_the_item(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from ual_registry.evaluation import tasks

    asked: list[tuple[str, tuple[str, ...]]] = []

    def spy(tokenizer: Any, prompt: str, answers: tuple[str, ...], *, is_plain: bool) -> Question:
        asked.append((prompt, tuple(answers)))
        return question(tokenizer, prompt, answers, is_plain=is_plain)

    monkeypatch.setattr(tasks, "question", spy)
    item = LabelItem(line=4, prompt="the colour {labels} is", labels=COLOURS, gold="red")
    LabelLikelihood(seed=3).score(scene.loaded, [item])
    order = label_order(item, 3)
    assert asked == [(f"the colour {', '.join(order)} is", order)]


def test_an_item_that_is_too_long_is_named_by_its_line(scene: Scene) -> None:
    item = LabelItem(line=9, prompt="the " * 80, labels=COLOURS, gold="red")
    with pytest.raises(TransferError) as caught:
        LabelLikelihood().score(scene.loaded, [item])
    assert caught.value.message == "item of line 9: has 81 tokens, but the model takes 64"


def test_bits_per_byte_are_the_bits_of_all_tokens_over_the_bytes(scene: Scene) -> None:
    loaded, text = scene.loaded, "the colour of thing1 is red"
    (found,) = BitsPerByte().score(loaded, [Document(line=1, text=text), Document(line=2, text="dark é")])
    bits = -math.fsum(slow_scores(loaded.model, [0, *loaded.tokenizer(text)["input_ids"]])) / math.log(2)
    assert found.values[0] == pytest.approx(bits, abs=1e-4)
    assert found.weights.tolist() == [27.0, 7.0]
    assert found.value == pytest.approx(found.values.sum() / 34)


def test_a_long_document_is_cut_into_windows_that_begin_anew(scene: Scene) -> None:
    loaded, words = scene.loaded, ["the", "colour", "of"] * 30
    ids = loaded.tokenizer(" ".join(words))["input_ids"]
    expected = [score for part in (ids[:63], ids[63:]) for score in slow_scores(loaded.model, [0, *part])]
    found = BitsPerByte.scores(loaded, Document(line=1, text=" ".join(words)))
    assert found == pytest.approx(expected, abs=1e-4)


def test_exact_match_needs_the_whole_answer(scene: Scene) -> None:
    items = [
        ExactItem(line=1, prompt="the colour of thing0 is", references=("red",)),
        ExactItem(line=2, prompt="the colour of thing1 is", references=("blue", "  green ")),
        ExactItem(line=3, prompt="the colour of thing2 is", references=("blue red",)),
    ]
    with scene.adapter("native") as adapter, attach(scene.loaded.model, adapter):
        loss, hits = ExactMatch().score(scene.loaded, items)
        (labels, _) = LabelLikelihood().score(scene.loaded, items_of(0))
    assert hits.values.tolist() == [1.0, 1.0, 0.0]
    assert loss.values[0] == pytest.approx(labels.values[0], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "references", "is_hit"),
    [
        (" red\nand more", ("red",), True),
        ("dark  red", ("dark red",), True),
        ("Red", ("red",), False),
        ("red\nblue", ("red\nblue",), True),
        ("red\nblue\ngreen", ("red\nblue",), False),
        ("", ("red",), False),
    ],
)
def test_texts_are_compared_by_their_words(text: str, references: tuple[str, ...], is_hit: bool) -> None:
    from ual_registry.evaluation.tasks import _is_hit

    assert _is_hit(text, ExactItem(line=1, prompt="p", references=references)) is is_hit


def test_every_token_that_ends_an_answer_counts() -> None:
    from ual_registry.evaluation.tasks import _ends

    model = tiny_model("llama", "LlamaForCausalLM")
    model.generation_config.eos_token_id = [4, 5]
    assert _ends(Loaded(model, word_tokenizer())) == frozenset({1, 4, 5})
