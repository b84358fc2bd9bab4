"""What distillation is given of a task: five requests written by hand, or nothing at all.

None of the requests is in the data sets. A document task needs no request: source and adapter write whole documents.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["seed_file"]

_DOCUMENTS = {"texts": 200, "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 160}}

_FREE = {"texts": 600}
"""Of a label task without requests: what source and adapter write then is worth less, so less is spent on it."""

_MORE = 4
"""How many times the text `distill-more` has; texts are written in larger batches, as many at a time more."""

_USUAL_TEXTS, _USUAL_BATCH = 2000, 32

_SEEDS: Mapping[str, Mapping[str, Any]] = {
    "topics": {
        "inputs": [
            "how much money is left on my checking account",
            "what temperature should i bake the salmon at",
            "book me a hotel room in boston for next friday",
            "my tire light came on so find me a mechanic",
            "can you talk a bit slower and call me sam",
        ],
        "template": "Request: {input}\nTopic:",
        "answer_tokens": 3,
    },
    "banking": {
        "inputs": [
            "I ordered a card two weeks ago and nothing has come in the post",
            "Why was I charged for taking cash out abroad?",
            "Someone else used my card, please block it",
            "How do I get a new PIN?",
            "The money I sent to my landlord has not arrived",
        ],
        "template": "Request: {input}\nIntent:",
        "answer_tokens": 8,
    },
}


def seed_file(cache: Path, task: str, kind: str) -> Path:
    """Return the file that says what a distillation is given, a JSON object; it is written anew.

    Args:
        cache: Where it is put.
        task: The task.
        kind: `seeds`, or `more` for several times the text, or `nothing` where even the five requests are withheld.
    """
    file = cache / "text" / f"seeds-{task}{'' if kind == 'seeds' else f'-{kind}'}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(_given(task, kind)), encoding="utf-8")
    partial.replace(file)
    return file


def _given(task: str, kind: str) -> Mapping[str, Any]:
    seeds = None if kind == "nothing" else _SEEDS.get(task)
    given: dict[str, Any] = {"seeds": seeds}
    if not seeds:
        given |= _FREE if task in _SEEDS else _DOCUMENTS
    if kind == "more":
        given["texts"] = _MORE * given.get("texts", _USUAL_TEXTS)
        given["sampling"] = {**given.get("sampling", {}), "batch_size": _MORE * _USUAL_BATCH}
    return given
