"""What a server asks of whatever generates: a seam with a real form over a dispatcher, and a small one in tests."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ual_registry.dispatch.decision import Decision

__all__ = [
    "AUTO",
    "CacheFacts",
    "Engine",
    "Part",
    "Prompt",
    "Question",
    "ReadQuestion",
    "Reply",
    "Sampling",
    "ServedModel",
]

AUTO = "auto"
"""The model whose queries are routed."""

Prompt = str | Sequence[Mapping[str, str]]
"""A text, or the messages of a chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a text is generated.

    Attributes:
        max_tokens: Tokens at most.
        temperature: 0 takes the likeliest token each time.
        top_p: Share (0..1) of the probability that is drawn from.
        seed: Seeds what is drawn.
        stop: Texts that end it and are left out of it.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a client asks.

    Attributes:
        model: The model that it named; ``auto`` is routed.
        query: What is routed.
        prompt: What the model goes on with.
        is_plain: Whether the prompt is given as it is, without a chat template.
        sampling: How to generate.
    """

    model: str
    query: str
    prompt: Prompt
    is_plain: bool
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadQuestion:
    """A question whose prompt was made tokens.

    Attributes:
        question: The question.
        tokens: Tokens of its prompt.
        ids: The tokens, where the engine goes on from them.
    """

    question: Question
    tokens: int
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer as it grows.

    Attributes:
        text: What comes next; it may be empty at the end.
        tokens: Tokens generated so far.
        finish: ``stop`` or ``length`` where the answer ends here.
    """

    text: str
    tokens: int
    finish: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that has begun.

    Attributes:
        decision: Which adapter was to answer, and why.
        adapter: Digest or name of what answers; ``None`` where the base model does.
        is_fallback: Whether the fallback answers.
        parts: The parts, computed as they are asked for; closing it ends the generation.
    """

    decision: Decision
    adapter: str | None
    is_fallback: bool
    parts: Generator[Part, None, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A name that a client can ask for.

    Attributes:
        id: The name.
        created_s: When it was made, seconds since 1970; 0 where that is not known.
        root: Digest of the adapter, where it is one.
        parent: Label of the base model, where it is an adapter.
    """

    id: str
    created_s: int = 0
    root: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFacts:
    """What the cache of adapters holds and did.

    Attributes:
        hits: Times that an adapter was there.
        misses: Times that it was not.
        adapters: Adapters held.
        size_bytes: Memory of their factors.
    """

    hits: int = 0
    misses: int = 0
    adapters: int = 0
    size_bytes: int = 0


class Engine(Protocol):
    """Generates answers; threads share it."""

    def models(self) -> list[ServedModel]:
        """Return what a client can name."""
        ...

    def model(self, name: str) -> ServedModel | None:
        """Return what a client named; ``None`` where that is nothing here."""
        ...

    def read(self, question: Question) -> ReadQuestion:
        """Make a question's prompt tokens.

        Raises:
            UALError: The prompt is empty or longer than the model can read.
        """
        ...

    def stream(self, read: ReadQuestion) -> Reply:
        """Choose who answers a question, and begin the answer.

        Raises:
            HttpError: There is no such model.
            UALError: The question is refused, or its adapter cannot be used.
        """
        ...

    def cache(self) -> CacheFacts:
        """Return what the cache of adapters holds and did."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...
