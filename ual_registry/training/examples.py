"""The examples of a training: read as they stream, all of one form, every fault with its line.

Nothing here loads a framework.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ual_registry.errors import TrainingError
from ual_registry.storage import atomic_file
from ual_registry.training.fields import Record, check_fields, decode_record, fault, form_of, renamed
from ual_registry.training.forms import Example, Form
from ual_registry.training.sources import records

__all__ = ["known_form", "read_examples", "write_examples"]


def read_examples(
    source: str | Path, *, form: Form | str | None = None, fields: Mapping[str, str] | None = None
) -> Iterator[Example]:
    """Read the examples of a data set.

    JSONL (one object a line), CSV and TSV (a first row of names), plain text (documents separated by blank lines), a
    folder (one document a file), and ``OWNER/NAME[/SUBSET][@REVISION][:SPLIT]`` on the Hub. Further fields are left
    alone; ``document`` names the document that an example is a part of.

    Args:
        source: The file, folder or data set.
        form: What the examples are; what the first one is where absent.
        fields: What the data calls each field of an example, where it has another name there.

    Returns:
        The examples, in order; faults in the data are raised as they are met.

    Raises:
        TrainingError: There is no such form or field.
        StorageError: There is no such file, or it cannot be read.
        FormatError: A line is broken, a field is missing or holds something else, or there is no example at all.
        MissingExtraError: It is a data set of the Hub, and ``datasets`` is not installed.
        HubError: The Hub does not have it, or cannot be reached.
    """
    names = fields or {}
    check_fields(names)
    found = (renamed(record, names) for record in records(source))
    return _examples(found, str(source), None if form is None else known_form(form))


def known_form(form: str) -> Form:
    """Return a form by its name.

    Raises:
        TrainingError: There is no such form.
    """
    if form not in list(Form):
        raise TrainingError(
            f"form: expected {', '.join(Form)}, got {form!r}",
            code="setting",
            context={"setting": "form"},
        )
    return Form(form)


def _examples(found: Iterator[Record], source: str, form: Form | None) -> Iterator[Example]:
    is_empty = True
    for record in found:
        form = form or form_of(record)
        yield decode_record(record, form)
        is_empty = False
    if is_empty:
        raise fault(source, "", "holds no examples")


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples as JSONL, which ``read_examples`` reads back as they were.

    Raises:
        StorageError: The file cannot be written.
    """
    with atomic_file(Path(path)) as stream:
        for example in examples:
            stream.write(json.dumps(example.record(), ensure_ascii=False).encode() + b"\n")
