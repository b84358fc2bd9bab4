"""What the source says of the generated texts: how likely each piece is, and what else could stand in its place.

They are computed once, kept as safetensors in shards, and serve every target and every tokenizer. An interrupted run
goes on after the last whole shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ual_registry.air.adapter import Adapter
from ual_registry.air.canonical import canonical_bytes
from ual_registry.distillation.chunks import chunk_sums, scored_pieces
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.pieces import Cutter, Pieces
from ual_registry.distillation.texts import Text, texts_digest
from ual_registry.errors import FormatError
from ual_registry.models.attach import attach
from ual_registry.models.positions import position_limit
from ual_registry.storage import atomic_file, read_file

__all__ = ["LIKELIEST", "TextScores", "score_texts"]

LIKELIEST = 16
"""How many of the likeliest tokens are kept in every place."""

_FORM = "ual-registry/teacher-scores/2"
_INDEX = "scores.json"
_SHARD_TEXTS = 32
_BATCH_TEXTS, _BATCH_TEXTS_ELSEWHERE = 8, 32
"""How many texts are scored at once on a CPU, and on a device that is slow to start."""

_MAX_SHARD_BYTES = 1 << 30
_PARTS = ("ends", "adapted", "plain", "tokens", "logs")


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """What the source says of one text.

    Attributes:
        start: Character offset at which the first scored piece begins.
        ends: Character offset at which each scored piece ends, int64, shape (pieces,).
        adapted: Log-probability of each piece with the adapter, float32, shape (pieces,), in nats.
        plain: The same without the adapter; as ``adapted`` where that was not asked for.
        tokens: What could stand first in each piece with the adapter, the likeliest ids of the source, int32, shape
            (pieces, k).
        logs: Their log-probabilities, float32, shape (pieces, k).
    """

    start: int
    ends: torch.Tensor
    adapted: torch.Tensor
    plain: torch.Tensor
    tokens: torch.Tensor
    logs: torch.Tensor


def score_texts(
    model: Any,
    tokenizer: Any,
    adapter: Adapter,
    texts: Sequence[Text],
    *,
    material: Mapping[str, Any],
    folder: Path | None = None,
    is_plain_needed: bool = True,
    count: int = LIKELIEST,
) -> tuple[TextScores, ...]:
    """Score texts under the source, with its adapter and without.

    Args:
        model: The source base model.
        tokenizer: Its fast tokenizer.
        adapter: The source adapter.
        texts: The texts.
        material: What the scores depend on beside texts and tokenizer: digests of model and adapter.
        folder: Where scores are kept; nowhere where absent.
        is_plain_needed: Whether to score without the adapter too, which takes as long again; see
            ``recipe.Recipe.needs_plain``.
        count: How many of the likeliest tokens are kept in every place.

    Raises:
        FormatError: The folder holds the scores of other material, or a shard was changed.
        StorageError: The file system refuses.
        UALError: The adapter cannot be attached to the model.
    """
    cutter = Cutter(tokenizer)
    if folder is not None:
        part = {"likeliest": count} | ({} if is_plain_needed else {"part": "adapted"})
        _open(folder, {**material, **part, "texts": str(texts_digest(texts)), "tokenizer": str(cutter.digest)})
    found: list[TextScores] = []
    for number, start in enumerate(range(0, len(texts), _SHARD_TEXTS)):
        shard = texts[start : start + _SHARD_TEXTS]
        path = None if folder is None else folder / f"scores-{number:05}.safetensors"
        if path is not None and path.exists():
            found.extend(_read(path, len(shard)))
            continue
        limit = position_limit(model)
        pieces = [cutter.cut(text.prompt, text.completion).within(limit) for text in shard]
        scores = _score(model, adapter, pieces, count, is_plain_needed=is_plain_needed)
        if path is not None:
            _write(path, scores)
        found.extend(scores)
    return tuple(found)


def _score(
    model: Any, adapter: Adapter, texts: Sequence[Pieces], count: int, *, is_plain_needed: bool
) -> list[TextScores]:
    with torch.no_grad():
        with attach(model, adapter):
            adapted = _token_scores(model, texts, count)
        plain = _token_scores(model, texts, 1) if is_plain_needed else adapted
    found = []
    for pieces, (own, tokens, logs), (base, _, _) in zip(texts, adapted, plain, strict=True):
        start, scored = scored_pieces(pieces)
        spans = [(first - pieces.first, after - pieces.first) for first, after, _ in scored]
        ends = torch.tensor([end for _, _, end in scored], dtype=torch.long)
        first = [begin for begin, _ in spans]
        found.append(
            TextScores(start, ends, chunk_sums(own, spans), chunk_sums(base, spans), tokens[first].int(), logs[first])
        )
    return found


def _token_scores(
    model: Any, texts: Sequence[Pieces], count: int
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Return the log-probabilities of all scored tokens of each text, and the likeliest in their places, on the CPU."""
    scorer = Scorer(model)
    found: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index].ids))  # little of a batch is padding
    size = _BATCH_TEXTS if next(model.parameters()).device.type == "cpu" else _BATCH_TEXTS_ELSEWHERE
    for start in range(0, len(texts), size):
        places = by_length[start : start + size]
        batch = [texts[index] for index in places]
        wanted = [range(pieces.first, len(pieces.ids)) for pieces in batch]
        scored = scorer.likeliest([pieces.ids for pieces in batch], wanted, count)
        found.update(zip(places, ((own.cpu(), tokens.cpu(), logs.cpu()) for own, tokens, logs in scored), strict=True))
    return [found[index] for index in range(len(texts))]


def _open(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or make sure that it holds scores of the same material."""
    folder.mkdir(parents=True, exist_ok=True)
    index, data = folder / _INDEX, canonical_bytes({"form": _FORM, **settings})
    if not index.exists():
        with atomic_file(index, durable=True) as stream:
            stream.write(data)
    elif read_file(index, limit_bytes=1 << 20) != data:
        raise _refusal(index, "the scores are those of other texts, models or adapters")


def _write(path: Path, scores: Sequence[TextScores]) -> None:
    tensors = {name: torch.cat([getattr(text, name) for text in scores]) for name in _PARTS}
    tensors["starts"] = torch.tensor([text.start for text in scores], dtype=torch.long)
    tensors["pieces"] = torch.tensor([len(text.ends) for text in scores], dtype=torch.long)
    with atomic_file(path, durable=True) as stream:
        stream.write(save(tensors))


def _read(path: Path, texts: int) -> list[TextScores]:
    try:
        tensors = load(read_file(path, limit_bytes=_MAX_SHARD_BYTES))
        counts = tensors["pieces"].tolist()
        parts = [torch.split(tensors[name], counts) for name in _PARTS]
        starts = tensors["starts"].tolist()
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise _refusal(path, "is no shard of scores") from error
    if len(starts) != texts or len(counts) != texts:
        raise _refusal(path, f"holds the scores of {len(starts)} texts, expected {texts}")
    return [TextScores(start, *own) for start, *own in zip(starts, *parts, strict=True)]


def _refusal(path: Path, problem: str) -> FormatError:
    return FormatError(
        f"{path}: {problem}",
        code="teacher-scores",
        context={"path": str(path)},
        hint="remove the folder, or give another",
    )
