"""Train and measure small LoRA adapters on the topic task of `examples.topics`.

A request becomes a prompt of two lines, `Request: <text>` and `Topic:`, and the answer is one of ten labels
such as ` credit cards` (the topic name with spaces). Nothing is generated: a label is judged by its
log-likelihood after the prompt, summed over its tokens.

Two figures describe an arm (a model with or without an adapter), the same two for every arm:

* accuracy: the share of requests whose gold label has the highest total log-likelihood of the ten;
* loss: the negative log-likelihood of the gold label given the request, `-log p(label | prompt)`, summed over
  the tokens of the label, in nats, averaged over the requests. It is not normalised over the ten labels, so a
  model that would rather write something else pays for that. The training loss is the same quantity.

This module decides prompt, loss, training recipe and the control adapter; which arms are compared is left to
others. It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.topics import Example, TopicData

__all__ = [
    "TARGET_MODULES",
    "Arm",
    "Base",
    "Recipe",
    "evaluate",
    "load_base",
    "train_adapter",
    "with_adapter",
    "write_random_adapter",
]

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an adapter is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Requests in one step.
        learning_rate: Peak rate of AdamW, reached after a tenth of the steps, then falling linearly to 0.
        rank: Rank of every factor pair.
        alpha: LoRA alpha; the scaling is alpha / rank.
        seed: Seeds the factors and the order of the requests.
    """

    steps: int = 110
    batch_size: int = 16
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A causal language model, plain or wrapped by PEFT, with its tokenizer.

    Attributes:
        model: In float32, on the CPU, in evaluation mode.
        tokenizer: The tokenizer of the same folder.
    """

    model: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What one arm did on each test request, in the order of the requests.

    Attributes:
        correct: Whether the gold label had the highest log-likelihood.
        losses: Negative log-likelihood of the gold label, in nats.
    """

    correct: tuple[bool, ...]
    losses: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Return the share of correct requests, 0..1."""
        return sum(self.correct) / len(self.correct)

    @property
    def loss(self) -> float:
        """Return the mean negative log-likelihood of the gold label, in nats."""
        return sum(self.losses) / len(self.losses)


def load_base(folder: Path) -> Base:
    """Load model and tokenizer of `folder`, the model in float32 and in evaluation mode."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Base(model=model.eval(), tokenizer=AutoTokenizer.from_pretrained(folder))


def with_adapter(base: Base, folder: Path) -> Base:
    """Wrap `base` with the PEFT adapter in `folder`; `wrapped.model.unload()` takes it off again.

    Args:
        base: A base model without an adapter; its modules are changed in place.
        folder: A PEFT adapter folder for this base model.

    Returns:
        The base with the adapter active.

    Raises:
        ValueError: The model did not take exactly the tensors of the folder; PEFT itself only warns, and an
            arm with half an adapter would be measured as if it were whole.
    """
    model = PeftModel.from_pretrained(base.model, str(folder)).eval()
    taken = get_peft_model_state_dict(model, save_embedding_layers=False)
    stored = load_file(folder / _WEIGHTS)
    if set(taken) != set(stored) or not all(torch.equal(taken[key], stored[key].float()) for key in stored):
        raise ValueError(f"{folder}: the model did not take exactly the tensors of {_WEIGHTS}")
    return Base(model=model, tokenizer=base.tokenizer)


# Prompts and labels


def _prompt_ids(base: Base, text: str) -> list[int]:
    return list(base.tokenizer(f"Request: {text}\nTopic:")["input_ids"])


def _label_ids(base: Base, topic: str) -> list[int]:
    label = " " + topic.replace("_", " ")
    return list(base.tokenizer(label, add_special_tokens=False)["input_ids"])


def _causal(model: Any) -> Any:
    """Return the causal model itself; the adapter's layers are inside it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _token_log_probs(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each target token, float32, shape of `targets` (n,).

    Args:
        model: The causal model that owns the output head.
        hidden: Last hidden states, float32, shape (n, hidden_size); only where a target is, because the head
            may have hundreds of thousands of rows.
        targets: Token ids, int64, shape (n,).
    """
    logits = model.get_output_embeddings()(hidden)
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


# Training


