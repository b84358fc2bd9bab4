"""What a dispatcher answers with, and what answers where no adapter does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.generate import Finish
from ual_registry.errors import RouteError

__all__ = ["BASE", "REFUSE", "Answer", "AnswerPiece", "Fallback", "refusal", "refused_decision"]

BASE = "base"
REFUSE = "refuse"

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
    """

    query: str
    text: str
    tokens: int
    finish: Finish
    adapter: str | None
    is_fallback: bool
    decision: Decision

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON."""
        return {
            "query": self.query,
            "text": self.text,
            "tokens": self.tokens,
            "finish": str(self.finish),
            "adapter": self.adapter,
            "is_fallback": self.is_fallback,
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
    """

    text: str
    finish: Finish | None
    tokens: int
    adapter: str | None
    is_fallback: bool
    decision: Decision


def refusal(query: str, decision: Decision) -> RouteError:
    """Return the error of a query that nothing answers; ``refused_decision`` reads the decision from it."""
    detail = f" ({decision.detail})" if decision.detail else ""
    shown = query if len(query) <= 60 else f"{query[:60]}..."
    return RouteError(
        f"no adapter answers {shown!r}: {decision.reason}{detail}",
        code="refused",
        context={
            "reason": str(decision.reason),
            "domain": decision.domain,
            "probability": decision.probability,
        },
        hint="ask otherwise, or give a fallback",
    )


def refused_decision(error: BaseException) -> Decision | None:
    """Return the decision of a refusal, as far as the error tells it; ``None`` of another error."""
    if not isinstance(error, RouteError) or error.problem_code != "refused":
        return None
    context: dict[str, Any] = error.context
    return Decision(
        reason=Reason(context["reason"]),
        domain=context["domain"],
        adapter=None,
        probability=context["probability"],
    )
