"""What distillation is given of a task: five requests written by hand, or nothing at all.

None of the requests is in the data sets. A document task needs no request: source and adapter write whole documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["seed_file"]

_DOCUMENTS = {"texts": 200, "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 160}}

_FREE = {"texts": 600}
"""Of a label task without requests: what source and adapter write then is worth less, so less is spent on it."""

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


def seed_file(cache: Path, task: str, *, is_free: bool) -> Path:
    """Return the file that says what a distillation is given, a JSON object; it is written anew.

    Args:
        cache: Where it is put.
        task: The task.
        is_free: Whether even the five requests are withheld.
    """
    seeds = None if is_free else _SEEDS.get(task)
    document = {"seeds": seeds} if seeds else {"seeds": None, **(_FREE if task in _SEEDS else _DOCUMENTS)}
    file = cache / "text" / f"seeds-{task}{'-free' if is_free else ''}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file
