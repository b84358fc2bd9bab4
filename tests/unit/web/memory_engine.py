"""An engine in memory: every adapter says one letter, over and over, and aliases move between calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field

from ual_registry.dispatch.answer import refusal
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.errors import DigestMismatchError, RouteError
from ual_registry.web.engine import AUTO, CacheFacts, Part, Question, ReadQuestion, Reply, ServedModel
from ual_registry.web.failure import unknown_model

LONGEST_PROMPT = 2000


@dataclass
class MemoryEngine:
    """Words are tokens; queries that begin with a domain's name belong to it.

    Attributes:
        aliases: What each name says, by name.
        domains: The name of each domain's adapter.
        pause_s: Time that a token takes.
        fallback_is_refused: Whether what no domain takes is refused.
        breaks_at: The token at which the generation breaks, if any.
        begun: Questions that began.
        ended: Answers that ended, early or not.
        written: Tokens generated in all.
        queries: Queries that were asked.
    """

    aliases: dict[str, str] = field(default_factory=lambda: {"bank@live": "B", "trip@live": "T", "trip": "T"})
    domains: dict[str, str] = field(default_factory=lambda: {"banking": "bank@live", "travel": "trip@live"})
    pause_s: float = 0.0
    fallback_is_refused: bool = False
    breaks_at: int | None = None
    begun: int = 0
    ended: int = 0
    written: int = 0
    queries: list[str] = field(default_factory=list)
    is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def models(self) -> list[ServedModel]:
        return [
            ServedModel(id=AUTO),
            *(ServedModel(id=name, root=f"sha256:{own}") for name, own in self.aliases.items()),
        ]

    def model(self, name: str) -> ServedModel | None:
        return next((model for model in self.models() if model.id == name), None)

    def read(self, question: Question) -> ReadQuestion:
        prompt = question.prompt
        words = prompt if isinstance(prompt, str) else " ".join(message["content"] for message in prompt)
        found = len(words.split())
        if found > LONGEST_PROMPT:
            raise RouteError(f"the prompt has {found} tokens", code="too-long")
        return ReadQuestion(question=question, tokens=found)

    def stream(self, read: ReadQuestion) -> Reply:
        question = read.question
        self.queries.append(question.query)
        decision = self._decision(question)
        if question.query.endswith("corrupt"):
            raise DigestMismatchError("/secret/place.air: has another digest")
        if question.query.endswith("bug"):
            raise ZeroDivisionError("secret")
        with self._lock:
            self.begun += 1
        return Reply(
            decision=decision,
            adapter=decision.adapter,
            is_fallback=decision.adapter is None,
            parts=self._parts((decision.adapter or "-")[-1], question.sampling.max_tokens),
        )

    def cache(self) -> CacheFacts:
        return CacheFacts(hits=3, misses=1, adapters=2, size_bytes=10)

    def close(self) -> None:
        self.is_closed = True

    def _decision(self, question: Question) -> Decision:
        if question.model != AUTO:
            if question.model not in self.aliases:
                raise unknown_model(question.model)
            return Decision(reason=Reason.FORCED, domain=None, adapter=f"sha256:{self.aliases[question.model]}")
        domain = question.query.split(maxsplit=1)[0]
        if domain not in self.domains:
            odd = Decision(reason=Reason.OUT_OF_SCOPE, domain="banking", adapter=None, probability=0.5)
            if self.fallback_is_refused:
                raise refusal(question.query, odd)
            return odd
        letter = self.aliases[self.domains[domain]]
        return Decision(reason=Reason.OK, domain=domain, adapter=f"sha256:{letter}", probability=0.98765)

    def _parts(self, letter: str, count: int) -> Generator[Part, None, None]:
        try:
            for number in range(1, count + 1):
                if number == self.breaks_at:
                    raise ZeroDivisionError("secret")
                time.sleep(self.pause_s)
                with self._lock:
                    self.written += 1
                yield Part(letter, number, "length" if number == count else None)
        finally:
            with self._lock:
                self.ended += 1
