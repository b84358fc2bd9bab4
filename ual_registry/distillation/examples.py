"""Generated texts as the target is trained on them: its tokens, which of them count, and what the teacher said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ual_registry.distillation.chunks import chunk_sums, shared_chunks
from ual_registry.distillation.likelihoods import Scorer
from ual_registry.distillation.losses import contrastive_target
from ual_registry.distillation.pieces import Cutter
from ual_registry.distillation.recipe import Recipe
from ual_registry.distillation.scores import excess, sample_score, select_samples, select_tokens, spread
from ual_registry.distillation.soft_targets import SoftTargets, in_groups
from ual_registry.distillation.teacher import TextScores
from ual_registry.distillation.texts import Ended, Text
from ual_registry.errors import TrainingError
from ual_registry.models.positions import position_limit
from ual_registry.models.token_groups import TokenGroups

__all__ = ["Example", "Examples", "held_out_of", "make_examples"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Example:
    """One text for the target.

    Attributes:
        ids: Its token ids.
        wanted: Positions of the tokens whose log-probabilities the loss needs, ascending.
        selected: Which of them count in the likelihood, bool, shape (wanted,).
        spans: For each chunk its first token and the one after its last, as indices of ``wanted``.
        teacher: What each chunk's log-probability should be, float32, shape (chunks,).
        excess: What the source adapter added to it, float32, shape (chunks,).
        soft: What else the teacher could have said; ``None`` where that does not count.
    """

    ids: tuple[int, ...]
    wanted: tuple[int, ...]
    selected: torch.Tensor
    spans: tuple[tuple[int, int], ...]
    teacher: torch.Tensor
    excess: torch.Tensor
    soft: SoftTargets | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Texts to train on, and texts that are held out."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def held_out_of(texts: Iterable[Text], share: float) -> frozenset[str]:
    """Return the digests of the texts that are held out: a share of the different ones, at least one, never all.

    They follow from the digests alone, so that whatever is fitted to the others can leave them out beforehand.

    Args:
        texts: The texts.
        share: Which share of them.
    """
    names = sorted({str(text.digest) for text in texts})
    return frozenset(names[: min(max(1, round(share * len(names))), len(names) - 1)])


def make_examples(
    model: Any,
    tokenizer: Any,
    texts: Sequence[Text],
    scores: Sequence[TextScores],
    recipe: Recipe,
    *,
    groups: TokenGroups | None = None,
) -> Examples:
    """Choose texts and tokens, and put the teacher's numbers where the target can use them.

    Which texts are held out follows from their digests: not from their order, and the same text is on one side only.

    Args:
        model: The target base model, without an adapter; it is run where the recipe is contrastive.
        tokenizer: Its fast tokenizer.
        texts: The texts.
        scores: What the source says of each.
        recipe: Which shares are used.
        groups: The groups of both models' tokens, for soft targets.

    Raises:
        TrainingError: Fewer than two different texts are left.
    """
    cutter, end = Cutter(tokenizer), tokenizer.eos_token_id
    ranked = select_samples([sample_score(excess(own.adapted, own.plain)) for own in scores], recipe.sample_share)
    shared = groups if recipe.is_soft and groups is not None and len(groups) else None
    recipe = replace(recipe, max_length=min(recipe.max_length, position_limit(model) or recipe.max_length))
    made = [
        (str(texts[index].digest), _example(texts[index], scores[index], cutter, end, recipe, shared))
        for index in ranked
    ]
    usable = sorted((own for own in made if own[1].selected.any()), key=lambda own: own[0])
    names = list(dict.fromkeys(name for name, _ in usable))
    if len(names) < 2:
        raise TrainingError(
            f"{len(names)} of {len(texts)} texts can be trained on, expected 2 or more that differ",
            code="too-few-texts",
            hint="generate more texts, or relax the rules by which they are kept",
        )
    held_out = held_out_of(texts, recipe.held_out_share)
    if not 0 < len(held_out.intersection(names)) < len(names):  # what cannot be trained on was all of one side
        held_out = frozenset(names[:1])
    examples = [own for _, own in usable]
    if recipe.is_contrastive and recipe.alm_weight:
        examples = _contrasted(model, examples, recipe)
    pairs = [(name in held_out, own) for (name, _), own in zip(usable, examples, strict=True)]
    return Examples(
        train=tuple(own for is_held, own in pairs if not is_held),
        held_out=tuple(own for is_held, own in pairs if is_held),
    )


def _example(  # noqa: PLR0917  # what make_examples is given, for one text
    text: Text, scores: TextScores, cutter: Cutter, end: int | None, recipe: Recipe, groups: TokenGroups | None
) -> Example:
    pieces = cutter.cut(text.prompt, text.completion)
    chunks = shared_chunks(scores.start, scores.ends.tolist(), pieces)
    difference = excess(scores.adapted, scores.plain)
    limit = min(len(pieces.ids), recipe.max_length)
    value = spread(difference, chunks.source, chunks.target, len(pieces.ids))[:limit]
    selected = select_tokens(value, recipe.token_share)
    kept = [index for index, (_, after) in enumerate(chunks.target) if after <= limit]
    ids = pieces.ids[:limit]
    if text.ended is Ended.END and end is not None and len(pieces.ids) < recipe.max_length:
        ids, selected = (*ids, end), torch.cat((selected, selected.new_ones(1)))
    example = Example(
        ids=ids,
        wanted=tuple(range(pieces.first, len(ids))),
        selected=selected[pieces.first :],
        spans=tuple((first - pieces.first, after - pieces.first) for first, after in (chunks.target[i] for i in kept)),
        teacher=chunk_sums(scores.adapted, chunks.source)[kept],
        excess=chunk_sums(difference, chunks.source)[kept],
    )
    if groups is not None:
        pieces_of = [chunks.source[index][0] for index in kept]
        return _with_soft(example, scores, pieces_of, groups)
    return example if recipe.alm_weight else _without_chunks(example)


def _with_soft(example: Example, scores: TextScores, pieces: Sequence[int], groups: TokenGroups) -> Example:
    """Put soft targets where chunks begin, if the token there counts; ``pieces`` are those of the source."""
    begun = [(first, piece) for (first, _), piece in zip(example.spans, pieces, strict=True) if example.selected[first]]
    places, own = torch.tensor(begun, dtype=torch.long).reshape(-1, 2).T
    named, chances = in_groups(scores.tokens[own], scores.logs[own], groups)
    soft = SoftTargets(places=places, groups=named, chances=chances)
    return replace(example, spans=(), teacher=example.teacher[:0], excess=example.excess[:0], soft=soft)


def _without_chunks(example: Example) -> Example:
    """Leave only what the likelihood needs: the selected tokens."""
    wanted = tuple(position for position, is_in in zip(example.wanted, example.selected.tolist(), strict=True) if is_in)
    nothing = example.teacher[:0]
    return replace(
        example,
        wanted=wanted,
        selected=example.selected[example.selected],
        spans=(),
        teacher=nothing,
        excess=nothing,
    )


def _contrasted(model: Any, examples: Sequence[Example], recipe: Recipe) -> list[Example]:
    scorer, found = Scorer(model), []
    with torch.no_grad():
        for start in range(0, len(examples), recipe.batch_size):
            batch = examples[start : start + recipe.batch_size]
            scored = scorer([own.ids for own in batch], [own.wanted for own in batch])
            for own, log_probs in zip(batch, scored, strict=True):
                base = chunk_sums(log_probs.cpu(), own.spans)
                found.append(replace(own, teacher=contrastive_target(base, own.excess)))
    return found
