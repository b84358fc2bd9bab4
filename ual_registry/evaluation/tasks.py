"""The tasks: what is asked of a model, and the numbers that it gets for each item.

Every task has a loss-like metric, which is finer than the share of hits and chooses the dose, and perhaps a share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ual_registry.errors import TransferError
from ual_registry.evaluation.items import (
    DataFile,
    Document,
    ExactItem,
    LabelItem,
    read_documents,
    read_exact,
    read_labels,
)
from ual_registry.evaluation.likelihood import answer_scores, context_limit, greedy, token_scores
from ual_registry.evaluation.prompts import Question, label_order, no_tokens, question, start_ids
from ual_registry.evaluation.series import Series

__all__ = ["TASKS", "BitsPerByte", "ExactMatch", "LabelLikelihood", "LoadedModel", "Task", "windows"]


class LoadedModel(Protocol):
    """A causal model in evaluation mode, and its tokenizer."""

    @property
    def model(self) -> Any:
        """The model."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        ...


class Task(Protocol):
    """Something that a model can be measured on."""

    @property
    def name(self) -> str:
        """What users type."""
        ...

    @property
    def loss(self) -> str:
        """The metric that chooses the dose."""
        ...

    @property
    def is_plain(self) -> bool:
        """Whether prompts are given as they are, even where a base has a chat template."""
        ...

    def score(self, loaded: LoadedModel, items: Sequence[Any]) -> tuple[Series, ...]:
        """Return every metric of the task, the loss-like one first, one number for each item."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLikelihood:
    """Which label is likeliest after the prompt, and how likely the gold one is.

    Attributes:
        seed: Seeds the order of the labels.
        is_plain: Whether prompts are given as they are, even where a base has a chat template.
    """

    seed: int = 0
    is_plain: bool = False
    name: str = "labels"
    loss: str = "gold_nll"

    def score(self, loaded: LoadedModel, items: Sequence[LabelItem]) -> tuple[Series, ...]:
        """Return ``gold_nll`` (nats, summed over the label's tokens) and ``accuracy``.

        Of labels that are equally likely the first in the item's order counts as the answer.
        """
        orders = [label_order(item, self.seed) for item in items]
        asked = [
            self._question(loaded, item.prompt.replace("{labels}", ", ".join(order)), order)
            for item, order in zip(items, orders, strict=True)
        ]
        _check_lengths(loaded.model, items, asked)
        scores = answer_scores(loaded.model, asked)
        gold = [order.index(item.gold) for item, order in zip(items, orders, strict=True)]
        return (
            _series("gold_nll", [-own[place] for own, place in zip(scores, gold, strict=True)]),
            _share("accuracy", [own.index(max(own)) == place for own, place in zip(scores, gold, strict=True)]),
        )

    def _question(self, loaded: LoadedModel, prompt: str, order: Sequence[str]) -> Question:
        return question(loaded.tokenizer, prompt, order, is_plain=self.is_plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsPerByte:
    """How many bits a model needs for each byte of a document."""

    name: str = "bits-per-byte"
    loss: str = "bits_per_byte"
    is_plain: bool = True

    def score(self, loaded: LoadedModel, items: Sequence[Document]) -> tuple[Series, ...]:
        """Return ``bits_per_byte``; an item's value is its bits, its weight its bytes in UTF-8."""
        bits = [sum(-score for score in self.scores(loaded, item)) / math.log(2) for item in items]
        return (
            Series(
                metric="bits_per_byte",
                values=np.array(bits, dtype=np.float64),
                weights=np.array([len(item.text.encode()) for item in items], dtype=np.float64),
                is_better_high=False,
                is_share=False,
            ),
        )

    @staticmethod
    def scores(loaded: LoadedModel, item: Document) -> list[float]:
        """Return the log-likelihood of every token of a document, in nats."""
        return [score for window in windows(loaded, item) for score in token_scores(loaded.model, window)]


def windows(loaded: LoadedModel, item: Document) -> list[tuple[int, ...]]:
    """Cut a document into what the model takes at once; each window begins anew, after the token that begins a text.

    Raises:
        TransferError: The tokenizer has no token for it, or none that begins a text.
    """
    start = start_ids(loaded.tokenizer)
    ids = [int(token) for token in loaded.tokenizer(item.text, add_special_tokens=False)["input_ids"]]
    if not ids:
        raise no_tokens(loaded.tokenizer, item.text)
    step = context_limit(loaded.model) - len(start)
    return [(*start, *ids[first : first + step]) for first in range(0, len(ids), step)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactMatch:
    """Whether the greedy answer is a reference, and how likely the first reference is.

    Attributes:
        most: Tokens of an answer at most; by default what the longest reference needs, and 8 more.
        is_plain: Whether prompts are given as they are, even where a base has a chat template.
    """

    most: int | None = None
    is_plain: bool = False
    name: str = "exact"
    loss: str = "reference_nll"

    def score(self, loaded: LoadedModel, items: Sequence[ExactItem]) -> tuple[Series, ...]:
        """Return ``reference_nll`` (nats, summed over the tokens) and ``exact_match``.

        Texts are compared without the space around them and with one space for every run of it inside. Where no
        reference of an item has more than one line, only the first line of the answer counts.
        """
        asked = [question(loaded.tokenizer, item.prompt, item.references[:1], is_plain=self.is_plain) for item in items]
        _check_lengths(loaded.model, items, asked)
        scores = answer_scores(loaded.model, asked)
        return (
            _series("reference_nll", [-own[0] for own in scores]),
            _share("exact_match", self._hits(loaded, items)),
        )

    def _hits(self, loaded: LoadedModel, items: Sequence[ExactItem]) -> list[bool]:
        contexts = [question(loaded.tokenizer, item.prompt, (), is_plain=self.is_plain).context for item in items]
        most = self.most or 8 + max(
            len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
            for item in items
            for text in item.references
        )
        answers = greedy(loaded.model, contexts, most=most, ends=_ends(loaded))
        texts = [str(loaded.tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
        return [_is_hit(text, item) for text, item in zip(texts, items, strict=True)]


def _is_hit(text: str, item: ExactItem) -> bool:
    one_line = not any("\n" in reference.strip() for reference in item.references)
    found = text.strip().split("\n")[0] if one_line else text
    return " ".join(found.split()) in {" ".join(reference.split()) for reference in item.references}


def _ends(loaded: LoadedModel) -> frozenset[int]:
    """Return the tokens that end an answer, by the tokenizer and by the model's own configuration."""
    configured = getattr(getattr(loaded.model, "generation_config", None), "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*several, loaded.tokenizer.eos_token_id) if token is not None)


def _check_lengths(model: Any, items: Sequence[Any], asked: Sequence[Question]) -> None:
    limit = context_limit(model)
    for item, own in zip(items, asked, strict=True):
        length = len(own.context) + max(len(answer) for answer in own.answers)
        if length > limit:
            raise TransferError(
                f"item of line {item.line}: has {length} tokens, but the model takes {limit}",
                code="item-too-long",
                context={"line": item.line, "tokens": length},
                hint="shorten the prompt",
            )


def _series(metric: str, values: Sequence[float]) -> Series:
    return Series(
        metric=metric,
        values=np.array(values, dtype=np.float64),
        weights=np.ones(len(values)),
        is_better_high=False,
        is_share=False,
    )


def _share(metric: str, hits: Sequence[bool]) -> Series:
    return Series(
        metric=metric,
        values=np.array(hits, dtype=np.float64),
        weights=np.ones(len(hits)),
        is_better_high=True,
        is_share=True,
    )


TASKS: Mapping[str, tuple[Callable[[int, bool], Task], Callable[[Path], DataFile]]] = {
    "labels": (lambda seed, is_plain: LabelLikelihood(seed=seed, is_plain=is_plain), read_labels),
    "bits-per-byte": (lambda _seed, _is_plain: BitsPerByte(), read_documents),
    "exact": (lambda _seed, is_plain: ExactMatch(is_plain=is_plain), read_exact),
}
"""Every task by name: how it is made from a seed and the kind of prompts, and how its items are read."""
