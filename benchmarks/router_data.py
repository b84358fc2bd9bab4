"""CLINC150 and BANKING77 as routers see them: examples to fit on, queries to choose limits on, queries to measure."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Data", "Split", "banking", "clinc", "drawn"]


@dataclass(frozen=True)
class Split:
    """Texts with their domains, which are absent where no domain should answer."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def without(self, label: str) -> Split:
        """Return what is not of a domain."""
        rows = [(text, own) for text, own in zip(self.texts, self.labels, strict=True) if own != label]
        return Split(tuple(text for text, _ in rows), tuple(own for _, own in rows))

    def at(self, places: Iterable[int]) -> Split:
        """Return what stands at some places."""
        own = [int(place) for place in places]
        return Split(tuple(self.texts[place] for place in own), tuple(self.labels[place] for place in own))

    def joined(self, other: Split) -> Split:
        """Return this split and another one behind it."""
        return Split(self.texts + other.texts, self.labels + other.labels)

    def only(self, label: str) -> Split:
        """Return the texts of a domain, as queries that no domain should answer."""
        return Split(tuple(text for text, own in zip(self.texts, self.labels, strict=True) if own == label))


@dataclass(frozen=True)
class Data:
    """What is fitted on, what peers choose limits on, and what is measured."""

    train: Split
    validation: Split
    test: Split
    foreign: Split = Split(())

    @property
    def names(self) -> list[str]:
        """The domains, sorted."""
        return sorted(set(self.train.labels))


def clinc(folder: Path, *, by_intent: bool) -> Data:
    """Read CLINC150, by intent or by its ten domains."""
    found = json.loads((folder / "clinc150" / "data_full.json").read_text())
    domains = json.loads((folder / "clinc150" / "domains.json").read_text())
    of_intent = {intent: domain for domain, own in domains.items() for intent in own}

    def split(name: str) -> Split:
        texts, intents = zip(*found[name], strict=True)
        return Split(texts, tuple(intent if by_intent else of_intent[intent] for intent in intents))

    foreign = Split(tuple(text for text, _ in found["oos_test"]))
    return Data(split("train"), split("val"), split("test"), foreign)


def banking(folder: Path, *, shots: int | None = None, seed: int = 0) -> Data:
    """Read BANKING77, which has no queries to choose limits on; ``shots`` draws so many examples of each intent."""

    def split(name: str) -> Split:
        with (folder / "banking77" / f"{name}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return Split(tuple(row["text"] for row in rows), tuple(row["category"] for row in rows))

    train = split("train")
    if shots is not None:
        train = train.at(drawn(train, shots, seed))
    return Data(train, Split(()), split("test"))


def drawn(split: Split, shots: int, seed: int) -> list[int]:
    """Return the places of so many examples of each domain, drawn at random."""
    chosen, labels = np.random.default_rng(seed), np.array(split.labels)
    own = [chosen.permutation(np.flatnonzero(labels == label))[:shots] for label in np.unique(labels)]
    return [int(place) for place in np.concatenate(own)]
