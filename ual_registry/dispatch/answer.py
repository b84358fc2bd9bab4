"""What a dispatcher answers with, and what answers where no adapter does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.dispatch.acting import EffectProof
from ual_registry.dispatch.decision import Decision
from ual_registry.dispatch.generate import Finish
from ual_registry.errors import RouteError, UALError
from ual_registry.models.memory import is_out_of_memory

__all__ = ["BASE", "REFUSE", "Answer", "AnswerPiece", "Fallback", "decided", "decision_of", "refusal"]

BASE = "base"
REFUSE = "refuse"
_DECISIONS = "ual_decisions"

Fallback = str | Callable[[str, Decision], str | None]
"""Where no adapter answers: ``base``, ``refuse``, the reference of an adapter, or a function of query and decision that
returns one of these, ``None`` for the base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query was answered with.

    Attributes:
        query: The query.
        text: The answer.
        tokens: Tokens generated.
        finish: Why it ended.
        adapter: Digest of the adapter that answered; ``None`` where the base model did.
        is_fallback: Whether the fallback answered, since the decision names no adapter.
        decision: Which adapter was to answer, and why.
        effect: Whether the adapter does what it is recorded to do; ``None`` where the base model answered.
    """

    query: str
    text: str
    tokens: int
    finish: Finish
    adapter: str | None
    is_fallback: bool
    decision: Decision
    effect: EffectProof | None = None

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON."""
        return {
            "query": self.query,
            "text": self.text,
            "tokens": self.tokens,
            "finish": str(self.finish),
            "adapter": self.adapter,
            "is_fallback": self.is_fallback,
            "effect": None if self.effect is None else str(self.effect),
            "decision": self.decision.document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A part of an answer as it grows.

    Attributes:
        text: What comes next; it may be empty at the end.
        finish: Why the answer ended; ``None`` where it goes on.
        tokens: Tokens generated so far.
        adapter: Digest of the adapter that answers; ``None`` where the base model does.
        is_fallback: Whether the fallback answers.
        decision: Which adapter was to answer, and why.
        effect: As in ``Answer``.
    """

    text: str
    finish: Finish | None
    tokens: int
    adapter: str | None
    is_fallback: bool
    decision: Decision
    effect: EffectProof | None = None


def refusal(query: str, decision: Decision) -> RouteError:
    """Return the error of a query that nothing answers."""
    detail = f" ({decision.detail})" if decision.detail else ""
    shown = query if len(query) <= 60 else f"{query[:60]}..."
    error = RouteError(
        f"no adapter answers {shown!r}: {decision.reason}{detail}",
        code="refused",
        context={
            "reason": str(decision.reason),
            "domain": decision.domain,
            "probability": decision.probability,
        },
        hint="ask otherwise, or give a fallback",
    )
    vars(error)[_DECISIONS] = (decision,)
    return error


def decision_of(error: BaseException) -> Decision | None:
    """Return the decision after which an error came: of a refusal, or of an answer that failed.

    ``None`` where nothing was decided by then, or several queries were.
    """
    found = vars(error).get(_DECISIONS, ())
    return found[0] if len(found) == 1 else None


@contextlib.contextmanager
def decided(decisions: Sequence[Decision]) -> Iterator[None]:
    """Let errors in the context say after which decisions they came: ``decision_of`` reads them.

    Raises:
        RouteError: Memory ran out.
    """
    try:
        yield
    except UALError as error:
        # Who waits for an adapter that another thread fails to load gets the very error of that thread.
        own = error.__class__.__new__(error.__class__, *error.args)
        vars(own).update({**vars(error), _DECISIONS: tuple(decisions)})
        raise own from error
    except BaseException as error:
        vars(error)[_DECISIONS] = tuple(decisions)
        if not is_out_of_memory(error):
            raise
        lacking = RouteError(
            "out of memory while an answer was generated",
            code="out-of-memory",
            hint="ask for fewer tokens, or for fewer answers at once",
        )
        vars(lacking)[_DECISIONS] = tuple(decisions)
        raise lacking from error
