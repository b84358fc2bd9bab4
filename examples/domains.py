"""Three small domains of real text, from ordinary packages of the Python package index.

* `conversation`: questions and answers in English, from `chatterbot-corpus` (BSD);
* `cloud`: what the operations of cloud services do, from the descriptions in `botocore` (Apache-2.0);
* `mathematics`: functions of a computer algebra system with their docstrings, from `sympy` (BSD).

A document is a question with its answers, a service, or a module. Train and test share no document: which of the two
a document is in follows from its digest. The packages are pinned by version and digest, so that every machine gets
the same text, and are small enough that an adapter for each domain is trained in a few minutes on two cores.
This module decides what the texts are; training is left to `ual train` and `examples/three_domains.py`.

Run `python -m examples.domains FOLDER` to write `FOLDER/NAME/train.jsonl` and `FOLDER/NAME/test.jsonl`.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from examples.materials import Wheel, wheel_file
from ual_registry.training.examples import write_examples
from ual_registry.training.forms import Example

__all__ = ["DOMAINS", "Domain", "load_domain", "write_domains"]

_TRAIN_CHARACTERS, _TEST_CHARACTERS = 100_000, 20_000
_PASSAGE_CHARACTERS = 600
_ANSWERS = 3
"""How many answers of one question are taken."""
_OPERATIONS = 4
"""How many operations of one service are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The texts of one domain; no document is on both sides.

    Attributes:
        name: Its name.
        train: What an adapter may be trained on.
        test: What it is measured on.
    """

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def load_domain(name: str) -> Domain:
    """Return a domain, fetching its package where it is not there yet.

    Args:
        name: A key of `DOMAINS`.

    Raises:
        KeyError: `name` is no key of `DOMAINS`.
        MaterialsError: The package cannot be fetched, or differs from its pinned size or digest.
    """
    wheel, read = DOMAINS[name]
    with zipfile.ZipFile(wheel_file(wheel)) as archive:
        documents: dict[str, list[Example]] = {}
        for document, text in read(archive):
            documents.setdefault(document, []).append(Example(document=document, text=text))
    ranked = sorted(documents.values(), key=lambda texts: texts[0].document_digest)
    test, start = _take(ranked, 0, _TEST_CHARACTERS)
    train, _ = _take(ranked, start, _TRAIN_CHARACTERS)
    return Domain(name=name, train=train, test=test)


def _take(ranked: list[list[Example]], start: int, characters: int) -> tuple[tuple[Example, ...], int]:
    """Return whole documents from `start` on until they have so many characters, and where the next one is."""
    taken: list[Example] = []
    while start < len(ranked) and sum(len(own.text or "") for own in taken) < characters:
        taken += ranked[start]
        start += 1
    return tuple(taken), start


def write_domains(folder: Path) -> None:
    """Write the texts of every domain; those of a test without their documents, as `ual evaluate` reads them."""
    for name in DOMAINS:
        domain = load_domain(name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_examples(folder / name / "train.jsonl", domain.train)
        write_examples(folder / name / "test.jsonl", (Example(text=own.text) for own in domain.test))


def _conversation(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield questions with their answers; the document is the question."""
    counts: dict[str, int] = {}
    for member in sorted(archive.namelist()):
        if not re.fullmatch(r"chatterbot_corpus/data/english/\w+\.yml", member):
            continue
        for turns in yaml.safe_load(archive.read(member))["conversations"]:
            question, answer = (" ".join(str(turn).split()) for turn in turns[:2])
            key = question.lower()
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= _ANSWERS:
                yield key, _cut(f"{question}\n{answer}")


def _cloud(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield what operations do, in the newest description of each service; the document is the service."""
    newest: dict[str, str] = {}
    for member in sorted(archive.namelist()):
        found = re.fullmatch(r"botocore/data/([\w.-]+)/[0-9-]+/service-2\.json\.gz", member)
        if found:
            newest[found[1]] = member
    for service, member in newest.items():
        operations = json.loads(gzip.decompress(archive.read(member)))["operations"]
        told = (_plain(operation.get("documentation", "")) for _, operation in sorted(operations.items()))
        for text in [text for text in told if len(text) >= _PASSAGE_CHARACTERS // 4][:_OPERATIONS]:
            yield service, _cut(text)


def _plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def _mathematics(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Yield the first function of every module that says what it does; the document is the module."""
    for member in sorted(archive.namelist()):
        if not re.fullmatch(r"sympy/(?!.*(tests|benchmarks|parser/autolev|parser/latex)/).*\.py", member):
            continue
        source = archive.read(member).decode()
        found = re.search(r'^def \w+\((?:[^"\n]*\n){1,4}?    r?"""(?:.*\n)+?(?=\S)', source, re.MULTILINE)
        if found:
            yield member, _cut(found[0].rstrip())


def _cut(text: str) -> str:
    """Return a text, or its beginning up to the end of a word."""
    if len(text) <= _PASSAGE_CHARACTERS:
        return text
    return text[: _PASSAGE_CHARACTERS + 1].rsplit(maxsplit=1)[0]


Reader = Callable[[zipfile.ZipFile], Iterator[tuple[str, str]]]

DOMAINS: dict[str, tuple[Wheel, Reader]] = {
    "conversation": (
        Wheel(
            package="chatterbot-corpus",
            version="1.3.3",
            filename="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
            size_bytes=345_706,
            sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
            member=None,
        ),
        _conversation,
    ),
    "cloud": (
        Wheel(
            package="botocore",
            version="1.44.8",
            filename="botocore-1.44.8-py3-none-any.whl",
            size_bytes=16_884_815,
            sha256="76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043",
            member=None,
        ),
        _cloud,
    ),
    "mathematics": (
        Wheel(
            package="sympy",
            version="1.14.0",
            filename="sympy-1.14.0-py3-none-any.whl",
            size_bytes=6_299_353,
            sha256="e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
            member=None,
        ),
        _mathematics,
    ),
}
"""The domains: each one's package, and what makes documents and texts of it."""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.domains FOLDER")
    write_domains(Path(sys.argv[1]))
