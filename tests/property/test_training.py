"""Laws of training data: nothing is lost, nothing stands twice, no document is on both sides."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training.letters import letters
from ual_registry.training.config import TrainingConfig
from ual_registry.training.examples import read_examples, write_examples
from ual_registry.training.forms import ROLES, Example, Message
from ual_registry.training.order import best_fit, lay_out, steps_of
from ual_registry.training.prepare import prepare

TOKENIZER = letters(frame="<s> $A")
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DOCUMENTS = st.none() | st.sampled_from(["a", "b", "c"])
MESSAGES = st.lists(st.builds(Message, role=st.sampled_from(ROLES), content=TEXTS), min_size=1, max_size=4).map(tuple)
FORMS = [
    st.builds(Example, text=TEXTS, document=DOCUMENTS),
    st.builds(Example, prompt=TEXTS, completion=TEXTS, document=DOCUMENTS),
    st.builds(Example, text=TEXTS, label=TEXTS.filter(str.strip), document=DOCUMENTS),
    st.builds(Example, messages=MESSAGES, document=DOCUMENTS),
]


@given(st.sampled_from(FORMS).flatmap(lambda form: st.lists(form, min_size=1, max_size=6)))
def test_what_is_written_is_read_back(examples: list[Example]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        write_examples(path, examples)
        assert list(read_examples(path)) == examples


@given(LENGTHS, st.integers(40, 100))
def test_best_fit_holds_every_row_once_and_no_line_is_too_long(lengths: list[int], capacity: int) -> None:
    lines = best_fit(lengths, capacity)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    assert max(sum(lengths[row] for row in line) for line in lines) <= capacity
    half_full = [line for line in lines if 2 * sum(lengths[row] for row in line) <= capacity]
    assert len(half_full) <= 1  # or the later one would stand in the earlier


@given(LENGTHS, st.integers(1, 200))
def test_a_layout_holds_every_row_once_and_no_line_is_longer_than_limit_or_longest_row(
    lengths: list[int], limit: int
) -> None:
    lines = lay_out(lengths, limit=limit)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    assert max(sum(lengths[row] for row in line) for line in lines) <= max(limit, *lengths)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_every_row_once_in_as_many_steps(
    lengths: list[int], size: int, seed: int, epoch: int, by_length: bool
) -> None:
    steps = steps_of(lengths, size=size, seed=seed, epoch=epoch, by_length=by_length)
    assert sorted(row for step in steps for row in step) == list(range(len(lengths)))
    assert len(steps) == -(-len(lengths) // size)
    assert all(len(step) == size for step in steps[:-1])


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8), st.integers(3, 20), st.sampled_from(["causal", "masked"]))
def test_every_token_of_a_text_is_trained_on_once_and_in_order(texts: list[str], limit: int, head: str) -> None:
    examples = [Example(text=f"{number} {text}", place=str(number)) for number, text in enumerate(texts)]
    examples.append(Example(text="last", place="last"))
    config = TrainingConfig(head=head, held_out_share=0.0, max_length=limit, deduplicate=False)
    found: dict[str, list[int]] = {}
    for row in prepare(examples, TOKENIZER, config).train:
        assert len(row.input_ids) <= limit
        assert all(label in (-100, token) for label, token in zip(row.labels, row.input_ids, strict=True))
        found.setdefault(row.place, []).extend(label for label in row.labels if label != -100)
    end = [2] if head == "causal" else []
    expected = {own.place: [*TOKENIZER(own.text, add_special_tokens=False)["input_ids"], *end] for own in examples}
    special = set(TOKENIZER.all_special_ids) if head == "masked" else set()
    assert found == {place: [token for token in ids if token not in special] for place, ids in expected.items()}


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXTS, DOCUMENTS), min_size=2, max_size=20),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_the_split_is_disjoint_and_follows_from_digests(
    parts: list[tuple[str, str | None]], share: float, seed: int, chance: object
) -> None:
    examples = [Example(text=text + "x", document=document) for text, document in parts]
    examples += [Example(text="one"), Example(text="two")]
    config = TrainingConfig(held_out_share=share, seed=seed)
    first = prepare(examples, TOKENIZER, config)
    chance.shuffle(examples)  # type: ignore[attr-defined]
    second = prepare(examples, TOKENIZER, config)
    assert (first.train, first.held_out, first.report) == (second.train, second.held_out, second.report)
    train, held_out = ({row.document for row in side} for side in (first.train, first.held_out))
    assert train & held_out == set()
    assert train
    assert held_out
