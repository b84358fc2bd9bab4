"""A tiny sentence encoder that knows words: texts that share words have embeddings that are near."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

WORDS = {
    "banking": ["money", "account", "transfer", "card", "balance", "loan", "cash", "deposit"],
    "travel": ["flight", "hotel", "train", "ticket", "visa", "luggage", "beach", "map"],
    "other": ["tree", "sheep", "cloud", "river", "stone", "moss", "rain", "fox"],
}
"""Words by domain; those of ``other`` belong to none."""


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sentence-transformers folder of a random BERT with mean pooling."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny-encoder"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *[word for own in WORDS.values() for word in own]]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def sentences(domain: str, count: int, seed: int = 0) -> list[str]:
    """Return texts of a domain's words, all different."""
    own = WORDS[domain]
    return [
        f"{own[(place + seed) % 8]} {own[(place // 8 + seed * 3 + 1) % 8]} {own[(place * 3 + 2) % 8]}"
        for place in range(count)
    ]
