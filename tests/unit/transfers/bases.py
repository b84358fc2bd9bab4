"""Two tiny base models of different widths, depths and tokenizers, loaded from folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.ground_truth.materials import LLAMA, save, sentences, strong_model
from ual_registry.models.loaded import LoadedBase, load_base_model

GPT2 = {"n_embd": 24, "n_layer": 3, "n_head": 3, "vocab_size": 400, "n_positions": 256, "bos_token_id": 0}
TEXTS = sentences(7, 12)


def merging_tokenizer() -> Any:
    """Return a tokenizer of bytes that joins frequent ones."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    made.train_from_iterator(sentences(8, 40), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")


def llama(folder: Path, **changes: Any) -> LoadedBase:
    """Return a llama of two blocks, 32 wide, that reads bytes."""
    return load_base_model(save(strong_model("LlamaForCausalLM", {**LLAMA, **changes}), folder / "llama"))


def gpt2(folder: Path) -> LoadedBase:
    """Return a GPT-2 of three blocks, 24 wide, that reads joined bytes."""
    place = save(strong_model("GPT2LMHeadModel", GPT2), folder / "gpt2")
    merging_tokenizer().save_pretrained(place)
    return load_base_model(place)
