"""What distillation is given of a task: five requests written by hand, or nothing at all, and how it writes texts.

None of the requests is in the data sets. A document task needs no request: source and adapter write whole documents.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.transfer.rungs import RungRefusedError

__all__ = ["given", "has_requests", "seed_file"]

_REQUESTS: Mapping[str, Any] = {"texts": 2000}
"""How many requests of a label task are written and answered."""

_BY_BOTH: Mapping[str, Any] = {"manner": {"writers": ["source", "target"]}, "sampling": {"batch_size": 128}}
"""How both bases write requests."""

_WITH_WORDS: Mapping[str, Any] = {"manner": {"opened": 0.5}, "sampling": {"batch_size": 128}}
"""How half of the requests go on from words that the adapter has a sure answer to."""

_MANNERS: Mapping[str, Mapping[str, Any]] = {"seeds by both": _BY_BOTH, "seeds and words": _WITH_WORDS}
"""What is added for kinds of requests."""

_DOCUMENTS: Mapping[str, Any] = {
    "texts": 800,
    "sampling": {"temperature": 0.9, "top_p": 0.95, "max_tokens": 256, "batch_size": 128},
}
"""How documents are written; chosen on dev, see `settings`."""

_FREE: Mapping[str, Any] = {"texts": 600}
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


def seed_file(cache: Path, task: str, kind: str) -> Path:
    """Return the file that says what a distillation is given, a JSON object; it is written anew.

    Args:
        cache: Where it is put.
        task: The task.
        kind: `seeds`; `seeds by both`, where the target's base writes requests too; `seeds and words`, where half of
            the requests go on from words; or `nothing` where even the five requests are withheld.

    Raises:
        RungRefusedError: Requests are to be written in a manner of their own, and the task has none.
    """
    ending = "" if kind == "seeds" else f"-{kind.replace(' ', '-')}"
    file = cache / "text" / f"seeds-{task}{ending}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(given(task, kind)), encoding="utf-8")
    partial.replace(file)
    return file


def has_requests(task: str) -> bool:
    """Tell whether a task is asked by requests; documents are written without."""
    return task in _SEEDS


def given(task: str, kind: str) -> Mapping[str, Any]:
    """Return what a distillation is given; see ``seed_file``."""
    seeds = None if kind == "nothing" else _SEEDS.get(task)
    if kind in _MANNERS:
        if not has_requests(task):
            raise RungRefusedError("documents are written without requests, expected a task that has some")
        return {"seeds": seeds, **_REQUESTS, **_MANNERS[kind]}
    how = _DOCUMENTS if not has_requests(task) else _REQUESTS if seeds else _FREE
    return {"seeds": seeds, **how}
