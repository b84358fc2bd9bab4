"""How much of a budget a distillation spends on what: texts, and training. Nothing here loads a framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ual_registry.distillation.recipe import Recipe

__all__ = ["DEFAULT_TEXTS", "recipe_for", "texts_within", "within"]

DEFAULT_TEXTS = 2000
"""How many texts are generated where nobody says; to generate and score one costs about as much as to train on it."""

_PASSES = 2
"""How often a text is trained on where the recipe is not given; see ADR 0018."""

_FEWEST_STEPS, _MOST_STEPS = 60, 600

_STEP_CHARACTERS, _FEWEST_TEXTS_OF_STEP, _MOST_TEXTS_OF_STEP = 4000, 4, 16
"""How much text one step reads where the recipe is not given: many short texts, or a few long ones."""

_LOOKS, _HELD_OUT_TEXTS, _MOST_HELD_OUT = 10, 100, 0.1
"""Looks at the held-out texts where the recipe is not given, and how many these are: looking costs time as well."""

_TEXT_SHARE, _TRAINING_SHARE = 0.3, 0.55
"""Shares of a budget: for generating, and for training all starts. Scores and the warm start take the rest."""

_FEWEST_TEXTS = 32


def texts_within(budget_s: float, text_s: float) -> int:
    """Return how many texts to generate.

    Args:
        budget_s: Seconds for all.
        text_s: Seconds that one text takes.
    """
    return min(DEFAULT_TEXTS, max(_FEWEST_TEXTS, math.floor(_TEXT_SHARE * budget_s / text_s)))


def recipe_for(lengths: Sequence[int], *, seed: int) -> Recipe:
    """Return how to train where nobody says.

    Args:
        lengths: Characters of each text.
        seed: Seeds the training.
    """
    mean = sum(lengths) / len(lengths)
    size = min(_MOST_TEXTS_OF_STEP, max(_FEWEST_TEXTS_OF_STEP, round(_STEP_CHARACTERS / mean)))
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, math.ceil(_PASSES * len(lengths) / size)))
    return Recipe(
        batch_size=size,
        steps=steps,
        evaluate_every=math.ceil(steps / _LOOKS),
        held_out_share=min(_MOST_HELD_OUT, _HELD_OUT_TEXTS / len(lengths)),
        is_soft=True,
        seed=seed,
    )


def within(recipe: Recipe, budget_s: float, *, starts: int) -> Recipe:
    """Give every start the same share of a budget; a recipe that has a shorter one keeps that.

    Args:
        recipe: How to train.
        budget_s: Seconds for all.
        starts: How many are trained.
    """
    seconds = _TRAINING_SHARE * budget_s / starts
    return replace(recipe, seconds=seconds if recipe.seconds is None else min(seconds, recipe.seconds))
