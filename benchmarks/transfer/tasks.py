"""The tasks of the transfer benchmark: what is trained on, tuned on and measured on.

Three tasks, each with a train, a dev and a test split that share no document:

* `topics`: which of ten topics a request of CLINC150 (CC BY 3.0) belongs to; see `examples.topics`;
* `banking`: which intent a request of BANKING77 (CC BY 4.0) has, out of ten candidates drawn for each request:

      Iñigo Casanueva, Tadas Temčinas, Daniela Gerz, Matthew Henderson, Ivan Vulić (2020).
      Efficient Intent Detection with Dual Sentence Encoders. NLP for ConvAI, ACL.
      https://github.com/PolyAI-LDN/task-specific-datasets

* `changelogs`: the style of Debian changelogs, read from the packages of this machine, split by source package.

The data sets are read where they lie (`UAL_DATA`, or `../shared/data` seen from the repository) and are no part
of this project. This module decides items and splits; models, training and measures are left to others.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.topics import Example, load_topics

__all__ = ["TASKS", "AbsentDataError", "Item", "Task"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_CHANGELOG_CHARACTERS = 480
_DEV_SIZE, _TEST_SIZE = 200, 300
_DEV_USED, _TEST_USED = 100, 200
_DEV_DOCUMENTS, _TEST_DOCUMENTS = 12, 32
"""So many of the held-out items are measured on: one pass over them for every arm is what the benchmark costs."""


class AbsentDataError(Exception):
    """The data of a task is not on this machine; the text says where it was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to learn from or to be measured on.

    Attributes:
        prompt: The text before the answer; empty where a whole document is modelled.
        answer: The text to predict; for a label task the gold label with its leading space.
        labels: The candidates of a label task, the gold one among them; empty for documents.
    """

    prompt: str
    answer: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Items to train on, to choose a dose on, and to measure on.

    Attributes:
        name: Name in tables and in the cache.
        title: What the task is, for people, with the source of its text.
        train: Items to train on; their prompts, or texts, are the unlabelled text of the rungs that need some.
        dev: Items on which doses and settings are chosen.
        test: Items on which results are measured, and nothing is chosen.
    """

    name: str
    title: str
    train: tuple[Item, ...]
    dev: tuple[Item, ...]
    test: tuple[Item, ...]

    @property
    def has_labels(self) -> bool:
        """Return whether items are judged by the likelihood of labels, and not by bits per byte."""
        return bool(self.test[0].labels)

    def items(self, split: str) -> tuple[Item, ...]:
        """Return the items of `dev` or `test`."""
        return self.dev if split == "dev" else self.test

    def named(self, split: str) -> str:
        """Return the name of a split with a digest of its items: numbers of other items are not taken for its own."""
        text = repr([(item.prompt, item.answer, item.labels) for item in self.items(split)])
        return f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


# Topics of CLINC150

_TOPICS_TRAIN = 1920


def _topics() -> Task:
    data = load_topics(train_size=_TOPICS_TRAIN + _DEV_SIZE, test_size=_TEST_SIZE)
    labels = tuple(_label(topic) for topic in data.topics)

    def items(examples: tuple[Example, ...]) -> tuple[Item, ...]:
        return tuple(_topic_item(example, labels) for example in examples)

    dev_size = min(_DEV_SIZE, len(data.train) // 10)
    return Task(
        name="topics",
        title=f"topic of a request, one of ten ({data.source})",
        train=items(data.train[:-dev_size]),
        dev=items(data.train[-dev_size:][:_DEV_USED]),
        test=items(data.test[:_TEST_USED]),
    )


def _topic_item(example: Example, labels: tuple[str, ...]) -> Item:
    return Item(prompt=f"Request: {example.text}\nTopic:", answer=_label(example.topic), labels=labels)


def _label(name: str) -> str:
    """Return the label that is written for a category: a leading space, and spaces for underscores."""
    return " " + name.replace("_", " ").lower()


# Intents of BANKING77

_CANDIDATES = 10


def _banking() -> Task:
    folder = _data_folder() / "banking77"
    if not (folder / "train.csv").is_file():
        raise AbsentDataError(f"BANKING77 is not at {folder}")
    known, fresh = _banking_rows(folder / "train.csv"), _banking_rows(folder / "test.csv")
    names = tuple(sorted({_label(name) for _, name in known}))
    rng = random.Random("banking")
    items = [_banking_item(row, names, rng) for row in rng.sample(known, len(known))]
    test = [_banking_item(row, names, rng) for row in rng.sample(fresh, _TEST_SIZE)]
    return Task(
        name="banking",
        title="intent of a request, one of ten candidates (BANKING77)",
        train=tuple(items[_DEV_SIZE:]),
        dev=tuple(items[:_DEV_USED]),
        test=tuple(test[:_TEST_USED]),
    )


def _data_folder() -> Path:
    chosen = os.environ.get("UAL_DATA")
    return Path(chosen) if chosen else _REPOSITORY.parent / "shared" / "data"


def _banking_rows(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [(" ".join(row["text"].split()), row["category"]) for row in csv.DictReader(stream)]


def _banking_item(row: tuple[str, str], names: tuple[str, ...], rng: random.Random) -> Item:
    text, gold = row[0], _label(row[1])
    others = rng.sample([name for name in names if name != gold], _CANDIDATES - 1)
    labels = tuple(rng.sample([gold, *others], _CANDIDATES))
    return Item(prompt=f"Request: {text}\nIntent:", answer=gold, labels=labels)


# Style of Debian changelogs

_CHANGELOGS = Path("/usr/share/doc")
_FEWEST_CHANGELOGS = 200  # below it the test split would be a handful
_FIRST_LINE = re.compile(r"([a-z0-9][a-z0-9.+-]+) \([^)]+\) [^;\n]+; urgency=")


def _changelogs() -> Task:
    texts = dict(_changelog_texts())
    if len(texts) < _FEWEST_CHANGELOGS:
        raise AbsentDataError(
            f"{_CHANGELOGS} holds {len(texts)} long changelogs, expected at least {_FEWEST_CHANGELOGS}"
        )
    # The digest of the name decides the split, so a package stays in its split on every machine.
    ordered = sorted(texts, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    items = tuple(Item(prompt="", answer=texts[name]) for name in ordered)
    dev, test = len(items) // 8, len(items) // 4
    return Task(
        name="changelogs",
        title="style of Debian changelogs (packages of this machine, split by source package)",
        train=items[dev + test :],
        dev=items[: min(dev, _DEV_DOCUMENTS)],
        test=items[dev : dev + min(test, _TEST_DOCUMENTS)],
    )


def _changelog_texts() -> Iterator[tuple[str, str]]:
    """Yield each source package with the start of its changelog; the first file of a package counts."""
    seen = set()
    for file in sorted(_CHANGELOGS.glob("*/changelog*.gz")):
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as stream:
            text = stream.read(_CHANGELOG_CHARACTERS)
        named = _FIRST_LINE.match(text)
        if named and named.group(1) not in seen and len(text) == _CHANGELOG_CHARACTERS:
            seen.add(named.group(1))
            yield named.group(1), text


TASKS: dict[str, Callable[[], Task]] = {"topics": _topics, "banking": _banking, "changelogs": _changelogs}
"""The tasks by name; each is read when it is called, and raises `AbsentDataError` where its data is not there."""
