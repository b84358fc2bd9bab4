"""One record of a data set as an example: which form it is, and whether each field holds what it must.

Fields that no form knows are left alone, since data sets carry much beside their texts. Texts are taken as they are:
what looks like a path or an address in them is never opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.errors import FormatError, TrainingError
from ual_registry.training.elsewhere import HINT, elsewhere_hint, turns_hint
from ual_registry.training.forms import FIELDS, ROLES, Example, Form, Message

__all__ = ["Record", "check_fields", "decode_record", "fault", "form_of", "renamed"]

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a data set, as it was read.

    Attributes:
        source: The file or data set.
        place: Where in it, as in ``line 3``.
        values: Its fields.
    """

    source: str
    place: str
    values: Mapping[str, Any]

    def fault(self, problem: str, *, field: str | None = None, hint: str = HINT) -> FormatError:
        """Return the error that says what is wrong with this record."""
        return fault(self.source, self.place, problem, field=field, hint=hint)


def fault(source: str, place: str, problem: str, *, field: str | None = None, hint: str = HINT) -> FormatError:
    """Return the error of one place of a data set."""
    where = f"{source}, {place}" if place else source
    context: dict[str, object] = {"path": source}
    if place:
        context["place"] = place
    if field is not None:
        context["field"] = field
        where += f": {field}"
    return FormatError(f"{where}: {problem}", code="training-data", context=context, hint=hint)


def check_fields(fields: Mapping[str, str]) -> None:
    """Refuse a renaming of fields that no example has.

    Raises:
        TrainingError: There is no such field.
    """
    known = sorted({"document", *(name for names in FIELDS.values() for name in names)})
    for name in fields:
        if name not in known:
            raise TrainingError(
                f"fields: expected {', '.join(known)} before the =, got {name!r}",
                code="setting",
                context={"setting": "fields"},
                hint="name the field of an example first, then what it is called in the data: prompt=question",
            )


def renamed(record: Record, fields: Mapping[str, str]) -> Record:
    """Return a record with the fields that an example has, which the data calls otherwise.

    Args:
        record: The record.
        fields: What the data calls each field.

    Raises:
        FormatError: The record has no such field.
    """
    if not fields:
        return record
    for own in fields.values():
        if own not in record.values:
            raise record.fault("missing field", field=own)
    others = {name: value for name, value in record.values.items() if name not in fields.values()}
    return replace(record, values={**others, **{name: record.values[own] for name, own in fields.items()}})


def form_of(record: Record) -> Form:
    """Return the form of a record: the first of ``FIELDS`` all of whose fields it has.

    Raises:
        FormatError: It has the fields of no form.
    """
    for form, names in FIELDS.items():
        if all(name in record.values for name in names):
            return form
    for one, other in (("prompt", "completion"), ("completion", "prompt")):
        if one in record.values:
            raise record.fault(f"missing field; {one!r} is there", field=other)
    got = ", ".join(sorted(map(str, record.values))[:8]) or "no fields"
    hint = elsewhere_hint(record.values)
    raise record.fault(f"expected messages, prompt and completion, text and label, or text; got {got}", hint=hint)


def decode_record(record: Record, form: Form) -> Example:
    """Return the example that a record holds.

    Args:
        record: The record.
        form: What the examples of the data set are.

    Raises:
        FormatError: A field is missing or holds something else, or the record is of another form.
    """
    for name in FIELDS[form]:
        if name not in record.values:
            raise _missing(record, form, name)
    found: dict[str, Any] = {name: _text(record, name) for name in FIELDS[form] if name not in {"messages", "label"}}
    if form is Form.CHAT:
        found["messages"] = _messages(record)
    if form is Form.LABEL:
        found["label"] = _label(record)
    # A cell of a table that is empty names no document.
    document = None if record.values.get("document") in (None, "") else _text(record, "document")
    return Example(document=document, place=f"{record.source}, {record.place}", **found)


def _missing(record: Record, form: Form, name: str) -> FormatError:
    other = next((own for own, names in FIELDS.items() if all(field in record.values for field in names)), None)
    if other is None:
        return record.fault(f"missing field; expected {' and '.join(FIELDS[form])}", field=name)
    return record.fault(
        f"is of form {other.value!r} ({' and '.join(FIELDS[other])}), expected {form.value!r} like the others",
        hint="all examples of a data set are of one form; split it into one file for each",
    )


def _text(record: Record, name: str) -> str:
    return _checked(record, name, record.values[name])


def _checked(record: Record, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise record.fault(f"expected a text, got {_shown(value)}", field=name, hint=turns_hint(name, value))
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise record.fault("expected a text, got half a surrogate pair, which has no bytes", field=name)
    return value


def _label(record: Record) -> str:
    value = record.values["label"]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and not value.strip():
        raise record.fault("expected a label, got a blank text", field="label")
    return _checked(record, "label", value)


def _messages(record: Record) -> tuple[Message, ...]:
    turns = record.values["messages"]
    if not isinstance(turns, list | tuple) or not turns:
        raise record.fault(f"expected a list of messages, got {_shown(turns)}", field="messages")
    return tuple(_message(record, f"messages[{index}]", turn) for index, turn in enumerate(turns))


def _message(record: Record, name: str, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise record.fault(f"expected an object with role and content, got {_shown(turn)}", field=name)
    for field in ("role", "content"):
        if turn.get(field) is None:
            raise record.fault("missing field", field=f"{name}.{field}")
    further = sorted(str(field) for field, value in turn.items() if field not in {"role", "content"} and value)
    if further:
        raise record.fault(f"unknown field {further[0]!r}; a message has role and content", field=name)
    role = turn["role"]
    if role not in ROLES:
        raise record.fault(f"unknown role {_shown(role)} (known: {', '.join(ROLES)})", field=f"{name}.role")
    return Message(role=role, content=_checked(record, f"{name}.content", turn["content"]))


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
