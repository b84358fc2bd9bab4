"""The text that the zoo is made of: real text of this machine, split by document.

Four parts share no document:

* `prose`: docstrings of the Python standard library and of five packages, and the descriptions of all installed
  packages. The base models are trained on it.
* `changelogs`: Debian changelogs, one document for each source package. It is the domain of the adapters.
* `code`: the program text of the standard library, without docstrings and comments. Adapters of this domain are the
  wrong-task control.

Licences: the standard library is under the PSF licence; NumPy, scikit-learn, NetworkX and PyTorch under BSD
licences, Transformers under Apache 2.0; descriptions and changelogs under the licences of their packages.
Nothing of it is redistributed. It is read where it lies, so another machine has a somewhat different corpus; the
digest in the results tells which one a number belongs to.
This module decides what a document is and which split it is in; tokens and models are left to others.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import importlib.metadata
import importlib.util
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ual_registry.digest import Digest

__all__ = ["DOMAINS", "Domain", "prose", "prose_digest"]

_PACKAGES = ("numpy", "sklearn", "networkx", "torch", "transformers")
_CAP_CHARACTERS = 12_000
"""What one document of prose gives at most, so that no module outweighs the others."""
_PACKAGE_CHARACTERS = 1_400_000
_PASSAGE_CHARACTERS = 320
"""A passage has fewer tokens in every vocabulary than the windows that bases are trained on: what comes later in a
text, a base with learned positions has never read."""
_CHANGELOGS = Path("/usr/share/doc")
_FIRST_LINE = re.compile(r"([a-z0-9][a-z0-9.+-]+) \([^)]+\) [^;\n]+; urgency=")
_MOST_PASSAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The text of an adapter's domain, in passages; no document is in two splits.

    Attributes:
        name: Its name.
        train: What adapters are trained on.
        text: Unlabelled text of the domain for the ways of transfer that ask for some; no adapter has seen it.
        dev: What doses and settings are chosen on; one passage of a document.
        test: What is reported; one passage of a document.
    """

    name: str
    train: tuple[str, ...]
    text: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        """The digest of all passages, with their splits."""
        parts = [self.train, self.text, self.dev, self.test]
        return Digest.of_bytes("\0\0".join("\0".join(part) for part in parts).encode())


# Prose


def prose() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the documents of the base corpus: those to train on, and those held out, one of twenty."""
    documents = list(_distinct(_prose_documents()))
    train = tuple(text for text in documents if _share(text) >= 0.05)
    return train, tuple(text for text in documents if _share(text) < 0.05)


def prose_digest(documents: Iterable[str]) -> Digest:
    """Return the digest of documents in their order."""
    return Digest.of_bytes("\0".join(documents).encode())


def _prose_documents() -> Iterator[str]:
    yield from _docstrings(Path(sysconfig.get_path("stdlib")), limit=None)
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            yield from _docstrings(Path(found.origin).parent, limit=_PACKAGE_CHARACTERS)
    described = {
        own.metadata["Name"]: own.metadata.json.get("description", "") for own in importlib.metadata.distributions()
    }
    for name in sorted(described):
        yield str(described[name])[:_CAP_CHARACTERS]


def _docstrings(folder: Path, *, limit: int | None) -> Iterator[str]:
    """Yield the docstrings of each module as one document, in the order of digests, up to `limit` characters."""
    taken = 0
    for file in sorted(_modules(folder), key=lambda file: _hash(str(file.relative_to(folder)))):
        text = "\n\n".join(_module_docstrings(file))[:_CAP_CHARACTERS]
        taken += len(text)
        if limit is not None and taken > limit:
            return
        yield text


def _modules(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        inside = file.relative_to(folder).parts
        if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(inside):
            yield file


def _module_docstrings(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text is not None and len(text) >= 40:
                yield text


def _distinct(documents: Iterable[str]) -> Iterator[str]:
    """Leave out short documents, and those that begin as another one did."""
    seen = set()
    for text in documents:
        start = text[:200]
        if len(text) >= 200 and start not in seen:
            seen.add(start)
            yield text


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _share(name: str) -> float:
    """Return a number in 0..1 that follows from a text alone."""
    return int(_hash(name)[:8], 16) / 0x1_0000_0000


# Domains


def _changelogs() -> Domain:
    texts = {}
    for file in sorted(_CHANGELOGS.glob("*/changelog*.gz")):
        with gzip.open(file, "rt", encoding="utf-8", errors="replace") as stream:
            text = stream.read(_MOST_PASSAGES * _PASSAGE_CHARACTERS)
        named = _FIRST_LINE.match(text)
        if named and named.group(1) not in texts:
            texts[named.group(1)] = text
    return _domain("changelogs", texts)


def _code() -> Domain:
    folder = Path(sysconfig.get_path("stdlib"))
    texts = {}
    for file in sorted(_modules(folder)):
        try:
            source = file.read_text(encoding="utf-8")
            texts[str(file.relative_to(folder))] = _without_prose(source)[: _MOST_PASSAGES * _PASSAGE_CHARACTERS]
        except (SyntaxError, UnicodeDecodeError, ValueError, tokenize.TokenError):
            continue
    return _domain("code", texts)


def _without_prose(source: str) -> str:
    """Return a module without its docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body[:] = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _domain(name: str, texts: dict[str, str]) -> Domain:
    """Split documents by the digest of their names: test 64, dev 32, text 64, the rest to train on."""
    long = {own: text for own, text in texts.items() if len(text) >= _PASSAGE_CHARACTERS}
    ordered = [_passages(long[own]) for own in sorted(long, key=_hash)]
    test, dev, text, train = ordered[:64], ordered[64:96], ordered[96:160], ordered[160:]
    return Domain(
        name=name,
        train=tuple(passage for own in train for passage in own),
        text=tuple(passage for own in text for passage in own),
        dev=tuple(own[0] for own in dev),
        test=tuple(own[0] for own in test),
    )


def _passages(text: str) -> list[str]:
    """Cut a document into passages of one length; what is left over at the end is no passage."""
    starts = range(0, len(text) - _PASSAGE_CHARACTERS + 1, _PASSAGE_CHARACTERS)
    return [text[start : start + _PASSAGE_CHARACTERS] for start in starts]


DOMAINS: dict[str, Callable[[], Domain]] = {"changelogs": _changelogs, "code": _code}
"""The domains by name; each is read when it is called."""
