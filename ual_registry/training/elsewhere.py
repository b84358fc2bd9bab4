"""Forms of training data that other programs read: how theirs becomes one of ours, as hints in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["HINT", "elsewhere_hint", "file_hint", "turns_hint"]

HINT = "docs/train.md shows the forms of training data"

_ELSEWHERE = (
    (("chosen", "rejected"), "this is data of preferences, which is not trained on here"),
    (
        ("instruction", "output"),
        "pass --fields prompt=instruction,completion=output; put an input, if there is one, into the instruction",
    ),
    (
        ("conversations",),
        "rename conversations to messages, from to role (human to user, gpt to assistant), and value to content",
    ),
    (("question", "answer"), "pass --fields prompt=question,completion=answer"),
    (("input", "output"), "pass --fields prompt=input,completion=output"),
    (("instruction", "response"), "pass --fields prompt=instruction,completion=response"),
    (("query", "response"), "pass --fields prompt=query,completion=response"),
    (("sentence", "label"), "pass --fields text=sentence,label=label"),
    (("content",), "pass --fields text=content"),
)
"""Fields that data for other programs has, and what to do with it; the first that fits counts."""

_FILES = {
    ".parquet": "write it as JSONL: python -c \"import pandas; pandas.read_parquet('IN.parquet').to_json('OUT.jsonl', "
    "orient='records', lines=True)\"",
    ".json": "write one object a line, and call it .jsonl: jq -c '.[]' IN.json > OUT.jsonl",
    ".gz": "unpack it first",
    ".zst": "unpack it first",
    ".arrow": "write it as JSONL (datasets: to_json)",
}


def elsewhere_hint(values: Mapping[str, Any]) -> str:
    """Return how a record of another program becomes an example."""
    return next((hint for names, hint in _ELSEWHERE if all(name in values for name in names)), HINT)


def turns_hint(name: str, value: object) -> str:
    """Return what to do with a prompt or completion that is a list of turns, as TRL has it."""
    if name in {"prompt", "completion"} and isinstance(value, list | tuple):
        return "put the turns of prompt and completion into one list, messages"
    return HINT


def file_hint(suffix: str) -> str:
    """Return what to do with a file of an ending that is not read."""
    return _FILES.get(suffix, HINT)
