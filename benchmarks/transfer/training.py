"""Train the adapters of the transfer benchmark, and keep them as AIR files in a cache outside the repository.

For each base model, task and seed there is one adapter of rank 8 on all seven roles: on the source base the
adapter that is moved, on the target base the native one that the moved one is measured against. Each adapter
is one step: its file gets its name when it is complete, so a run that was cut off goes on where it was.
This module decides the recipe and the cache; what the adapters are used for is left to others.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence

from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.tasks import Item, Task
from ual_registry.models.loaded import LoadedBase
from ual_registry.workflows.convert import convert_to_air

__all__ = ["Recipe", "recipe_for", "train"]

_ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Items in one step.
        learning_rate: Peak rate of AdamW, reached after a tenth of the steps, then falling linearly to 0.
        rank: Rank of every factor pair.
        alpha: LoRA alpha; the scaling is alpha / rank.
        seed: Seeds the factors and the order of the items.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: int = 16
    seed: int


def recipe_for(task: Task, seed: int) -> Recipe:
    """Return the recipe of `task`; it is the same for both base models."""
    if task.has_labels:
        return Recipe(steps=110, batch_size=16, seed=seed)
    return Recipe(steps=32, batch_size=4, learning_rate=2e-3, seed=seed)


def train(loaded: LoadedBase, task: Task, recipe: Recipe, file: Path, folder: Path) -> None:
    """Train one adapter and write it, as AIR, to `file`, with a record of the run beside it.

    Args:
        loaded: The base model, in float32; it is left without the adapter.
        task: What to train on.
        recipe: How.
        file: The AIR file to write; nothing is done where it exists.
        folder: Folder of the base model.
    """
    with one_at_a_time(file):
        if not file.is_file():
            _train(loaded, task, recipe, file, folder)


def _train(loaded: LoadedBase, task: Task, recipe: Recipe, file: Path, folder: Path) -> None:
    start = time.monotonic()
    torch.manual_seed(recipe.seed)
    wrapped = get_peft_model(loaded.model, _lora_config(recipe))
    losses = _fit(wrapped, loaded.text_tokenizer, task, recipe)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".partial-") as partial:
        wrapped.save_pretrained(partial)
        wrapped.unload().eval()
        record = {"recipe": asdict(recipe), "losses": losses, "wall_s": time.monotonic() - start}
        file.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
        convert_to_air(partial, file, base=folder)


def _lora_config(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=list(_ROLES),
    )


def _fit(model: Any, tokenizer: Any, task: Task, recipe: Recipe) -> list[float]:
    """Return the loss before each step, in nats: of an answer for labels, of a token for documents."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    losses = []
    for batch in _batches(task.train, recipe):
        loss = _loss(model.get_base_model(), tokenizer, batch, per_token=not task.has_labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _batches(items: Sequence[Item], recipe: Recipe) -> Iterator[list[Item]]:
    """Yield the batches of all steps, passing through the shuffled items as often as needed."""
    rng = random.Random(recipe.seed)
    waiting: list[Item] = []
    for _ in range(recipe.steps):
        if len(waiting) < recipe.batch_size:
            waiting = rng.sample(items, len(items))
        yield [waiting.pop() for _ in range(recipe.batch_size)]


def _loss(causal: Any, tokenizer: Any, batch: Sequence[Item], *, per_token: bool) -> torch.Tensor:
    """Return the loss of `batch`, a float32 scalar; logits are computed only where an answer token follows."""
    rows = [_ids(tokenizer, item) for item in batch]
    ids = pad_sequence([torch.tensor(prompt + answer) for prompt, answer in rows], batch_first=True).to(causal.device)
    hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    for row, (prompt, answer) in enumerate(rows):
        wanted[row, len(prompt) : len(prompt) + len(answer)] = True
    logits = causal.get_output_embeddings()(hidden[:, :-1][wanted[:, 1:]])
    total = torch.nn.functional.cross_entropy(logits, ids[:, 1:][wanted[:, 1:]], reduction="sum")
    return total / (wanted.sum() if per_token else len(batch))


def _ids(tokenizer: Any, item: Item) -> tuple[list[int], list[int]]:
    """Return the token ids of prompt and answer; a document starts after the token that starts a text."""
    prompt = list(tokenizer(item.prompt)["input_ids"])
    if not prompt:
        prompt = [tokenizer.bos_token_id]
    return prompt, list(tokenizer(item.answer, add_special_tokens=False)["input_ids"])
