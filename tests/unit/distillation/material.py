"""A toy language, and tiny base models that know its words in another order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.pieces import Cutter

_SUBJECTS = ("the cat", "a dog", "the old man", "Zoë", "a friend")
_VERBS = ("sees", "likes", "feeds", "finds")
_OBJECTS = ("the mouse", "a naïve bird", "the fish", "the bread")


def sentences(count: int, seed: int) -> list[str]:
    """Return sentences of the toy language, some of them more than once."""
    chosen = random.Random(seed)
    return [f"{chosen.choice(_SUBJECTS)} {chosen.choice(_VERBS)} {chosen.choice(_OBJECTS)}." for _ in range(count)]


def backwards(count: int, seed: int) -> list[str]:
    """Return sentences with object and subject exchanged, which is what the base models are trained on."""
    chosen = random.Random(seed)
    return [f"{chosen.choice(_OBJECTS)} {chosen.choice(_VERBS)} {chosen.choice(_SUBJECTS)}." for _ in range(count)]


def make_tokenizer(vocab_size: int, *, has_start: bool, trim: bool = False) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer on the toy language; more room in the vocabulary makes longer tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(sentences(200, seed=1), trainer)
    made.post_processor = processors.ByteLevel(trim_offsets=trim)
    if has_start:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def make_base(folder: Path, *, vocab_size: int, has_start: bool, seed: int, hidden_size: int = 32) -> Path:
    """Save a Llama of two layers, trained on the toy language backwards, with its tokenizer."""
    tokenizer = make_tokenizer(vocab_size, has_start=has_start)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        architectures=["LlamaForCausalLM"],
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    fit(model, tokenizer, list(model.parameters()), backwards(400, seed=3), steps=160, learning_rate=3e-3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fit(
    model: Any,
    tokenizer: Any,
    parameters: list[torch.nn.Parameter],
    texts: list[str],
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train parameters on texts, each with its end token, in batches of eight."""
    cutter, scorer = Cutter(tokenizer), Scorer(model)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        batch = random.Random(step).sample(texts, 8)
        ids = [(*cutter.cut("", text).ids, tokenizer.eos_token_id) for text in batch]
        loss = -torch.cat(scorer(ids, [range(1, len(own)) for own in ids])).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def mean_loss(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Return the mean negative log-likelihood of a text, its end token included, in nats."""
    cutter, scorer = Cutter(tokenizer), Scorer(model)
    ids = [(*cutter.cut("", text).ids, tokenizer.eos_token_id) for text in texts]
    with torch.no_grad():
        scored = scorer(ids, [range(1, len(own)) for own in ids])
    return -sum(float(own.sum()) for own in scored) / len(texts)
