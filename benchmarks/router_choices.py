"""How settings of the router are chosen: on training and validation splits alone; test splits are not read for it.

    python -m benchmarks.router_choices --data FOLDER [--part few ...] [--shots N ...]

FOLDER and encoder are those of ``benchmarks.router``. Only the classifier is fitted, so that what is compared is the
domain that it names.

``few``: below how many examples a domain counts as one of few, where the first regression sees the sentence embedding
alone and names are examples. Both ways are fitted with 5 to 96 examples of each intent: draws from the training split,
asked the validation split of CLINC150 or a fifth of BANKING77's training split; 96 are five folds of training and
validation split of CLINC150 together. The limit is chosen whose mean accuracy over all of these is highest, the lowest
one among equals. The rule was written down before it was run.

``beside``: which length of what stands beside the sentence embedding has the highest mean accuracy over five tasks. It
has not been run: the package's own length is a round number.

``unequal``: the least weight of a domain, as a share of the mean one. 30 of CLINC150's intents have five examples, the
others a hundred, and the validation split is asked. Domains of about equal size are not touched by a share of a
quarter, which is why it is no larger: BANKING77's smallest intent has .27 of the mean number of examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click
import numpy as np

from benchmarks.measure import machine
from examples.materials import calm_threads, encoder_folder, materials_home

calm_threads()

from sklearn.model_selection import StratifiedKFold  # noqa: E402  # after the threads are calmed

from benchmarks.router import Views  # noqa: E402  # as above
from benchmarks.router_data import Split, banking, clinc, drawn  # noqa: E402  # as above
from ual_registry.dispatch import classifier, encode  # noqa: E402  # as above
from ual_registry.dispatch.classifier import Floats  # noqa: E402  # as above
from ual_registry.dispatch.encode import CachedEncoder, load_encoder  # noqa: E402  # as above
from ual_registry.dispatch.fit import DomainExamples  # noqa: E402  # as above

_DRAWS = {5: 5, 10: 5, 20: 5, 40: 3, 80: 2}
"""Draws of so many examples of each intent."""
_FOLDS = 5
_FOLD_SHOTS = 96
"""Examples of each of CLINC150's intents in four of five folds of training and validation split."""
_HELD_OUT = 5
"""One of so many of BANKING77's training examples is asked."""
_LIMITS = (0, 12, 24, 48, 90, 1 << 30)
_LENGTHS = (0.0, 0.35, 0.5, 0.7, 1.0, 1.4)
_OWN_LENGTH = encode._BESIDE  # noqa: SLF001  # the package offers no choice of it
_UNCUT = 2 * classifier._LEAST_MEMBERS  # noqa: SLF001  # likewise
"""Examples per domain from which on it is cut into clusters."""
_SHARES = (0.0, 0.25)
_SMALL, _SMALL_SHOTS, _SMALL_DRAWS = 30, 5, 3


@dataclass(frozen=True, kw_only=True)
class Task:
    """Examples to fit on and queries to ask.

    Attributes:
        title: What it is.
        train: The examples.
        queries: The queries, none of which is among the examples.
    """

    title: str
    train: Split
    queries: Split


def few_tasks(folder: Path, shots: int) -> Iterator[Task]:
    """Yield the tasks with so many examples of each intent."""
    wide = clinc(folder, by_intent=True)
    if shots == _FOLD_SHOTS:
        whole = wide.train.joined(wide.validation)
        parts = StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(whole.texts, whole.labels)
        for train, asked in parts:
            yield Task(title=f"CLINC150, {shots}", train=whole.at(train), queries=whole.at(asked))
        return
    for seed in range(_DRAWS[shots]):
        own = wide.train.at(drawn(wide.train, shots, seed))
        yield Task(title=f"CLINC150, {shots}", train=own, queries=wide.validation)
    if shots < _UNCUT:  # with more, domains are cut into clusters, and the rule does not hold
        rest, asked_split = _banking_parts(folder)
        for seed in range(_DRAWS[shots]):
            own = rest.at(drawn(rest, shots, seed))
            yield Task(title=f"BANKING77, {shots}", train=own, queries=asked_split)


