"""Answers in OpenAI's forms: whole documents, and the events of a stream."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ual_registry.dispatch.answer import BASE
from ual_registry.dispatch.decision import Decision
from ual_registry.web.engine import ServedModel
from ual_registry.web.questions import Order

__all__ = [
    "DONE",
    "JSON",
    "Form",
    "adapter_headers",
    "decision_headers",
    "event",
    "model_document",
    "models_document",
    "rendered",
]

JSON = "application/json"
DONE = b"data: [DONE]\n\n"
_encoded = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(slots=True, kw_only=True)
class Form:
    """The documents of one answer.

    Attributes:
        order: What was asked.
        prompt_tokens: Tokens of the prompt.
        id: Names the answer.
        created_s: When it was made, seconds since 1970.
    """

    order: Order
    prompt_tokens: int = 0
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created_s: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, tokens: int, finish: str | None) -> dict[str, Any]:
        """Return the document of a whole answer."""
        own = {"message": {"role": "assistant", "content": text}} if self.order.is_chat else {"text": text}
        choice = {"index": 0, **own, "logprobs": None, "finish_reason": finish}
        kind = "chat.completion" if self.order.is_chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self._usage(tokens)}

    def first(self) -> dict[str, Any] | None:
        """Return the first document of a stream, where its form has one before the text."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self.order.is_chat else None

    def piece(self, text: str, finish: str | None) -> dict[str, Any]:
        """Return the document of a part."""
        if not self.order.is_chat:
            return self._chunk({"text": text}, finish)
        return self._chunk({"delta": {"content": text} if text or finish is None else {}}, finish)

    def usage(self, tokens: int) -> dict[str, Any]:
        """Return the last document of a stream whose client asked what it used."""
        return {**self._head(self._kind()), "choices": [], "usage": self._usage(tokens)}

    def _chunk(self, own: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, **own, "logprobs": None, "finish_reason": finish}
        found = {**self._head(self._kind()), "choices": [choice]}
        return {**found, "usage": None} if self.order.has_usage else found

    def _kind(self) -> str:
        return "chat.completion.chunk" if self.order.is_chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        start = "chatcmpl" if self.order.is_chat else "cmpl"
        model = self.order.question.model
        return {"id": f"{start}-{self.id}", "object": kind, "created": self.created_s, "model": model}

    def _usage(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        }


def rendered(document: Mapping[str, Any]) -> bytes:
    """Return a document as the body of an answer."""
    return _encoded(document).encode()


def event(document: Mapping[str, Any]) -> bytes:
    """Return a document as an event of a stream."""
    return b"data: " + rendered(document) + b"\n\n"


def adapter_headers(adapter: str | None) -> dict[str, str]:
    """Return the headers that say who answers.

    Args:
        adapter: Digest or name of what answers; ``None`` for the base model.
    """
    return {"x-ual-adapter": quote(adapter or BASE, safe=":@._- ")}


def decision_headers(decision: Decision) -> dict[str, str]:
    """Return the headers that say why; a domain's name is percent-encoded where HTTP needs it."""
    found = {"x-ual-reason": str(decision.reason)}
    if decision.domain is not None:
        found["x-ual-domain"] = quote(decision.domain, safe=" !$&'()*+,-./:;=?@_~")
    if decision.probability is not None:
        found["x-ual-probability"] = f"{decision.probability:.4f}"
    return found


def model_document(model: ServedModel) -> dict[str, Any]:
    """Return a model as ``/v1/models/{model}`` tells it."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created_s,
        "owned_by": "ual",
        "root": model.root,
        "parent": model.parent,
    }


def models_document(models: list[ServedModel]) -> dict[str, Any]:
    """Return the list of models."""
    return {"object": "list", "data": [model_document(model) for model in models]}
