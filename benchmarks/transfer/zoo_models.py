"""The base models of the zoo: four small ones of different families, trained here on one corpus.

They differ in architecture, width, depth, heads and tokenizer; each tokenizer is trained on other documents of the
corpus. A model is one folder, as transformers saves it, with a record of its training beside the weights; a run that
was cut off goes on from its last checkpoint.
This module decides shapes and training; the text is left to `zoo_corpus`.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

__all__ = ["SHAPES", "Shape", "train_base"]

_END = "<|endoftext|>"
_POSITIONS = 512
_LENGTH, _BATCH = 256, 4
_SAVE_STEPS = 100
_SPREAD = 0.08
"""Standard deviation of first weights, for all families: with the 0.02 that is usual at widths of thousands, models as
narrow as these learn late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One base model of the zoo.

    Attributes:
        name: Its name, that of its architecture.
        classes: Names of the config class and of the model class.
        config: The settings that say its shape.
        vocabulary: Size of its vocabulary.
        has_start: Whether its tokenizer puts a token before every text.
        steps: Training steps of 4 x 256 tokens.
        learning_rate: Peak rate of AdamW.
    """

    name: str
    classes: tuple[str, str]
    config: Mapping[str, Any]
    vocabulary: int
    has_start: bool = False
    steps: int = 1000
    learning_rate: float = 6e-3


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            name="gpt2",
            classes=("GPT2Config", "GPT2LMHeadModel"),
            config={"n_embd": 80, "n_layer": 4, "n_head": 4, "n_positions": _POSITIONS}
            | {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
            vocabulary=1536,
            steps=1400,  # it has positions to learn
        ),
        Shape(
            name="llama",
            classes=("LlamaConfig", "LlamaForCausalLM"),
            config={"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2}
            | {"intermediate_size": 176, "max_position_embeddings": _POSITIONS, "tie_word_embeddings": True},
            vocabulary=1024,
            has_start=True,
        ),
        Shape(
            name="gpt_neox",
            classes=("GPTNeoXConfig", "GPTNeoXForCausalLM"),
            config={"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 384}
            | {"max_position_embeddings": _POSITIONS, "tie_word_embeddings": False},
            vocabulary=2048,
        ),
        Shape(
            name="qwen2",
            classes=("Qwen2Config", "Qwen2ForCausalLM"),
            config={"hidden_size": 72, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2}
            | {"intermediate_size": 192, "max_position_embeddings": _POSITIONS, "tie_word_embeddings": True},
            vocabulary=1280,
        ),
    )
}
"""The base models by name."""


def train_base(shape: Shape, documents: Sequence[str], folder: Path) -> None:
    """Train one base model and save it to `folder`, unless it is there.

    Args:
        shape: Which.
        documents: The corpus.
        folder: Where it is kept; a folder of the same name with `.partial` holds the checkpoint of an unfinished run.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(shape, documents, partial)
    model = _model(shape, tokenizer)
    record = _fit(model, _stream(tokenizer, documents), shape, partial / "checkpoint.pt")
    model.eval().save_pretrained(partial)
    (partial / "training.json").write_text(json.dumps(record), encoding="utf-8")
    (partial / "checkpoint.pt").unlink(missing_ok=True)
    partial.rename(folder)


def _tokenizer(shape: Shape, documents: Sequence[str], folder: Path) -> Any:
    """Train a byte-level BPE on the half of the documents whose digest with the model's name is even."""
    own = [text for text in documents if hashlib.sha256((shape.name + text).encode()).digest()[0] % 2 == 0]
    raw = Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=[_END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(own, trainer)
    raw.post_processor = _ending(shape)
    make: Any = PreTrainedTokenizerFast  # transformers gives it no types
    made = make(
        tokenizer_object=raw,
        bos_token=_END,
        eos_token=_END,
        model_max_length=_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    made.save_pretrained(folder)
    return made


def _ending(shape: Shape) -> Any:
    """Return what a tokenizer does to a text that it has cut: offsets, and a token before the text."""
    offsets = tokenizers.processors.ByteLevel(trim_offsets=False)
    if not shape.has_start:
        return offsets
    start = tokenizers.processors.TemplateProcessing(single=f"{_END} $A", special_tokens=[(_END, 0)])
    return tokenizers.processors.Sequence([offsets, start])


def _model(shape: Shape, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    config_class, model_class = (getattr(transformers, name) for name in shape.classes)
    settings = {"vocab_size": shape.vocabulary, "bos_token_id": end, "eos_token_id": end, "initializer_range": _SPREAD}
    config = config_class(**settings, **shape.config)
    return model_class(config)


def _stream(tokenizer: Any, documents: Sequence[str]) -> torch.Tensor:
    """Return all documents as one row of ids, in an order that follows from their digests, each after an end token."""
    ordered = sorted(documents, key=lambda text: hashlib.sha256(text.encode()).digest())
    ids: list[int] = []
    for text in ordered:
        ids.append(tokenizer.eos_token_id)
        ids.extend(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    return torch.tensor(ids)


def _fit(model: Any, stream: torch.Tensor, shape: Shape, checkpoint: Path) -> dict[str, Any]:
    """Train on random windows of the stream; return losses in nats per token, and the seconds it took."""
    decayed = [own for own in model.parameters() if own.ndim > 1]
    plain = [own for own in model.parameters() if own.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=shape.learning_rate, betas=(0.9, 0.95))
    first, record = _resume(model, optimizer, checkpoint)
    for step in range(first, shape.steps):
        start, cpu = time.monotonic(), time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = shape.learning_rate * _rate(step, shape.steps)
        loss = _step(model, optimizer, _windows(stream, step, shape.steps))
        record["losses"].append(round(loss, 4))
        record["wall_s"] += time.monotonic() - start
        record["cpu_s"] += time.process_time() - cpu
        if (step + 1) % _SAVE_STEPS == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
            shutil.move(checkpoint.with_suffix(".new"), checkpoint)
    checkpoint.with_suffix(".json").unlink(missing_ok=True)
    return record


def _resume(model: Any, optimizer: Any, checkpoint: Path) -> tuple[int, dict[str, Any]]:
    if not checkpoint.is_file():
        return 0, {"losses": [], "wall_s": 0.0, "cpu_s": 0.0}
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    record: dict[str, Any] = json.loads(checkpoint.with_suffix(".json").read_text(encoding="utf-8"))
    record["losses"] = record["losses"][: state["step"]]
    return int(state["step"]), record


def _rate(step: int, steps: int) -> float:
    """Rise over 30 steps, then fall along a cosine to a twentieth."""
    warm = 30
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _windows(stream: torch.Tensor, step: int, steps: int) -> torch.Tensor:
    """Return the windows of a step, shape (batch, length): each part of the stream once before any comes again."""
    count = len(stream) // _LENGTH
    order = torch.cat(
        [
            torch.randperm(count, generator=torch.Generator().manual_seed(own))
            for own in range(steps * _BATCH // count + 1)
        ]
    )
    chosen = order[step * _BATCH : (step + 1) * _BATCH]
    return torch.stack([stream[own * _LENGTH : (own + 1) * _LENGTH] for own in chosen.tolist()])


def _step(model: Any, optimizer: Any, ids: torch.Tensor) -> float:
    model.train()
    logits = model(input_ids=ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())
