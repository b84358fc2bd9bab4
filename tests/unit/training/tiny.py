"""Tiny base models with one tokenizer, their examples, and short ways to train on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.unit.distillation.material import make_tokenizer, sentences
from ual_registry.models.loaded import LoadedBase
from ual_registry.tensors import to_torch
from ual_registry.training.config import TrainingConfig
from ual_registry.training.forms import Example
from ual_registry.training.prepare import Prepared, prepare
from ual_registry.training.run import TrainingResult, train

VOCABULARY = 300


def save_base(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Save a tiny base model of random weights: ``llama``, ``gpt2``, ``bert`` or ``t5``."""
    tokenizer = make_tokenizer(VOCABULARY, has_start=False)
    if kind == "bert":
        tokenizer.add_special_tokens({"mask_token": "<mask>"})
    torch.manual_seed(seed)
    _make(kind, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _make(kind: str, vocab: int) -> Any:
    if kind == "llama":
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
        return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, bos_token_id=0, eos_token_id=1, **heads, **sizes))
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, bos_token_id=0, eos_token_id=1, **sizes))
    if kind == "bert":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        return BertForMaskedLM(BertConfig(vocab_size=vocab, max_position_embeddings=128, **sizes))
    config = T5Config(
        vocab_size=vocab,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=1,
        pad_token_id=1,
    )
    return T5ForConditionalGeneration(config)


def texts(count: int = 60, seed: int = 5) -> list[Example]:
    """Return texts of unequal lengths: sentences of the toy language, one to four of them together."""
    found = sentences(count * 4, seed=seed)
    return [Example(text=" ".join(found[4 * index : 4 * index + 1 + index % 4])) for index in range(count)]


def config(**changes: Any) -> TrainingConfig:
    """Return settings for a run of a moment."""
    quick = {"rank": 4, "alpha": 8.0, "learning_rate": 5e-3, "steps": 6, "batch_size": 4, "accumulation": 2}
    return TrainingConfig(**{**quick, "evaluate_every": 3, "device": "cpu", **changes})


def prepared(base: LoadedBase, own: TrainingConfig, examples: Sequence[Example] | None = None) -> Prepared:
    """Prepare examples for a base model."""
    return prepare(texts() if examples is None else examples, base.text_tokenizer, own)


def run(base: LoadedBase, folder: Path, examples: Sequence[Example] | None = None, **changes: Any) -> TrainingResult:
    """Train on a base model; ``resume`` goes on."""
    resume = changes.pop("resume", False)
    own = config(**changes)
    return train(base, prepared(base, own, examples), own, folder=folder, resume=resume)


def tensors(result: TrainingResult) -> dict[str, torch.Tensor]:
    """Return the tensors of a result."""
    return {name: to_torch(own) for name, own in result.adapter.tensors.items()}


def difference(one: TrainingResult, other: TrainingResult) -> float:
    """Return the largest difference of a number of two results."""
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
