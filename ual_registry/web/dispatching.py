"""The engine over a dispatcher: every query is answered by the adapter of its domain, or by the one that was named."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from ual_registry.dispatch.answer import AnswerPiece
from ual_registry.dispatch.dispatcher import LoRADispatcher
from ual_registry.dispatch.generate import Finish, ReadPrompt, Settings
from ual_registry.errors import DigestMismatchError, FormatError, RegistryError, RegistryUnavailableError
from ual_registry.registry.reference import is_path
from ual_registry.registry.registry import Registry
from ual_registry.web.engine import AUTO, CacheFacts, Part, Question, ReadQuestion, Reply, ServedModel
from ual_registry.web.failure import HttpError, unknown_model
from ual_registry.web.listing import named_model, registered_models

__all__ = ["DispatchEngine"]


class DispatchEngine:
    """Answers with a dispatcher; threads share it.

    Args:
        dispatcher: The dispatcher; closed with the engine.
        registry: Its registry.
    """

    def __init__(self, dispatcher: LoRADispatcher, registry: Registry) -> None:
        self._dispatcher, self._registry = dispatcher, registry

    def models(self) -> list[ServedModel]:
        """Return ``auto`` where there is a router, and the adapters of the registry."""
        found = registered_models(self._registry)
        return found if self._dispatcher.router is None else [ServedModel(id=AUTO), *found]

    def model(self, name: str) -> ServedModel | None:
        """Return ``auto`` where there is a router, or the adapter of a reference."""
        if name == AUTO:
            return None if self._dispatcher.router is None else ServedModel(id=AUTO)
        return named_model(self._registry, name)

    def read(self, question: Question) -> ReadQuestion:
        """Make a question's prompt tokens.

        Raises:
            RouteError: The prompt is empty or too long.
        """
        found = self._dispatcher.read_prompt(question.prompt, is_plain=question.is_plain)
        return ReadQuestion(question=question, tokens=len(found.ids), ids=found.ids)

    def stream(self, read: ReadQuestion) -> Reply:
        """Choose who answers a question, and begin the answer.

        Raises:
            HttpError: There is no such model.
            UALError: As ``LoRADispatcher.stream``.
        """
        question = read.question
        named, own = self._named(question.model), question.sampling
        settings = Settings(
            max_tokens=own.max_tokens, temperature=own.temperature, top_p=own.top_p, seed=own.seed, stop=own.stop
        )
        try:
            pieces = self._dispatcher.stream(
                question.query, prompt=ReadPrompt(read.ids), adapter=named, settings=settings
            )
        except (RegistryUnavailableError, DigestMismatchError):
            raise
        except (RegistryError, FormatError) as error:
            if named is not None:
                raise unknown_model(question.model) from error
            raise
        first = next(iter(pieces))
        return Reply(
            decision=first.decision,
            adapter=first.adapter,
            is_fallback=first.is_fallback,
            parts=_parts(first, pieces),
        )

    def cache(self) -> CacheFacts:
        """Return what the cache of adapters holds and did."""
        found = self._dispatcher.cache_statistics()
        return CacheFacts(hits=found.hits, misses=found.misses, adapters=found.adapters, size_bytes=found.size_bytes)

    def close(self) -> None:
        """Close the dispatcher."""
        self._dispatcher.close()

    def _named(self, model: str) -> str | None:
        """Return the reference that a client named; a path means nothing to it, whatever lies there."""
        if model == AUTO:
            if self._dispatcher.router is None:
                raise HttpError(404, "model_not_found", "there is no router: name an adapter", param="model")
            return None
        if is_path(model):
            raise unknown_model(model)
        return model


def _parts(first: AnswerPiece, rest: Iterator[AnswerPiece]) -> Generator[Part, None, None]:
    try:
        yield _part(first)
        for piece in rest:
            yield _part(piece)
    finally:
        if isinstance(rest, Generator):
            rest.close()


def _part(piece: AnswerPiece) -> Part:
    if piece.finish is None:
        return Part(piece.text, piece.tokens)
    return Part(piece.text, piece.tokens, "length" if piece.finish is Finish.LENGTH else "stop")