def length_tasks(folder: Path) -> Iterator[Task]:
    """Yield the tasks that the length of what stands beside is chosen on."""
    wide, ten = clinc(folder, by_intent=True), clinc(folder, by_intent=False)
    rest, asked = _banking_parts(folder)
    yield Task(title="CLINC150, 150 intents", train=wide.train, queries=wide.validation)
    yield Task(title="CLINC150, 10 domains", train=ten.train, queries=ten.validation)
    yield Task(title="BANKING77", train=rest, queries=asked)
    for seed in range(_DRAWS[10]):
        yield Task(title="BANKING77, 10", train=rest.at(drawn(rest, 10, seed)), queries=asked)
        yield Task(title="CLINC150, 10", train=wide.train.at(drawn(wide.train, 10, seed)), queries=wide.validation)


def _banking_parts(folder: Path) -> tuple[Split, Split]:
    """Return four fifths of BANKING77's training split, and the fifth that is asked."""
    own = banking(folder).train
    parts = StratifiedKFold(_HELD_OUT, shuffle=True, random_state=0).split(own.texts, own.labels)
    rest, asked = next(iter(parts))
    return own.at(rest), own.at(asked)


def unequal_tasks(folder: Path) -> Iterator[tuple[Task, set[str]]]:
    """Yield tasks in which some domains have few examples and the others many, with the names of the former."""
    wide = clinc(folder, by_intent=True)
    labels = np.array(wide.train.labels)
    for seed in range(_SMALL_DRAWS):
        small = set(np.random.default_rng(seed).permutation(wide.names)[:_SMALL].tolist())
        few = [place for place in drawn(wide.train, _SMALL_SHOTS, seed) if wide.train.labels[place] in small]
        many = np.flatnonzero(~np.isin(labels, sorted(small))).tolist()
        yield Task(title="CLINC150", train=wide.train.at(sorted(few + many)), queries=wide.validation), small


def accuracy(task: Task, views: Views, *, few: int | None = None, length: float = _OWN_LENGTH) -> float:
    """Return the share of queries whose domain is named; as ``rights``."""
    return float(rights(task, views, few=few, length=length).mean())


