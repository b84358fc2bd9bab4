"""A tiny base model with weights and a tokenizer, and a few examples to train on, made in a moment.

Its numbers are random, so it knows nothing; a training on it shows what a training says. The examples are tickets of a
help desk, each with the team that takes it.

    python -m examples.tiny_base tiny
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

__all__ = ["make_tiny_base"]

_TEAMS = {
    "billing": ("the invoice is wrong", "I was charged twice", "a refund has not come", "the price has changed"),
    "access": ("I cannot log in", "my password is lost", "the second factor fails", "my account is locked"),
    "devices": ("the printer is silent", "the screen stays dark", "the battery does not charge", "a key is stuck"),
}
_OPENINGS = ("Hello,", "Please help:", "Since Monday", "Once more:", "Urgent:")


def make_tiny_base(folder: Path) -> None:
    """Write ``base/``, ``tickets.jsonl`` and ``settings.yaml`` into a folder; it is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(_tickets())
    tokenizer = _tokenizer([f"{row['prompt']} {row['completion']}" for row in rows])
    torch.manual_seed(0)
    logging.disable_progress_bar()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "tickets.jsonl").write_text(lines, encoding="utf-8")
    (folder / "settings.yaml").write_text("rank: 8\nalpha: 16\nlearning_rate: 1e-2\nepochs: 4\n", encoding="utf-8")


def _tickets() -> Iterator[dict[str, str]]:
    order = random.Random(0)
    pairs = [(team, f"{opening} {what}.") for team, own in _TEAMS.items() for what in own for opening in _OPENINGS]
    order.shuffle(pairs)
    for team, text in pairs:
        yield {"prompt": f"Ticket: {text}\nTeam:", "completion": f" {team}"}


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


if __name__ == "__main__":
    make_tiny_base(Path(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
