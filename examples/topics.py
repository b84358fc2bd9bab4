"""Load the task of the examples: to which of ten topics does a short request belong.

The requests come from CLINC150 (CC BY 3.0), whose 150 intents are grouped into ten domains, the topics here:

    Stefan Larson, Anish Mahendran, Joseph J. Peper, Christopher Clarke, Andrew Lee, Parker Hill,
    Jonathan K. Kummerfeld, Kevin Leach, Michael A. Laurenzano, Lingjia Tang, Jason Mars (2019).
    An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction. EMNLP-IJCNLP 2019.
    https://github.com/clinc/oos-eval

The data set is read where it lies and is no part of this project: in `clinc150` under the folder that
`UAL_DATA` names, or under `../shared/data` seen from the repository. Where it is absent, `topics_sample.json`
stands in: 220 requests written for this project under the same ten topics, enough to run everything and too
few to judge by.
This module decides which requests are used and in which order; models and prompts are left to others.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Example", "TopicData", "load_topics"]

_REPOSITORY = Path(__file__).resolve().parent.parent
_SAMPLE = Path(__file__).resolve().parent / "topics_sample.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request and the topic it belongs to."""

    text: str
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicData:
    """Requests to train on and requests to test on; no text is in both.

    Attributes:
        source: Where the requests come from, for people.
        topics: The ten topic names, in a fixed order.
        train: Requests to train on, topics in turn.
        test: Requests to test on, topics in turn.
    """

    source: str
    topics: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def load_topics(
    *, train_size: int = 1920, test_size: int = 200, seed: int = 0, folder: Path | None = None
) -> TopicData:
    """Choose requests at random from `seed`, the same number for each topic (one more for some).

    Args:
        train_size: How many requests to train on; fewer where the source has fewer.
        test_size: How many requests to test on; fewer where the source has fewer.
        seed: The same seed, sizes and source give the same requests in the same order.
        folder: The CLINC150 folder; None looks in the usual places.

    Returns:
        Requests from the data set, or from the sample where the data set is absent.
    """
    clinc = folder or _clinc_folder()
    if (clinc / "data_full.json").is_file():
        source, pools = "CLINC150", _read_clinc(clinc)
    else:
        source, pools = "own sample (CLINC150 is absent)", _read_sample()
    train = _choose(pools["train"], train_size, random.Random(f"train-{seed}"))
    return TopicData(
        source=source,
        topics=tuple(pools["train"]),
        train=train,
        test=_choose(_without(pools["test"], pools["train"]), test_size, random.Random(f"test-{seed}")),
    )


Pool = dict[str, list[str]]
"""Texts by topic."""


def _clinc_folder() -> Path:
    chosen = os.environ.get("UAL_DATA")
    return (Path(chosen) if chosen else _REPOSITORY.parent / "shared" / "data") / "clinc150"


def _read_clinc(folder: Path) -> dict[str, Pool]:
    domains: dict[str, list[str]] = json.loads((folder / "domains.json").read_text(encoding="utf-8"))
    topic_of = {intent: topic for topic, intents in domains.items() for intent in intents}
    splits = json.loads((folder / "data_full.json").read_text(encoding="utf-8"))
    return {split: _by_topic(splits[split], topic_of, list(domains)) for split in ("train", "test")}


def _by_topic(rows: list[list[str]], topic_of: dict[str, str], topics: list[str]) -> Pool:
    pool: Pool = {topic: [] for topic in topics}
    for text, intent in rows:
        pool[topic_of[intent]].append(text)
    return pool


def _read_sample() -> dict[str, Pool]:
    topics = json.loads(_SAMPLE.read_text(encoding="utf-8"))["topics"]
    return {split: {name: parts[split] for name, parts in topics.items()} for split in ("train", "test")}


def _without(pool: Pool, other: Pool) -> Pool:
    """Return `pool` without the texts that are also in `other`, so that no test request was trained on."""
    seen = {text for texts in other.values() for text in texts}
    return {topic: [text for text in texts if text not in seen] for topic, texts in pool.items()}


def _choose(pool: Pool, size: int, rng: random.Random) -> tuple[Example, ...]:
    """Take `size` texts, one of each topic in turn, from the shuffled texts of each topic."""
    shuffled = {topic: rng.sample(texts, len(texts)) for topic, texts in pool.items()}
    rounds = min(len(texts) for texts in shuffled.values())
    in_turn = [Example(text=shuffled[topic][i], topic=topic) for i in range(rounds) for topic in shuffled]
    return tuple(in_turn[:size])
