"""Where the prompts of a generation come from: the same ones for the same batch. Nothing here loads a framework."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ual_registry.air.canonical import canonical_bytes
from ual_registry.digest import Digest
from ual_registry.distillation.seeds import SeedPrompts

__all__ = ["ROWS_OF_A_PROMPT", "FewShot", "Given", "Prefixes", "Prompts", "Repeated"]

ROWS_OF_A_PROMPT = 32
"""How many texts go on from one prompt; a larger batch has several prompts, and says as many different things."""

_LISTED = 3
"""How many seeds a list has."""


class Prompts(Protocol):
    """Where prompts come from."""

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return the prompts of a batch, always the same ones; fewer or none where they run out."""
        ...

    def document(self) -> Mapping[str, Any]:
        """Return what the prompts depend on, as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The same few prompts in turn, without end; by default the empty one: the model runs freely."""

    texts: tuple[str, ...] = ("",)

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return the next prompts in turn."""
        return [self.texts[index % len(self.texts)] for index in range(number * size, (number + 1) * size)]

    def document(self) -> Mapping[str, Any]:
        """Return the prompts."""
        return {"kind": "prefixes", "texts": list(self.texts)}


@dataclass(frozen=True, slots=True)
class Given:
    """Prompts that are used once each."""

    texts: tuple[str, ...]

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return the next prompts."""
        return self.texts[number * size : (number + 1) * size]

    def document(self) -> Mapping[str, Any]:
        """Return a digest of the prompts, of which there may be many."""
        return _digested("given", self.texts)


@dataclass(frozen=True, slots=True)
class FewShot:
    """Lists of some of the seeds, to be continued by one more input: one for a batch of few, so that it is read once.

    Few seeds in a list, and others the next time, give inputs of more kinds than all of them in another order.
    """

    seeds: SeedPrompts

    @property
    def separator(self) -> str:
        """What stands after every input of the list."""
        return "\n" if all("\n" not in text for text in self.seeds.inputs) else "\n---\n"

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return lists, each for up to 32 texts; which seeds they have, and their order, follows from the numbers."""
        chosen = random.Random(f"{seed}-{number}")  # noqa: S311  # nothing is secret here
        count = min(_LISTED, len(self.seeds.inputs))
        lists = [
            _list(chosen.sample(self.seeds.inputs, count), self.separator)
            for _ in range(math.ceil(size / ROWS_OF_A_PROMPT))
        ]
        return [lists[row // ROWS_OF_A_PROMPT] for row in range(size)]

    def document(self) -> Mapping[str, Any]:
        """Return the seeds."""
        return {"kind": "few-shot", "listed": _LISTED, **self.seeds.document()}


@dataclass(frozen=True, slots=True)
class Repeated:
    """Prompts of which each is gone on with by up to 32 texts; a batch of so few reads its prompt once."""

    texts: tuple[str, ...]

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return the next prompts, each as often as it is gone on with."""
        rows = min(size, ROWS_OF_A_PROMPT)
        count = size // rows
        return [text for text in self.texts[number * count : (number + 1) * count] for _ in range(rows)]

    def document(self) -> Mapping[str, Any]:
        """Return a digest of the prompts, of which there may be many."""
        return _digested("repeated", self.texts)


def _digested(kind: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "count": len(texts), "digest": str(Digest.of_bytes(canonical_bytes(list(texts))))}


def _list(inputs: Sequence[str], separator: str) -> str:
    return "".join(f"- {text}{separator}" for text in inputs) + "-"
