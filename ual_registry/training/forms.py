"""What an example is: four forms, the fields that each has, and the digest of what it says. No framework is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from ual_registry.digest import Digest

__all__ = ["FIELDS", "ROLES", "Example", "Form", "Message"]


class Form(StrEnum):
    """What the examples of a data set are."""

    TEXT = "text"
    COMPLETION = "completion"
    CHAT = "chat"
    LABEL = "label"


FIELDS: dict[Form, tuple[str, ...]] = {
    Form.CHAT: ("messages",),
    Form.COMPLETION: ("prompt", "completion"),
    Form.LABEL: ("text", "label"),
    Form.TEXT: ("text",),
}
"""The fields of each form; the first form that a record has all fields of is its form where none is asked for."""

ROLES = ("system", "user", "assistant", "tool")
"""Who speaks in a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: One of ``ROLES``.
        content: What is said.
    """

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example; the fields of its form are set, the others are ``None``.

    Attributes:
        document: Name of the document that it is a part of; ``None`` where it is one of its own.
        text: A text; the input where there is a label.
        prompt: What is given; never trained on.
        completion: What is to follow the prompt.
        messages: A conversation; the turns of the assistant are trained on.
        label: The class of the text.
        place: Where it was read, for messages; no part of what it says.
    """

    document: str | None = None
    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] | None = None
    label: str | None = None
    place: str = field(default="", compare=False)

    @property
    def form(self) -> Form:
        """Which fields are set."""
        return next(form for form, fields in FIELDS.items() if all(getattr(self, name) is not None for name in fields))

    def record(self) -> dict[str, Any]:
        """Return the stored form: one line of JSONL."""
        found: dict[str, Any] = {}
        if self.document is not None:
            found["document"] = self.document
        for name in FIELDS[self.form]:
            value = getattr(self, name)
            is_chat = name == "messages"
            found[name] = [{"role": turn.role, "content": turn.content} for turn in value] if is_chat else value
        return found

    @cached_property
    def digest(self) -> Digest:
        """Digest of what it says; texts that differ in white space alone say the same."""
        said = {name: _normal(value) for name, value in self.record().items() if name != "document"}
        return Digest.of_bytes(json.dumps(said, sort_keys=True).encode())

    @cached_property
    def document_digest(self) -> Digest:
        """What its document is known by: the digest of the document's name, or of the example itself."""
        return self.digest if self.document is None else Digest.of_bytes(b"document " + self.document.encode())


def _normal(value: Any) -> Any:
    """Return a value with every run of white space in its texts as one space."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return {name: _normal(item) for name, item in value.items()}
