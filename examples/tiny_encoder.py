"""A tiny sentence encoder, queries of a help desk by domain, and the settings of a router, made in a moment.

The encoder is a BERT of random numbers whose vocabulary is the words of the queries. It knows one thing: which words
belong together. It needs ``pip install 'ual-registry[dispatch]'``.

    python -m examples.tiny_encoder tiny
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

__all__ = ["WORDS", "make_tiny_encoder", "sentence_encoder", "sentences"]

_HF: Any = transformers  # parts of it have no types

WORDS = {
    "banking": ["money", "account", "transfer", "card", "balance", "loan", "cash", "deposit"],
    "travel": ["flight", "hotel", "train", "ticket", "visa", "luggage", "beach", "map"],
    "cooking": ["recipe", "oven", "sauce", "onion", "flour", "butter", "soup", "spoon"],
    "other": ["tree", "sheep", "cloud", "river", "stone", "moss", "rain", "fox"],
}
"""Words by domain; those of ``other`` belong to none."""
_DOMAINS = ("banking", "travel", "cooking")
_STRAY = 0.4
"""Share of queries of which one word of three is another domain's, so that domains overlap."""
_FRAMES = ("where is my {} {} {}", "I want {} with {} and {}", "the {} {} and the {}", "does {} change {} or {}")
_SPREAD = 2.0
"""Of words round the middle of their domain."""
_TRAINED, _HELD_BACK = 60, 20

_SETTINGS = """name: desk
encoder: {encoder}
target: {{kept: 0.95}}
domains:
  banking: {{adapter: money}}
  travel: {{adapter: trips}}
  cooking: {{}}
"""


def make_tiny_encoder(folder: Path) -> None:
    """Write ``encoder/``, ``examples.jsonl``, ``test.jsonl`` and ``router.yaml``; the folder is made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    sentence_encoder(folder / "encoder")
    examples: list[tuple[str, str | None]] = []
    tests: list[tuple[str, str | None]] = []
    for domain in _DOMAINS:
        texts = list(_queries(domain, _TRAINED + _HELD_BACK))
        examples += [(text, domain) for text in texts[:_TRAINED]]
        tests += [(text, domain) for text in texts[_TRAINED:]]
    tests += [(text, None) for text in _queries("other", _HELD_BACK)]
    random.Random(0).shuffle(tests)
    _write(folder / "examples.jsonl", examples)
    _write(folder / "test.jsonl", tests)
    (folder / "router.yaml").write_text(_SETTINGS.format(encoder=folder / "encoder"), encoding="utf-8")


def _queries(domain: str, count: int) -> Iterator[str]:
    chosen = random.Random(domain)
    found: dict[str, None] = {}
    while len(found) < count:
        words = chosen.sample(WORDS[domain], 3)
        if domain in _DOMAINS and chosen.random() < _STRAY:
            words[0] = chosen.choice(WORDS[chosen.choice([own for own in _DOMAINS if own != domain])])
        chosen.shuffle(words)
        found[chosen.choice(_FRAMES).format(*words)] = None
    yield from found


def _write(path: Path, rows: list[tuple[str, str | None]]) -> None:
    lines = [json.dumps({"text": text, "domain": domain}) for text, domain in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sentence_encoder(folder: Path, width: int = 32) -> None:
    """Write a sentence-transformers folder of a BERT with mean pooling whose embeddings have a width."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = sorted({word.lower() for frame in _FRAMES for word in frame.split() if word != "{}"})
    known = [*(word for own in WORDS.values() for word in own), *frames]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    _HF.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    _HF.utils.logging.disable_progress_bar()
    config = _HF.BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    model = _HF.BertModel(config)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
        model.embeddings.word_embeddings.weight.copy_(_word_vectors(words, width))
    model.save_pretrained(folder)
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def _word_vectors(words: list[str], width: int) -> torch.Tensor:
    """Return (words, width) vectors: those of a domain lie round one direction, and words between them are nothing."""
    found = torch.zeros(len(words), width)
    for own in WORDS.values():
        centre = torch.randn(width)
        for word in own:
            found[words.index(word)] = centre + _SPREAD * torch.randn(width)
    found[words.index("[UNK]")] = torch.randn(width)
    return found


def sentences(domain: str, count: int, seed: int = 0) -> list[str]:
    """Return texts of nothing but a domain's words, up to 64 of them different."""
    own = WORDS[domain]
    return [
        f"{own[(place + seed) % 8]} {own[(place // 8 + seed * 3 + 1) % 8]} {own[(place * 3 + 2) % 8]}"
        for place in range(count)
    ]


if __name__ == "__main__":
    make_tiny_encoder(Path(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
