"""Train the adapters of the zoo: one for each base model and domain, by one recipe, kept as AIR files.

An adapter of rank 8 on all linear modules of the blocks. On the base it was trained on it is the native adapter that
moved ones are measured against; moved to the other bases it is the source.
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

from benchmarks.transfer.zoo_corpus import Domain
from ual_registry.models.loaded import LoadedBase
from ual_registry.workflows.convert import convert_to_air

__all__ = ["RECIPE", "Recipe", "train_adapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Passages in one step.
        learning_rate: Peak rate of AdamW, reached after a tenth of the steps, then falling linearly to 0.
        rank: Rank of every factor pair.
        alpha: LoRA alpha; the scaling is alpha / rank.
        seed: Seeds the factors and the order of the passages.
    """

    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-2
    rank: int = 8
    alpha: int = 16
    seed: int = 0


RECIPE = Recipe()
"""The recipe of every adapter of the zoo; the rate was chosen for the native task, on dev."""


def train_adapter(loaded: LoadedBase, folder: Path, domain: Domain, file: Path) -> None:
    """Train one adapter and write it, as AIR, to `file`, with a record of the run beside it.

    Args:
        loaded: The base model, in float32; it is left without the adapter.
        folder: Its folder.
        domain: What to train on.
        file: The AIR file to write; nothing is done where it exists.
    """
    if file.is_file():
        return
    start, cpu = time.monotonic(), time.process_time()
    torch.manual_seed(RECIPE.seed)
    wrapped = get_peft_model(loaded.model, _lora_config(loaded, RECIPE))
    losses = list(_losses(wrapped, loaded.text_tokenizer, domain.train, RECIPE))
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".partial-") as partial:
        wrapped.save_pretrained(partial)
        wrapped.unload().eval().requires_grad_(False)
        times = {"wall_s": time.monotonic() - start, "cpu_s": time.process_time() - cpu}
        record = {"recipe": asdict(RECIPE), "domain": str(domain.digest), "losses": losses, **times}
        file.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
        convert_to_air(partial, file, base=folder)


def _lora_config(loaded: LoadedBase, recipe: Recipe) -> LoraConfig:
    modules = [module for module in loaded.binding.modules.values() if module.slots[0].layer is not None]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=[module.path for module in modules],
        fan_in_fan_out=any(module.is_conv1d for module in modules),
    )


def _losses(model: Any, tokenizer: Any, passages: Sequence[str], recipe: Recipe) -> Iterator[float]:
    """Train, and yield the loss of each step before it is made, in nats per token."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    for batch in _batches(passages, recipe):
        loss = _loss(model, tokenizer, batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        yield round(loss.item(), 4)


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _batches(passages: Sequence[str], recipe: Recipe) -> Iterator[list[str]]:
    """Yield the batches of all steps, passing through the shuffled passages as often as needed."""
    chosen = random.Random(recipe.seed)
    waiting: list[str] = []
    for _ in range(recipe.steps):
        if len(waiting) < recipe.batch_size:
            waiting = chosen.sample(passages, len(passages))
        yield [waiting.pop() for _ in range(recipe.batch_size)]


def _loss(model: Any, tokenizer: Any, batch: Sequence[str]) -> torch.Tensor:
    """Return the mean loss of the tokens of `batch`, a scalar."""
    rows = [torch.tensor(_ids(tokenizer, text)) for text in batch]
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.eos_token_id)
    labels = pad_sequence(rows, batch_first=True, padding_value=-100)
    device = next(model.parameters()).device
    logits = model(input_ids=ids.to(device), use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].to(device).flatten())


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Return the ids of a passage after the token that begins a text; what the model cannot take is cut off."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]
    return ids[: tokenizer.model_max_length]