def train_adapter(base: Base, data: TopicData, recipe: Recipe, folder: Path) -> list[float]:
    """Train a LoRA adapter on `data.train` and save it to `folder` as PEFT does.

    Args:
        base: The base model; it is wrapped in place and left without the adapter.
        data: The task.
        recipe: Rank, steps, rate and seed.
        folder: Where `save_pretrained` writes.

    Returns:
        The loss of each step, in nats per request, before the step.
    """
    torch.manual_seed(recipe.seed)
    model = get_peft_model(base.model, _lora_config(recipe))
    losses = _fit(Base(model=model, tokenizer=base.tokenizer), data, recipe)
    model.save_pretrained(str(folder))
    model.unload().eval()
    return losses


def _lora_config(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=list(TARGET_MODULES),
    )


def _fit(base: Base, data: TopicData, recipe: Recipe) -> list[float]:
    base.model.train()
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_then_linear(recipe.steps))
    losses = []
    batches = _batches(data.train, recipe)
    for batch in tqdm(batches, "train", recipe.steps, unit="step", disable=not sys.stderr.isatty()):
        loss = _batch_loss(base, batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _warm_then_linear(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)
    return lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _batches(examples: Sequence[Example], recipe: Recipe) -> Iterator[list[Example]]:
    """Yield `recipe.steps` batches, passing through the shuffled examples as often as needed."""
    rng = random.Random(recipe.seed)
    batches: list[list[Example]] = []
    for _ in range(recipe.steps):
        if not batches:
            batches = _shuffled_batches(examples, recipe.batch_size, rng)
        yield batches.pop()


def _shuffled_batches(examples: Sequence[Example], batch_size: int, rng: random.Random) -> list[list[Example]]:
    """Cut the shuffled examples into batches of requests of similar length, in random order.

    Only windows of eight batches are sorted by length: it saves the time that padding would take, and keeps
    the batches random. Examples that do not fill a batch are left for the next pass.
    """
    shuffled = rng.sample(examples, len(examples))
    window = 8 * batch_size
    ordered = [
        example
        for start in range(0, len(shuffled), window)
        for example in sorted(shuffled[start : start + window], key=lambda e: len(e.text))
    ]
    batch_size = min(batch_size, len(ordered))
    whole = range(0, len(ordered) - batch_size + 1, batch_size)
    return rng.sample([ordered[start : start + batch_size] for start in whole], len(whole))


def _batch_loss(base: Base, batch: Sequence[Example]) -> torch.Tensor:
    """Return the loss of `batch`, a float32 scalar: summed over label tokens, averaged over requests."""
    pairs = [(_prompt_ids(base, e.text), _label_ids(base, e.topic)) for e in batch]
    rows, columns, targets = _label_positions(pairs)
    # Padding stands on the right and no token looks to its right, so no mask is needed.
    ids = pad_sequence([torch.tensor(prompt + label) for prompt, label in pairs], batch_first=True)
    causal = _causal(base.model)
    hidden = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return -_token_log_probs(causal, hidden[rows, columns], targets).sum() / len(batch)


def _label_positions(
    pairs: Sequence[tuple[list[int], list[int]]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return row, column and target token of every label token; the column is the one that predicts it."""
    found = [
        (row, len(prompt) - 1 + offset, token)
        for row, (prompt, label) in enumerate(pairs)
        for offset, token in enumerate(label)
    ]
    rows, columns, targets = torch.tensor(found).unbind(dim=1)
    return rows, columns, targets


# Measuring


@torch.no_grad()
def evaluate(base: Base, data: TopicData) -> Arm:
    """Judge the ten labels of every test request and return what the arm did on each.

    Prompts of the same length run together (no padding, so no effect of it); the labels share the prompt
    through the key-value cache, and only the labels of more than one token need a second pass.
    """
    base.model.eval()
    labels = [_label_ids(base, topic) for topic in data.topics]
    gold = [data.topics.index(example.topic) for example in data.test]
    scores = torch.empty(len(data.test), len(labels))
    batches = _same_length([_prompt_ids(base, example.text) for example in data.test])
    for indices, prompts in tqdm(batches, "evaluate", unit="batch", disable=not sys.stderr.isatty()):
        scores[indices] = _label_scores(_causal(base.model), prompts, labels)
    gold_scores = scores[torch.arange(len(gold)), torch.tensor(gold)]
    return Arm(
        correct=tuple((scores.argmax(dim=1) == torch.tensor(gold)).tolist()),
        losses=tuple((-gold_scores).tolist()),
    )


def _same_length(prompts: Sequence[list[int]], most: int = 16) -> list[tuple[list[int], torch.Tensor]]:
    """Group prompts of one length, at most `most` together: their indices and ids, int64, (batch, length)."""
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    chunks = [group[i : i + most] for group in by_length.values() for i in range(0, len(group), most)]
    return [(chunk, torch.tensor([prompts[index] for index in chunk])) for chunk in chunks]


def _label_scores(model: Any, prompts: torch.Tensor, labels: Sequence[list[int]]) -> torch.Tensor:
    """Return the total log-likelihood of every label after every prompt, float32, (batch, labels)."""
    out = model.base_model(input_ids=prompts, use_cache=True)
    first = torch.log_softmax(model.get_output_embeddings()(out.last_hidden_state[:, -1]), dim=-1)
    scores = first[:, [label[0] for label in labels]]
    longer = [index for index, label in enumerate(labels) if len(label) > 1]
    if longer:
        rest = _rest_scores(model, out.past_key_values, len(prompts), [labels[index] for index in longer])
        scores[:, longer] += rest
    return scores


def _rest_scores(model: Any, cache: Any, batch: int, labels: Sequence[list[int]]) -> torch.Tensor:
    """Return the log-likelihood of all but the first token of each label, float32, (batch, labels).

    Every cached prompt is repeated once for each label; the label tokens, padded on the right, follow it.
    """
    cache.batch_repeat_interleave(len(labels))
    inputs = pad_sequence([torch.tensor(label[:-1]) for label in labels], batch_first=True).repeat(batch, 1)
    targets = pad_sequence([torch.tensor(label[1:]) for label in labels], True, -1).repeat(batch, 1)
    hidden = model.base_model(input_ids=inputs, past_key_values=cache, use_cache=True).last_hidden_state
    real = targets >= 0
    found = torch.zeros(targets.shape)
    found[real] = _token_log_probs(model, hidden[real], targets[real])
    return found.sum(dim=1).reshape(batch, len(labels))


# Control


def write_random_adapter(source: Path, folder: Path, *, seed: int) -> None:
    """Write an adapter of random factors in which every module has the norm that it has in `source`.

    The factors are Gaussian, scaled so that the Frobenius norm of scaling * B @ A equals that of the same
    module in `source` (the config is copied, so the scaling is the same). An adapter that does no better than
    this one carries no more than its size.

    Args:
        source: A PEFT adapter folder with plain LoRA factors.
        folder: The PEFT adapter folder to write.
        seed: Seeds the factors.

    Raises:
        ValueError: `source` holds tensors other than `lora_A.weight` and `lora_B.weight`.
    """
    tensors = load_file(source / _WEIGHTS)
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    save_file(_random_like(tensors, generator), folder / _WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(source / _CONFIG, folder / _CONFIG)


def _random_like(tensors: Mapping[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for key_a in sorted(key for key in tensors if key.endswith(".lora_A.weight")):
        key_b = key_a.removesuffix(".lora_A.weight") + ".lora_B.weight"
        made[key_a], made[key_b] = _random_pair(tensors[key_a], tensors[key_b], generator)
    if set(made) != set(tensors):
        raise ValueError(f"not plain LoRA factors: {sorted(set(tensors) - set(made))}")
    return made


def _random_pair(a: torch.Tensor, b: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random factors with the shapes and dtypes of `a` and `b` and the norm of their product."""
    new_a = torch.randn(a.shape, generator=generator, dtype=torch.float64)
    new_b = torch.randn(b.shape, generator=generator, dtype=torch.float64)
    new_b *= _product_norm(a, b) / _product_norm(new_a, new_b)
    # Both factors carry half of the size, so that neither leaves the range of a half-precision dtype.
    half = (new_b.norm() / new_a.norm()).sqrt()
    if half > 0:
        new_a, new_b = new_a * half, new_b / half
    return new_a.to(a.dtype), new_b.to(b.dtype)


def _product_norm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the Frobenius norm of b @ a, a float64 scalar, from the factors alone.

    ||B A||^2 = trace((B^T B)(A A^T)), with (rank, rank) matrices: the product (out, in) is never formed.

    Args:
        a: `lora_A`, shape (rank, in_features).
        b: `lora_B`, shape (out_features, rank).
    """
    a, b = a.double(), b.double()
    return ((b.T @ b) * (a @ a.T)).sum().clamp(min=0.0).sqrt()
