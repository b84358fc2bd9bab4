"""Train the native adapter of an evaluation on request: what the base itself learns from items of the same task.

The items have the form of the test items and are put to the base as those are, so that the native adapter has learned
what it is asked. How it is trained is left to ``training``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.errors import FormatError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.config_file import read_config
from ual_registry.training.forms import Example, Message
from ual_registry.workflows.extras import need_training

if TYPE_CHECKING:
    from ual_registry.evaluation.items import DataFile
    from ual_registry.models.loaded import LoadedBase

__all__ = ["NativeOrder", "refuse_test_items", "train_native"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeOrder:
    """How to train a native adapter.

    Attributes:
        data: The items to train on, a JSONL file of the task's own form.
        config: Settings of the training, a file as ``ual train`` takes; its defaults where absent.
        run: Folder of the run, which goes on where it was cut off, and keeps the adapter; a passing one where absent.
    """

    data: str
    config: str | None = None
    run: str | None = None


def train_native(
    order: NativeOrder, loaded: LoadedBase, items: DataFile, place: Path, *, seed: int, is_plain: bool
) -> Path:
    """Train a native adapter and return its AIR file.

    Args:
        order: How.
        loaded: The base model; it is left as it was.
        items: What ``order.data`` holds.
        place: A folder that outlives the evaluation, for a run that is not kept.
        seed: Seeds label orders.
        is_plain: Whether prompts are given as they are, even where the base has a chat template.

    Raises:
        MissingExtraError: peft or accelerate is not installed.
        UALError: As ``training.prepare.prepare`` and ``training.run.train``.
    """
    need_training("a native adapter")
    from ual_registry.training.prepare import prepare  # noqa: PLC0415  # loads torch
    from ual_registry.training.run import train  # noqa: PLC0415  # loads torch

    config = read_config(Path(order.config)) if order.config is not None else TrainingConfig()
    is_chat = not is_plain and bool(getattr(loaded.text_tokenizer, "chat_template", None))
    prepared = prepare(_examples(items, seed=seed, is_chat=is_chat), loaded.text_tokenizer, config)
    folder = Path(order.run) if order.run is not None else place / "native"
    with train(loaded, prepared, config, folder=folder, resume=folder.exists()).adapter:
        return folder / "adapter.air"


def refuse_test_items(order: NativeOrder, items: DataFile, test: DataFile) -> None:
    """Refuse to train the native adapter on the file that everything is reported on.

    Raises:
        FormatError: It is that file.
    """
    if items.digest == test.digest:
        raise FormatError(
            f"{order.data}: is the test file too, so the native adapter would have seen what it is tested on",
            code="evaluation-data",
            context={"path": order.data},
            hint="split the items in two files",
        )


def _examples(items: DataFile, *, seed: int, is_chat: bool) -> Iterator[Example]:
    """Yield the items as they are asked in an evaluation, each with its answer."""
    for item in items.items:
        place = f"{items.path}, line {item.line}"
        if hasattr(item, "text"):
            yield Example(text=item.text, place=place)
            continue
        prompt, answer = _asked(item, seed)
        if is_chat:
            turns = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
            yield Example(messages=turns, place=place)
        else:
            space = "" if prompt[-1:].isspace() else " "
            yield Example(prompt=prompt, completion=space + answer, place=place)


def _asked(item: Any, seed: int) -> tuple[str, str]:
    """Return the prompt of an item and its right answer."""
    from ual_registry.evaluation.prompts import label_order  # noqa: PLC0415  # loads torch

    if hasattr(item, "gold"):
        return item.prompt.replace("{labels}", ", ".join(label_order(item, seed))), item.gold
    return item.prompt, item.references[0]
