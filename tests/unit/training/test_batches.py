"""Batches: how rows are put together changes how fast they go, and nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.proof.cases import Case
from tests.unit.training.letters import letters
from ual_registry.errors import TrainingError
from ual_registry.training.batches import Batches
from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example
from ual_registry.training.order import lay_out, steps_of
from ual_registry.training.packing import check_packing
from ual_registry.training.prepare import Prepared, prepare
from ual_registry.training.rows import TokenRow

pytestmark = pytest.mark.filterwarnings("ignore")

NOTHING: Any = None
LENGTHS = [3, 9, 2, 13, 5, 4, 7, 2, 11]
PACKABLE = [
    "llama",
    "gpt2",
    "gemma3_text",
    "qwen2",
    "qwen3",
    "mistral",
    "phi3",
    "gpt_neox",
    "mixtral",
    "gptj",
    "gpt_neo",
]
NOT_PACKABLE = ["opt", "bloom", "mpt", "mamba", "bamba", "recurrent_gemma"]


def rows_of(lengths: Sequence[int], vocab_size: int, *, prompt: int = 0) -> tuple[TokenRow, ...]:
    """Return random rows; the first tokens of those that are long enough are a prompt."""
    torch.manual_seed(1)
    made = []
    for length in lengths:
        ids = torch.randint(4, vocab_size, (length,)).tolist()
        start = 1 + (prompt if length > prompt + 1 else 0)
        made.append(
            TokenRow(input_ids=array("i", ids), labels=array("i", [-100] * start + ids[start:]), document=str(length))
        )
    return tuple(made)


def prepared_of(rows: tuple[TokenRow, ...], **more: Any) -> Prepared:
    return Prepared(train=rows, held_out=(), report=NOTHING, pad_id=0, **more)


def batches_of(rows: tuple[TokenRow, ...], **settings: Any) -> Batches:
    return Batches(rows, prepared_of(rows), TrainingConfig(**settings))


def loss_and_gradient(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Return the mean loss of the trained tokens, by hand, and the gradient of every weight."""
    model.zero_grad()
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    loss.backward()
    return loss.item(), torch.cat([own.grad.flatten() for own in model.parameters() if own.grad is not None])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", PACKABLE)
def test_packed_rows_have_the_loss_and_the_gradient_of_padded_ones(model_type: str, attention: str) -> None:
    model = Case(model_type).model()
    model.set_attn_implementation(attention)
    rows = rows_of(LENGTHS, model.config.vocab_size, prompt=3)
    padded = batches_of(rows, batching="grouped", max_length=32).collate(range(len(rows)), 0)
    packed = batches_of(rows, batching="packed", max_length=32).collate(range(len(rows)), 0)
    assert padded["input_ids"].shape == (9, 13)
    assert packed["input_ids"].shape == (2, 31)
    assert (padded["labels"] != -100).sum() == (packed["labels"] != -100).sum()

    loss, gradient = loss_and_gradient(model, padded)
    packed_loss, packed_gradient = loss_and_gradient(model, packed)
    assert packed_loss == pytest.approx(loss, abs=1e-5)
    assert float((packed_gradient - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", PACKABLE)
def test_a_model_whose_packed_rows_do_not_see_one_another_is_found_so(model_type: str, dtype: torch.dtype) -> None:
    model = Case(model_type).model().to(dtype).train()
    check_packing(model)
    assert model.training


@pytest.mark.parametrize("shift", [0.02, 0.2])
def test_halved_weights_may_round_otherwise_behind_another_row_but_no_more(
    shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Case("llama").model().to(torch.bfloat16)
    forward = model.forward

    def shifted(**inputs: Any) -> Any:
        found = forward(**inputs)
        if inputs["input_ids"].shape[1] > 6:
            found.logits *= 1 + shift
        return found

    monkeypatch.setattr(model, "forward", shifted)
    if shift < 0.05:
        check_packing(model)
        return
    with pytest.raises(TrainingError) as caught:
        check_packing(model)
    assert caught.value.message.startswith(
        "LlamaForCausalLM: rows that are packed into one line are read otherwise than alone (logits differ by 2"
    )


@pytest.mark.parametrize("model_type", NOT_PACKABLE)
def test_a_model_whose_packed_rows_see_one_another_is_refused(model_type: str) -> None:
    model = Case(model_type).model()
    with pytest.raises(TrainingError) as caught:
        check_packing(model)
    assert caught.value.problem_code == "packing"
    assert caught.value.message.startswith(
        f"{type(model).__name__}: rows that are packed into one line see one another"
    )
    assert caught.value.hint == "set batching to grouped"


def test_a_padded_batch_is_filled_up_on_the_right() -> None:
    rows = rows_of([2, 4], 20)
    one, other = list(rows[0].input_ids), list(rows[1].input_ids)
    batch = batches_of(rows).collate([0, 1], 0)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[*one, 0, 0], other],
        "attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]],
        "labels": [[-100, one[1], -100, -100], [-100, *other[1:]]],
    }


def test_positions_of_a_packed_batch_begin_anew_with_every_row_and_with_what_fills_it_up() -> None:
    rows = rows_of([5, 2, 2, 2], 20)
    first, second, third, fourth = (list(row.input_ids) for row in rows)
    batch = batches_of(rows, batching="packed", max_length=6).collate([0, 1, 2, 3], 0)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[*first, 0], [*second, *third, *fourth]],
        "labels": [[-100, *first[1:], -100], [-100, second[1], -100, third[1], -100, fourth[1]]],
        "position_ids": [[0, 1, 2, 3, 4, 0], [0, 1, 0, 1, 0, 1]],
    }


