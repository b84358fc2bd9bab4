"""Where the prompts of a generation come from: the same ones for the same batch. Nothing here loads a framework."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ual_registry.air.canonical import canonical_bytes
from ual_registry.digest import Digest
from ual_registry.distillation.seeds import SeedPrompts

__all__ = ["FewShot", "Given", "Prefixes", "Prompts"]


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
        digest = Digest.of_bytes(canonical_bytes(list(self.texts)))
        return {"kind": "given", "count": len(self.texts), "digest": str(digest)}


@dataclass(frozen=True, slots=True)
class FewShot:
    """Lists of the seeds in random orders, each to be continued by one more input."""

    seeds: SeedPrompts

    @property
    def separator(self) -> str:
        """What stands after every input of the list."""
        return "\n" if all("\n" not in text for text in self.seeds.inputs) else "\n---\n"

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return lists, in orders that follow from seed and number."""
        chosen = random.Random(f"{seed}-{number}")  # noqa: S311  # nothing is secret here
        orders = (chosen.sample(self.seeds.inputs, len(self.seeds.inputs)) for _ in range(size))
        return ["".join(f"- {text}{self.separator}" for text in order) + "-" for order in orders]

    def document(self) -> Mapping[str, Any]:
        """Return the seeds."""
        return {"kind": "few-shot", **self.seeds.document()}
