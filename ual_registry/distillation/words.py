"""Words that an adapter has a sure answer to: each word of a vocabulary is put to it as an input of its own.

A base model that is given a few inputs writes of what it knows best, and an adapter is asked about the same things over
and over. Inputs that begin with words drawn from all of the vocabulary are about many more; those that the adapter
has a sure answer to are words of what it was made for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.digest import Digest
from ual_registry.distillation.answers import text_material
from ual_registry.distillation.draw import next_chances
from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.report import Named
from ual_registry.distillation.seeds import SeedPrompts
from ual_registry.errors import FormatError
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase
from ual_registry.models.plain_tokens import tokenizer_digest
from ual_registry.models.token_texts import BROKEN, token_texts
from ual_registry.storage import atomic_file, read_file

__all__ = ["SureWord", "chosen_words", "sure_words", "vocabulary_words"]

_MOST_PROBED = 10_000
"""How many words are put to the adapter, drawn from all; it takes as long as to read about 100,000 tokens."""

_SURE = 0.5
"""The least probability of an answer's first token at which an adapter is sure of it."""

_SHORTEST = 3
"""The fewest letters of a word; shorter ones are mostly pieces of words."""

_ROWS = 64
_MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SureWord:
    """A word and what source and adapter would answer first.

    Attributes:
        text: The word.
        token: The first token of the likeliest answer.
        chance: Its probability.
    """

    text: str
    token: int
    chance: float


def vocabulary_words(tokenizer: Any) -> list[str]:
    """Return the tokens that are words by themselves, in lower case, in alphabetical order.

    Args:
        tokenizer: A tokenizer of transformers.
    """
    texts = (text for (kind, text), _ in token_texts(tokenizer, len(tokenizer)) if kind != BROKEN)
    words = {text[1:] for text in texts if text.startswith(" ")}
    return sorted(word for word in words if len(word) >= _SHORTEST and word.isalpha() and word == word.lower())


def sure_words(source: LoadedBase, adapter: Named, seeds: SeedPrompts, *, seed: int, file: Path) -> list[SureWord]:
    """Put words of the source's vocabulary to source and adapter, and return those that they have a sure answer to.

    Args:
        source: The source base model.
        adapter: Its adapter.
        seeds: What stands around an input.
        seed: Decides which words are tried, where there are too many.
        file: Where the result is kept, and found again.

    Raises:
        FormatError: The file holds something else.
        StorageError: It cannot be read or written.
        UALError: As ``models.attach.attach``.
    """
    words = vocabulary_words(source.text_tokenizer)
    if len(words) > _MOST_PROBED:
        words = sorted(random.Random(f"{seed}-words").sample(words, _MOST_PROBED))  # noqa: S311  # nothing is secret
    about = {
        "material": text_material(source, adapter),
        "tokenizer": str(tokenizer_digest(source.text_tokenizer)),
        "template": seeds.template,
        "seed": seed,
        "words": str(Digest.of_bytes(canonical_bytes(words))),
        "sure": _SURE,
    }
    if file.exists():
        return _read(file, about)
    with attach(source.model, adapter.adapter):
        found = [own for own in _probed(source, seeds, words) if own.chance >= _SURE]
    with atomic_file(file, durable=True) as out:
        out.write(canonical_bytes({"about": about, "words": [[own.text, own.token, own.chance] for own in found]}))
    return found


def _read(file: Path, about: Mapping[str, Any]) -> list[SureWord]:
    document = parse_json(read_file(file, limit_bytes=_MAX_FILE_BYTES), what=str(file))
    if not isinstance(document, dict) or document.get("about") != about or not isinstance(document.get("words"), list):
        raise FormatError(
            f"{file}: holds words of other settings",
            code="texts-settings",
            context={"path": str(file)},
            hint="give another folder, or remove this file",
        )
    return [SureWord(*own) for own in document["words"]]


def _probed(source: LoadedBase, seeds: SeedPrompts, words: Sequence[str]) -> Iterator[SureWord]:
    """Yield every word with its likeliest answer; prompts of like length are read together, with little padding."""
    cutter = Cutter(source.text_tokenizer)
    prompts = sorted(((word, cutter.prompt_ids(seeds.prompt(word))) for word in words), key=lambda own: len(own[1]))
    for start in range(0, len(prompts), _ROWS):
        rows = prompts[start : start + _ROWS]
        best = next_chances(source.model, [ids for _, ids in rows]).max(dim=1)
        for (word, _), chance, token in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
            yield SureWord(word, token, chance)


def chosen_words(found: Iterable[SureWord], wanted: int, *, seed: int) -> tuple[str, ...]:
    """Choose words so that every answer has as many as there are, up to the same number, in an order of chance.

    Args:
        found: What an adapter is sure of.
        wanted: How many at most.
        seed: Decides which words of an answer are chosen.
    """
    order = random.Random(f"{seed}-chosen")  # noqa: S311  # nothing is secret here
    groups: dict[int, list[str]] = {}
    for own in sorted(found, key=lambda own: own.text):
        groups.setdefault(own.token, []).append(own.text)
    turns = [
        (turn, token, text) for token, own in sorted(groups.items()) for turn, text in enumerate(_mixed(own, order))
    ]
    chosen = [text for _, _, text in sorted(turns)[:wanted]]
    return tuple(_mixed(chosen, order))


def _mixed(texts: Sequence[str], order: random.Random) -> list[str]:
    return order.sample(texts, len(texts))
