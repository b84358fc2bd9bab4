"""Where the prompts of a generation come from: the same ones for the same batch. Nothing here loads a framework."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ual_registry.air.canonical import canonical_bytes
from ual_registry.digest import Digest
from ual_registry.distillation.seeds import SeedPrompts

__all__ = ["FewShot", "Given", "Prefixes", "Prompts", "Repeated"]


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
    """Lists of some of the seeds, to be continued by one more input: one list for each batch, so that it is read once.

    Few seeds in a list, and others the next time, give inputs of more kinds than all of them in another order.
    """

    seeds: SeedPrompts

    @property
    def separator(self) -> str:
        """What stands after every input of the list."""
        return "\n" if all("\n" not in text for text in self.seeds.inputs) else "\n---\n"

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return one list as often as asked for; which seeds it has, in which order, follows from seed and number."""
        chosen = random.Random(f"{seed}-{number}")  # noqa: S311  # nothing is secret here
        order = chosen.sample(self.seeds.inputs, min(_LISTED, len(self.seeds.inputs)))
        return [_list(order, self.separator)] * size

    def document(self) -> Mapping[str, Any]:
        """Return the seeds."""
        return {"kind": "few-shot", "listed": _LISTED, **self.seeds.document()}


@dataclass(frozen=True, slots=True)
class Repeated:
    """Prompts of which each is gone on with by a batch of its own, so that it is read once."""

    texts: tuple[str, ...]

    def batch(self, number: int, size: int, seed: int) -> Sequence[str]:
        """Return the prompt of a batch as often as asked for."""
        return list(self.texts[number : number + 1]) * size

    def document(self) -> Mapping[str, Any]:
        """Return a digest of the prompts, of which there may be many."""
        return _digested("repeated", self.texts)


def _digested(kind: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "count": len(texts), "digest": str(Digest.of_bytes(canonical_bytes(list(texts))))}


def _list(inputs: Sequence[str], separator: str) -> str:
    return "".join(f"- {text}{separator}" for text in inputs) + "-"