def test_a_batch_without_rows_trains_on_nothing() -> None:
    batch = batches_of(rows_of([3, 5], 20)).collate([], 0)
    assert batch["labels"].tolist() == [[-100, -100, -100]]


def test_targets_of_a_decoder_are_filled_up_apart_from_what_the_encoder_reads() -> None:
    tokenizer, config = letters(frame="$A </s>"), TrainingConfig(head="seq2seq", held_out_share=0.0)
    examples = [Example(prompt="abc", completion="d"), Example(prompt="a", completion="bcd")]
    prepared = prepare(examples, tokenizer, config)
    batch = Batches(prepared.train, prepared, config).collate([0, 1], 0)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape == (2, 4)
    assert sorted(batch["labels"].tolist()) == sorted(
        [*tokenizer("d")["input_ids"], *[-100] * (2 * (length == 2))] if length == 2 else tokenizer("bcd")["input_ids"]
        for length in (2, 4)
    )


def test_classes_have_one_label_a_row() -> None:
    config = TrainingConfig(head="classification", held_out_share=0.0)
    examples = [Example(text="abc", label="x"), Example(text="d", label="y")]
    prepared = prepare(examples, letters(), config)
    batch = Batches(prepared.train, prepared, config).collate([0, 1], 0)
    assert sorted(batch["labels"].tolist()) == [0, 1]
    assert batch["input_ids"].shape == (2, 3)


def masked_batches() -> Batches:
    config = TrainingConfig(head="masked", held_out_share=0.0, mask_share=0.4)
    examples = [Example(text="abcdefghij" * 5 + chr(97 + number)) for number in range(20)]
    prepared = prepare(examples, letters(frame="<s> $A </s>"), config)
    return Batches(prepared.train, prepared, config)


def test_masks_follow_from_seed_epoch_and_row() -> None:
    batches = masked_batches()
    every = range(len(batches.rows))
    batch = batches.collate(every, 0)
    again, later = batches.collate([*every][::-1], 0), batches.collate(every, 1)
    assert torch.equal(batch["input_ids"], again["input_ids"].flip(0))
    assert torch.equal(batch["labels"], again["labels"].flip(0))
    assert not torch.equal(batch["labels"], later["labels"])


