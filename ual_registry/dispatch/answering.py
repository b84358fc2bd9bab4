"""Answers what was chosen: adapters are loaded and kept, rows batched, and texts generated, whole or piece by piece."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial

from ual_registry.air.model import BaseModel
from ual_registry.dispatch.acting import AdapterLoader, EffectProof, LoadedAdapter
from ual_registry.dispatch.adapter_cache import AdapterCache
from ual_registry.dispatch.answer import Answer, AnswerPiece, decided
from ual_registry.dispatch.choice import Choice
from ual_registry.dispatch.generate import Generator, Row, Settings
from ual_registry.dispatch.sources import AdapterSource
from ual_registry.errors import RouteError
from ual_registry.models.loaded import LoadedBase

__all__ = ["Answerer"]

_MOST_ROWS = 32

Tokens = tuple[int, ...]


class Answerer:
    """Answers with one base model, each query with the adapter that was chosen; threads may share it.

    Args:
        base: The base model; without one nothing is answered.
        source: Where adapters are.
        cache_bytes: Memory that adapters may take.
        compared: What recorded effects of adapters must have been measured on; ``None`` compares none.

    Attributes:
        cache: The adapters in memory.

    Raises:
        RouteError: The base model does not generate text.
    """

    def __init__(
        self, base: LoadedBase | None, source: AdapterSource, cache_bytes: int, compared: BaseModel | None
    ) -> None:
        self._source = source
        self._generator = None if base is None else Generator(base)
        self._loader = None if self._generator is None else AdapterLoader(self._generator.model, compared)
        self.cache = AdapterCache(cache_bytes)

    @property
    def generator(self) -> Generator:
        """What generates.

        Raises:
            RouteError: There is no base model.
        """
        if self._generator is None:
            raise RouteError("there is no base model to generate with", code="generation", hint="give base=FOLDER")
        return self._generator

    def answers(
        self, queries: Sequence[str], rows: Sequence[Tokens], choices: Sequence[Choice], settings: Sequence[Settings]
    ) -> list[Answer]:
        """Answer several queries in mixed batches, in their order.

        Args:
            queries: The queries.
            rows: What the model goes on from, for every query.
            choices: What answers every query.
            settings: How to generate, for every query.

        Raises:
            UALError: An adapter cannot be read or does not act; ``answer.decision_of`` tells the decision.
        """
        found: dict[int, Answer] = {}
        # Rows of one adapter lie side by side, short prompts among short ones: few adapters and little padding a batch.
        order = sorted(range(len(queries)), key=lambda place: (choices[place].adapter or "", len(rows[place])))
        for start in range(0, len(order), _MOST_ROWS):
            places = order[start : start + _MOST_ROWS]
            chosen = [choices[place] for place in places]
            with decided([own.decision for own in chosen]), self._held(chosen) as loaded:
                batch = [
                    Row(rows[place], own.updates if own else None, settings[place])
                    for place, own in zip(places, loaded, strict=True)
                ]
                made = self.generator.generate(batch)
            for place, own, text in zip(places, loaded, made, strict=True):
                found[place] = Answer(
                    query=queries[place],
                    text=text.text,
                    tokens=text.tokens,
                    finish=text.finish,
                    adapter=choices[place].adapter,
                    is_fallback=choices[place].is_fallback,
                    decision=choices[place].decision,
                    effect=_effect(own),
                )
        return [found[place] for place in range(len(queries))]

    def pieces(self, row: Tokens, choice: Choice, settings: Settings) -> Iterator[AnswerPiece]:
        """Answer piece by piece; the adapter is loaded before this returns, so that what is wrong with it is told now.

        Raises:
            UALError: As ``answers``.
        """
        with decided([choice.decision]), self._held([choice]) as (loaded,):
            return self._pieces(Row(row, loaded.updates if loaded else None, settings), choice, loaded)

    def preload(self, digest: str) -> Future[None]:
        """Load an adapter in the background."""
        return self.cache.preload(digest, partial(self._load, digest))

    def close(self) -> None:
        """Let all adapters go, and take the hooks off the base model; what is being generated ends with an error."""
        self.cache.close()
        if self._generator is not None:
            self._generator.model.close()

    @contextlib.contextmanager
    def _held(self, choices: Sequence[Choice]) -> Iterator[list[LoadedAdapter | None]]:
        """Give the adapters of a batch, and keep them for as long as it runs."""
        digests = [own.adapter for own in choices]
        with contextlib.ExitStack() as stack:
            found = {
                digest: stack.enter_context(self.cache.hold(digest, partial(self._load, digest)))
                for digest in dict.fromkeys(digests)
                if digest is not None
            }
            yield [None if digest is None else found[digest] for digest in digests]

    def _pieces(self, row: Row, choice: Choice, loaded: LoadedAdapter | None) -> Iterator[AnswerPiece]:
        kept = self.cache.keep(loaded.digest, loaded) if loaded else contextlib.nullcontext()
        with decided([choice.decision]), kept:
            for piece in self.generator.stream([row]):
                yield AnswerPiece(
                    text=piece.text,
                    finish=piece.finish,
                    tokens=piece.tokens,
                    adapter=choice.adapter,
                    is_fallback=choice.is_fallback,
                    decision=choice.decision,
                    effect=_effect(loaded),
                )

    def _load(self, digest: str) -> LoadedAdapter:
        self.generator  # noqa: B018  # raises where there is no base model
        assert self._loader is not None  # made with the generator
        with self._source.open(digest) as adapter:
            return self._loader.load(adapter, digest)


def _effect(loaded: LoadedAdapter | None) -> EffectProof | None:
    return None if loaded is None else loaded.effect