def rights(
    task: Task, views: Views, *, few: int | None = None, length: float = _OWN_LENGTH
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return for every query whether its domain is named.

    Args:
        task: What to fit on and to ask.
        views: The embeddings.
        few: Examples per domain below which they are few; the router's own where absent.
        length: Length of each part beside the sentence embedding.
    """
    names = sorted(set(task.train.labels))
    labels = np.array([names.index(own) for own in task.train.labels])
    words = tuple(DomainExamples(name=name, texts=()).label for name in names)
    embed = [_stretched(views.whole(own), views.width, length) for own in (task.train.texts, task.queries.texts, words)]
    with contextlib.nullcontext() if few is None else mock.patch.object(classifier, "_FEW", few):
        found = classifier.fit_classifier(embed[0], labels, len(names), names=embed[2], sentence_width=views.width)
    said = found.log_probabilities(found.logits(embed[1]), 1.0).argmax(axis=1)
    return np.array([names[own] == label for own, label in zip(said, task.queries.labels, strict=True)])


def _stretched(embeddings: Floats, width: int, length: float) -> Floats:
    """Return embeddings whose parts beside the sentence embedding have another length than they were made with."""
    scale = np.ones(embeddings.shape[1])
    scale[width:] = length / _OWN_LENGTH
    stretched = embeddings * scale
    found: Floats = stretched / np.linalg.norm(stretched, axis=1, keepdims=True)
    return found


def choose_few(folder: Path, views: Views, shots: Sequence[int]) -> None:
    """Print both ways by number of examples, and the limit that is best where all numbers are measured."""
    print(f"\n{'':28}{'as many':>10}{'as few':>10}{'gain':>10}{'range of gain':>20}")
    gains: dict[tuple[str, int], float] = {}
    for count in shots:
        found: dict[str, list[tuple[float, float]]] = {}
        for task in few_tasks(folder, count):
            pair = accuracy(task, views, few=0), accuracy(task, views, few=_LIMITS[-1])
            found.setdefault(task.title, []).append(pair)
        for title, pairs in found.items():
            many, few = np.array(pairs).T
            gains[title, count] = float((few - many).mean())
            spread = f"[{(few - many).min():+.4f}, {(few - many).max():+.4f}]"
            line = f"{many.mean():10.4f}{few.mean():10.4f}{gains[title, count]:+10.4f}{spread:>20}"
            print(f"{title:28}{line}", flush=True)
    totals = {limit: sum(gain for (_, count), gain in gains.items() if count < limit) / len(gains) for limit in _LIMITS}
    for limit, total in totals.items():
        said = "all" if limit == _LIMITS[-1] else str(limit)
        print(f"few below {said:18}{total:+10.5f}")
    print(f"chosen: {max(totals, key=lambda limit: (round(totals[limit], 9), -limit))}", flush=True)


def choose_length(folder: Path, views: Views) -> None:
    """Print the accuracy by length of what stands beside the sentence embedding, and the length that is best."""
    found: dict[str, list[list[float]]] = {}
    for task in length_tasks(folder):
        found.setdefault(task.title, []).append([accuracy(task, views, length=own) for own in _LENGTHS])
    print(f"\n{'':28}" + "".join(f"{own:>10g}" for own in _LENGTHS))
    means = {title: np.mean(rows, axis=0) for title, rows in found.items()}
    for title, row in means.items():
        print(f"{title:28}" + "".join(f"{own:10.4f}" for own in row), flush=True)
    total = np.mean(list(means.values()), axis=0)
    print(f"{'mean':28}" + "".join(f"{own:10.4f}" for own in total))
    print(f"chosen: {_LENGTHS[int(total.argmax())]:g}", flush=True)


def compare_shares(folder: Path, views: Views) -> None:
    """Print the accuracy on queries of small and of large domains by the least weight of a domain."""
    found: dict[float, list[tuple[float, float]]] = {own: [] for own in _SHARES}
    for task, small in unequal_tasks(folder):
        is_small = np.array([label in small for label in task.queries.labels])
        for share, pairs in found.items():
            with mock.patch.object(classifier, "_LEAST_SHARE", share):
                is_right = rights(task, views)
            pairs.append((float(is_right[is_small].mean()), float(is_right[~is_small].mean())))
    print(f"\n{'least share':28}{'five each':>10}{'others':>10}")
    for share, pairs in found.items():
        few, others = np.mean(pairs, axis=0)
        print(f"{share:<28g}{few:10.4f}{others:10.4f}", flush=True)


_SHOTS = (*_DRAWS, _FOLD_SHOTS)
_PARTS = ("few", "beside", "unequal")


@click.command()
@click.option("--data", "folder", required=True, type=click.Path(path_type=Path), help="Folder of both data sets.")
@click.option("--encoder", type=click.Path(path_type=Path), help="Folder of the encoder; fetched where absent.")
@click.option("--part", "parts", multiple=True, type=click.Choice(_PARTS), help="All where absent.")
@click.option("--shots", multiple=True, type=click.Choice([str(own) for own in _SHOTS]), help="All where absent.")
def main(folder: Path, encoder: Path | None, parts: tuple[str, ...], shots: tuple[str, ...]) -> None:
    """Choose settings of the router on training and validation splits."""
    raw = load_encoder(encoder or encoder_folder(), id="all-MiniLM-L6-v2")
    views = Views(CachedEncoder(raw, materials_home() / "embeddings.sqlite"))
    print(f"machine: {machine()}")
    if not parts or "few" in parts:
        choose_few(folder, views, [int(own) for own in shots] or _SHOTS)
    if not parts or "beside" in parts:
        choose_length(folder, views)
    if not parts or "unequal" in parts:
        compare_shares(folder, views)


if __name__ == "__main__":
    main()
