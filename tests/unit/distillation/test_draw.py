"""Drawing tokens: the same as one forward pass for each, from all or the likeliest part, and no longer than needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.peft_folders import ARCHITECTURES, model_module, tiny_config
from ual_registry.distillation import draw as module
from ual_registry.distillation.draw import choose, draw

PROMPTS = [(1, 5, 9), (3,), (1, 8, 8, 6, 2)]


def model_of(architecture: str) -> Any:
    torch.manual_seed(5)
    made = getattr(model_module(architecture), ARCHITECTURES[architecture].causal)(tiny_config(architecture)).eval()
    # Fresh models say the same token again and again; larger weights make them change their minds.
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return made


def greedy(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def watched(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the list to which every forward pass from now on adds how many rows and tokens it is given."""
    shapes: list[tuple[int, int]] = []
    inner = model.forward

    def forward(**named: Any) -> Any:
        shapes.append(tuple(named["input_ids"].shape))
        return inner(**named)

    monkeypatch.setattr(model, "forward", forward)
    return shapes


def never(_: Sequence[int]) -> bool:
    return False


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma3_text"])
@pytest.mark.parametrize("prompts", [PROMPTS, [PROMPTS[0]] * 3, [PROMPTS[1]]])
def test_every_row_goes_on_as_it_would_alone(architecture: str, prompts: list[tuple[int, ...]]) -> None:
    model = model_of(architecture)
    found = draw(model, prompts, most=6, temperature=0, top_p=1.0, is_over=never)
    assert found == [greedy(model, prompt, 6) for prompt in prompts]


def test_a_row_that_has_ended_is_no_longer_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    shapes = watched(model, monkeypatch)
    firsts = {greedy(model, (token,), 1)[0]: (token,) for token in range(2, 20)}
    (one, two, three), prompts = list(firsts)[:3], list(firsts.values())[:3]
    wanted = {one: 1, two: 3, three: 2}
    expected = [greedy(model, prompt, count) for prompt, count in zip(prompts, wanted.values(), strict=True)]
    shapes.clear()
    assert draw(model, prompts, most=9, temperature=0, top_p=1.0, is_over=lambda row: len(row) >= wanted[row[0]]) == (
        expected
    )
    assert [rows for rows, _ in shapes] == [3, 2, 1]


def test_a_prompt_that_all_rows_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    shapes = watched(model, monkeypatch)
    draw(model, [PROMPTS[0]] * 4, most=3, temperature=0, top_p=1.0, is_over=never)
    assert shapes == [(1, 3), (4, 1), (4, 1)]  # what was drawn last is not read


def test_a_model_without_a_cache_reads_everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    expected = [greedy(model, prompt, 4) for prompt in PROMPTS]
    monkeypatch.setattr(module, "_selectable", lambda _: None)
    assert draw(model, PROMPTS, most=4, temperature=0, top_p=1.0, is_over=never) == expected
    same = draw(model, [PROMPTS[0]] * 2, most=4, temperature=0, top_p=1.0, is_over=never)
    assert same == [expected[0]] * 2


@pytest.mark.parametrize("head", [2, 512])
def test_tokens_are_drawn_from_the_likeliest_part_as_often_as_they_are_likely(
    head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEAD_TOKENS", head)
    torch.manual_seed(0)
    chances = torch.tensor([0.05, 0.4, 0.15, 0.1, 0.3])
    drawn = choose(chances.log().expand(20_000, 5), temperature=1.0, top_p=0.8)
    counts = torch.bincount(drawn, minlength=5) / 20_000
    # 0.4 and 0.3 hold 0.7, so the 0.15 that reaches over 0.8 is the last one in; three standard errors are 0.01
    torch.testing.assert_close(counts, torch.tensor([0, 0.4, 0.15, 0, 0.3]) / 0.85, atol=0.012, rtol=0)


def test_a_lower_temperature_makes_the_likeliest_likelier_and_none_leaves_it_alone() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[0.6, 0.4]]).log().expand(20_000, 2)
    assert choose(logits, temperature=0, top_p=1.0).tolist() == [0] * 20_000
    cool = (choose(logits, temperature=0.5, top_p=1.0) == 0).double().mean()
    assert float(cool) == pytest.approx(0.36 / 0.52, abs=0.012)  # three standard errors are 0.01


def test_one_token_is_always_left_to_draw() -> None:
    assert choose(torch.tensor([[0.9, 0.1]]).log(), temperature=1.0, top_p=0.01).tolist() == [0]
    assert choose(torch.tensor([[0.9, 0.1]]).log(), temperature=1.0, top_p=0.0).tolist() == [0]


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_the_head_is_given_dense_states_and_left_as_it_was(architecture: str) -> None:
    model = model_of(architecture)
    head, seen = model.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda _, given, __: seen.append(given[0].is_contiguous()))
    draw(model, PROMPTS, most=3, temperature=0, top_p=1.0, is_over=never)
    handle.remove()
    assert seen == [True] * 3
    assert not head._forward_pre_hooks