def test_what_is_masked_is_a_share_of_every_row_and_most_of_it_is_a_mask() -> None:
    batches = masked_batches()
    every = range(len(batches.rows))
    batch = batches.collate(every, 0)
    plain = torch.tensor([list(row.input_ids) for row in batches.rows])
    wanted = batch["labels"] != -100
    assert wanted.sum(dim=1).tolist() == [round(0.4 * 51)] * len(batches.rows)
    assert torch.equal(batch["labels"][wanted], plain[wanted])
    assert torch.equal(batch["input_ids"][~wanted], plain[~wanted])
    assert not wanted[:, [0, -1]].any()
    found = batch["input_ids"][wanted]
    shares = [(found == 3).float().mean().item(), (found == plain[wanted]).float().mean().item()]
    assert shares == pytest.approx([0.8, 0.1], abs=0.06)


def test_held_out_rows_come_once_the_longest_first_and_are_masked_alike() -> None:
    batches = batches_of(rows_of(LENGTHS, 20), batch_size=4)
    widths = [batch["input_ids"].shape for batch in batches.held_out()]
    assert widths == [(4, 13), (4, 5), (1, 2)]
    shares = [batch["input_ids"].tolist() for process in (0, 1) for batch in batches.held_out(process, 2)]
    assert sorted(shares) == sorted(batch["input_ids"].tolist() for batch in batches.held_out())
    masked = masked_batches()
    one, other = ([batch["input_ids"] for batch in masked.held_out()] for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


@pytest.mark.parametrize("batching", ["grouped", "packed", "shuffled"])
def test_how_rows_are_put_together_changes_no_step(batching: str) -> None:
    rows = rows_of([3, 9, 2, 13, 5, 4, 7, 2, 11, 6] * 5, 20)
    plain = [set(step) for step in batches_of(rows, batching="shuffled").steps(3)]
    found = batches_of(rows, batching=batching).steps(3)
    assert [set(step) for step in found] == plain
    assert [len(step) for step in found] == [16, 16, 16, 2]
    wider = batches_of(rows, batching=batching, batch_size=4, accumulation=2).steps(3, processes=2)
    assert wider == found


def test_grouped_rows_of_a_step_lie_by_length() -> None:
    for step in steps_of(LENGTHS, size=4, seed=0, epoch=0, by_length=True):
        assert [LENGTHS[row] for row in step] == sorted((LENGTHS[row] for row in step), reverse=True)


def test_every_epoch_has_another_order_and_every_seed() -> None:
    orders = [steps_of(LENGTHS, size=9, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({order[0] for order in orders}) == 4
    assert {tuple(sorted(order[0])) for order in orders} == {tuple(range(9))}
    assert orders[0] == steps_of(LENGTHS, size=9, seed=0, epoch=0)


@pytest.mark.parametrize(
    ("lengths", "limit", "lines"),
    [
        ([4], 8, ((0,),)),
        ([4, 4], 8, ((0,), (1,))),
        ([4, 3, 1], 8, ((0,), (1, 2))),
        ([5, 2, 2, 2], 6, ((0,), (1, 2, 3))),
        ([5, 3, 3, 3], 64, ((0, 1, 2, 3),)),
        ([1000, 990, 5], 4096, ((0,), (1, 2))),
        ([9], 4, ((0,),)),
    ],
)
def test_a_layout_leaves_few_places_empty_and_few_lines_long(
    lengths: list[int], limit: int, lines: tuple[tuple[int, ...], ...]
) -> None:
    assert lay_out(lengths, limit=limit) == lines


def test_accumulated_micro_batches_have_the_gradient_of_one_batch() -> None:
    model = Case("llama").model()
    rows = rows_of(LENGTHS, model.config.vocab_size, prompt=2)
    for batching in ("grouped", "packed"):
        batches = batches_of(rows, batching=batching, max_length=32)
        whole = batches.collate(range(9), 0)
        _, gradient = loss_and_gradient(model, whole)
        count = int((whole["labels"] != -100).sum())
        total = torch.zeros_like(gradient)
        for start in range(0, 9, 3):
            part = batches.collate(range(start, start + 3), 0)
            _, own = loss_and_gradient(model, part)
            total += own * int((part["labels"] != -100).sum()) / count
        assert float((total - gradient).norm() / gradient.norm()) < 1e-6
