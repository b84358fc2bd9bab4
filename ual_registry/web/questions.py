"""Requests of OpenAI's interface, decoded once: what is not understood is refused, never left out in silence."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ual_registry.web.engine import Question, Sampling
from ual_registry.web.failure import HttpError
from ual_registry.web.limits import Limits

__all__ = ["Order", "parse_chat", "parse_completion", "query_of"]

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
}
"""Fields that change an answer in ways that are not offered, with the values that change nothing."""

_ROLES = ("system", "developer", "user", "assistant")
_MOST_STOPS = 4
_HIGHEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A question and the form that its answer is to have.

    Attributes:
        question: The question.
        is_chat: Whether it is one of a chat.
        is_streamed: Whether the answer comes part by part.
        has_usage: Whether a streamed answer ends with what it used.
    """

    question: Question
    is_chat: bool
    is_streamed: bool
    has_usage: bool


def parse_chat(body: Mapping[str, Any], limits: Limits) -> Order:
    """Return what a body of ``/v1/chat/completions`` asks.

    Raises:
        HttpError: A field is missing, wrong, or asks for what is not offered.
    """
    return _order(body, limits, is_chat=True, prompt=_messages(body))


def parse_completion(body: Mapping[str, Any], limits: Limits) -> Order:
    """Return what a body of ``/v1/completions`` asks; errors as ``parse_chat``."""
    return _order(body, limits, is_chat=False, prompt=_prompt(body))


def query_of(body: Mapping[str, Any], *, is_chat: bool) -> str:
    """Return what of a body is routed: the prompt, or the last message of the user.

    Raises:
        HttpError: There is none.
    """
    return _query(_messages(body) if is_chat else _prompt(body))


def _order(body: Mapping[str, Any], limits: Limits, *, is_chat: bool, prompt: str | list[dict[str, str]]) -> Order:
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise HttpError(400, "unsupported_parameter", f"{name}: this server does not offer it", param=name)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise HttpError(400, "missing_required_parameter", "model: expected a name, or auto", param="model")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise _wrong("stream_options", "an object", options)
    question = Question(
        model=model, query=_query(prompt), prompt=prompt, is_plain=not is_chat, sampling=_sampling(body, limits)
    )
    return Order(
        question=question,
        is_chat=is_chat,
        is_streamed=_flag(body, "stream"),
        has_usage=_flag(options, "include_usage"),
    )


def _messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise HttpError(400, "missing_required_parameter", "messages: expected a list of messages", param="messages")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(given)]


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise _wrong(where, "an object", message)
    role = message.get("role")
    if role not in _ROLES:
        raise _wrong(f"{where}.role", "one of " + ", ".join(_ROLES), role)
    return {"role": "system" if role == "developer" else role, "content": _content(message, f"{where}.content")}


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong(where, "a text", content)
    for place, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise HttpError(400, "invalid_value", f"{where}[{place}]: expected a part of type text", param=where)
    return "".join(part["text"] for part in content)


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise HttpError(400, "missing_required_parameter", "prompt: expected one text", param="prompt")
    return prompt


def _query(prompt: str | list[dict[str, str]]) -> str:
    if isinstance(prompt, str):
        query, name = prompt, "prompt"
    else:
        query, name = next((own["content"] for own in reversed(prompt) if own["role"] == "user"), ""), "messages"
    if not query.strip():
        raise HttpError(400, "invalid_value", f"{name}: expected a text of the user that is not empty", param=name)
    return query


def _sampling(body: Mapping[str, Any], limits: Limits) -> Sampling:
    asked = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    tokens = _number(body, asked, 1, limits.max_tokens, min(limits.default_tokens, limits.max_tokens), is_whole=True)
    seed = _number(body, "seed", 0, _HIGHEST_SEED, random.getrandbits(62), is_whole=True)  # no secret
    top_p = _number(body, "top_p", 0, 1, 1.0)
    if top_p == 0:
        raise _wrong("top_p", "a number above 0", top_p)
    return Sampling(
        max_tokens=int(tokens),
        temperature=_number(body, "temperature", 0, 2, 1.0),
        top_p=top_p,
        seed=int(seed),
        stop=_stops(body.get("stop")),
    )


def _stops(stop: Any) -> tuple[str, ...]:
    given = [] if stop is None else [stop] if isinstance(stop, str) else stop
    is_right = isinstance(given, list) and len(given) <= _MOST_STOPS
    if not is_right or not all(isinstance(text, str) and text for text in given):
        raise HttpError(400, "invalid_value", f"stop: expected up to {_MOST_STOPS} texts, none empty", param="stop")
    return tuple(given)


def _number(
    body: Mapping[str, Any], name: str, least: float, most: float, default: float, *, is_whole: bool = False
) -> float:
    value = body.get(name)
    if value is None:
        return default
    kinds = (int,) if is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise _wrong(name, f"a {'whole ' if is_whole else ''}number from {least} to {most}", value)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return bool(value)


def _wrong(name: str, expected: str, got: Any) -> HttpError:
    shown = repr(got)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
    return HttpError(400, "invalid_value", f"{name}: expected {expected}, got {shown}", param=name)
