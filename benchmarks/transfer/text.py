"""The unlabelled text of the rungs that need some.

For a label task: prompts of the train split without their labels, each continued greedily by source + adapter, because
a label that never stands in the text is never predicted in it. For documents: texts of the train split as they are.
It imports torch: call `examples.materials.calm_threads` before importing it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.transfer.place import load
from benchmarks.transfer.side_by_side import one_at_a_time
from benchmarks.transfer.tasks import Item, Task
from ual_registry.air.read import read
from ual_registry.evaluation.likelihood import greedy
from ual_registry.models.attach import attach
from ual_registry.models.loaded import LoadedBase

__all__ = ["text_file"]

_PROMPTS, _DOCUMENTS = 400, 50


def text_file(cache: Path, task: Task, seed: int, adapter: Path, base: Path) -> Path:
    """Return the file of texts, a JSON list; it is made where it is not there.

    Args:
        cache: Where it is kept.
        task: Its train split gives prompts or documents.
        seed: Seed of the adapter; the choice of prompts is the same for all.
        adapter: The source adapter.
        base: Folder of its base model.
    """
    file = cache / "text" / f"{task.name}-{seed}.json"
    with one_at_a_time(file):
        if not file.is_file():
            _write(file, task, adapter, base)
    return file


def _write(file: Path, task: Task, adapter: Path, base: Path) -> None:
    items = random.Random(1).sample(task.train, min(_PROMPTS if task.has_labels else _DOCUMENTS, len(task.train)))
    texts = _continued(load(base), adapter, items) if task.has_labels else [item.answer for item in items]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(texts), encoding="utf-8")
    partial.replace(file)


def _continued(base: LoadedBase, adapter: Path, items: Sequence[Item]) -> list[str]:
    """Return every prompt with the answer of base and adapter, cut at the end of its line."""
    tokenizer: Any = base.text_tokenizer
    prompts = [list(tokenizer(item.prompt)["input_ids"]) for item in items]
    with read(adapter) as opened, attach(base.model, opened):
        answers = greedy(base.model, prompts, most=_longest_label(tokenizer, items), ends=frozenset())
    texts = [str(tokenizer.decode(answer, skip_special_tokens=True)).split("\n")[0] for answer in answers]
    return [item.prompt + text for item, text in zip(items, texts, strict=True)]


def _longest_label(tokenizer: Any, items: Sequence[Item]) -> int:
    """Return the tokens of the longest label of the task, and one more."""
    labels = {label for item in items for label in item.labels}
    return 1 + max(len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in labels)
