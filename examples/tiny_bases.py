"""Two tiny base models with weights and tokenizers, an adapter for each, and text: all that a transfer can need.

Both models know a toy language backwards ("a dog sees the cat." for "the cat sees a dog."); both adapters have learnt
it forwards, one on each model, so that the second one is the native adapter to measure a transfer against. It takes
some seconds, and needs ``pip install 'ual-registry[train]'``.

    python -m examples.tiny_bases tour
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["make_tiny_bases"]

_HF: Any = transformers  # parts of it have no types

_PEOPLE = ("the cat", "a dog", "the old man", "Anna", "a friend")
_VERBS = ("sees", "likes", "feeds", "finds")
_THINGS = ("the mouse", "a bird", "the fish", "the bread")
_BASES = {"old": (280, 32, 1), "new": (320, 48, 2)}
"""Vocabulary, width and seed of each base model."""


def _sentences(count: int, seed: int, *, is_forwards: bool = True) -> list[str]:
    chosen = random.Random(seed)
    triples = [(chosen.choice(_PEOPLE), chosen.choice(_VERBS), chosen.choice(_THINGS)) for _ in range(count)]
    return [f"{a} {verb} {b}." if is_forwards else f"{b} {verb} {a}." for a, verb, b in triples]


def _tokenizer(vocab_size: int) -> Any:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_sentences(200, seed=1), trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return _HF.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _fit(model: Any, tokenizer: Any, texts: list[str], *, steps: int, rate: float) -> None:
    optimiser = torch.optim.AdamW([own for own in model.parameters() if own.requires_grad], lr=rate)
    order = random.Random(0)
    model.train()
    for _ in range(steps):
        ids = [torch.tensor(tokenizer(text + "</s>")["input_ids"]) for text in order.sample(texts, 16)]
        batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
        loss = model(input_ids=batch.clamp(min=0), attention_mask=(batch >= 0).long(), labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()


def _base(vocab_size: int, width: int, seed: int) -> tuple[Any, Any]:
    tokenizer = _tokenizer(vocab_size)
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = transformers.LlamaForCausalLM(config)
    _fit(model, tokenizer, _sentences(400, seed=3, is_forwards=False), steps=160, rate=3e-3)
    return model, tokenizer


def make_tiny_bases(folder: Path) -> None:
    """Write ``old/`` and ``new/`` (base models), an adapter for each, calibration text, and items to measure on.

    Args:
        folder: Where to write; made where it is missing.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)  # what one library remarks about another
    torch.set_num_threads(1)
    _HF.utils.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    for name, shape in _BASES.items():
        model, tokenizer = _base(*shape)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        adapted = peft.get_peft_model(model, settings)
        _fit(adapted, tokenizer, _sentences(240, seed=2), steps=120, rate=1e-2)
        place = folder / f"{name}-adapter"
        adapted.save_pretrained(str(place))
        (place / "README.md").unlink()  # a card that says nothing
    both = [*_sentences(40, seed=5), *_sentences(40, seed=6, is_forwards=False)]
    (folder / "text.txt").write_text("\n".join(dict.fromkeys(both)) + "\n", encoding="utf-8")
    items = [{"text": " ".join(_sentences(3, seed=50 + index))} for index in range(40)]
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (folder / "items.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "tour")
    make_tiny_bases(target)
    print(f"wrote old/, new/, old-adapter/, new-adapter/, text.txt and items.jsonl into {target}")
