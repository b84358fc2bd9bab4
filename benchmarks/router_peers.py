"""Other ways to choose a domain from the same sentence embeddings, and the package semantic-router in a process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from benchmarks.router_data import Data, Split
from ual_registry.dispatch.classifier import Floats

__all__ = ["Encode", "PeerError", "Scores", "chosen_penalty", "logistic", "neighbours", "semantic_router"]

_NEIGHBOURS = 5
_PENALTIES = (1.0, 10.0, 30.0)
_FOLDS = 3
_ENVIRONMENT = Path(__file__).parents[1] / "build" / "semantic-router"
_PACKAGE = "semantic-router==1.1.1"
_WORKER = Path(__file__).with_name("semantic_router_worker.py")

Encode = Callable[[tuple[str, ...]], Floats]
Scores = Callable[[tuple[str, ...]], tuple[Floats, Floats]]
"""Returns (queries, domains) preferences and (queries,) how far each query is in scope."""


class PeerError(Exception):
    """The package cannot be installed, or does not do what it was asked for."""


def logistic(data: Data, encode: Encode, *, inverse_penalty: float) -> Scores:
    """Return plain multinomial logistic regression; its probability tells scope."""
    names = data.names
    labels = np.array([names.index(own) for own in data.train.labels])
    model = LogisticRegression(C=inverse_penalty, max_iter=300).fit(encode(data.train.texts).astype(np.float32), labels)

    def scores(texts: tuple[str, ...]) -> tuple[Floats, Floats]:
        found = model.predict_proba(encode(texts).astype(np.float32)).astype(np.float64)
        return found, found.max(axis=1)

    return scores


def neighbours(data: Data, encode: Encode) -> Scores:
    """Return k nearest neighbours, weighted by cosine; their mean cosine tells scope."""
    names = data.names
    labels = np.array([names.index(own) for own in data.train.labels])
    train = encode(data.train.texts)

    def scores(texts: tuple[str, ...]) -> tuple[Floats, Floats]:
        queries = encode(texts)
        found, scope = np.zeros((len(queries), len(names))), np.empty(len(queries))
        for start in range(0, len(queries), 500):  # so that the cosines take little memory
            cosines = queries[start : start + 500] @ train.T
            top = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
            near = np.take_along_axis(cosines, top, axis=1)
            rows = np.arange(start, start + len(top))
            np.add.at(found, (rows[:, None], labels[top]), near)
            scope[rows] = near.mean(axis=1)
        return found, scope

    return scores


def semantic_router(data: Data, encode: Encode) -> Scores:
    """Return the package semantic-router with its own settings, calibrated on validation queries where there are some.

    Raises:
        PeerError: It cannot be installed, or fails.
    """
    names = data.names
    python = _prepared()

    def scores(texts: tuple[str, ...]) -> tuple[Floats, Floats]:
        unique = tuple(dict.fromkeys(texts))
        parts = {"train": data.train, "validation": data.validation, "queries": Split(unique)}
        with tempfile.TemporaryDirectory(prefix="ual-router-") as folder:
            question, answer = Path(folder) / "question.npz", Path(folder) / "answer.npz"
            arrays = {f"{name}_texts": np.array(own.texts, dtype=np.str_) for name, own in parts.items()}
            arrays |= {f"{name}_embeddings": encode(own.texts).astype(np.float32) for name, own in parts.items()}
            arrays |= {f"{name}_routes": np.array(own.labels, dtype=np.str_) for name, own in parts.items()}
            np.savez(question, **arrays)  # type: ignore[arg-type]  # its stubs take the names for its own options
            _run(str(python), str(_WORKER), str(question), str(answer))
            with np.load(answer) as said:
                routes, confidence = said["routes"].tolist(), said["confidence"]
        place = {text: row for row, text in enumerate(unique)}
        rows = np.array([place[text] for text in texts])
        found = np.full((len(texts), len(names)), -1.0)
        found[np.arange(len(texts)), [names.index(routes[row]) for row in rows]] = 0.0
        return found, confidence[rows]

    return scores


def chosen_penalty(data: Data, encode: Encode) -> float:
    """Return the inverse penalty of logistic regression that folds of the training split prefer."""
    labels = np.array(data.train.labels)
    embeddings = encode(data.train.texts).astype(np.float32)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    found = [
        cross_val_score(LogisticRegression(C=own, max_iter=100), embeddings, labels, cv=folds).mean()
        for own in _PENALTIES
    ]
    return _PENALTIES[int(np.argmax(found))]


def _prepared() -> Path:
    """Make the package's environment, once, and return its interpreter."""
    python = _ENVIRONMENT / "bin" / "python"
    if not (_ENVIRONMENT / ".ready").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT))
        _run(str(python), "-m", "pip", "install", "--quiet", _PACKAGE)
        (_ENVIRONMENT / ".ready").touch()
    return python


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip().splitlines()[-1:] if isinstance(error, subprocess.CalledProcessError) else []
        raise PeerError(f"{_PACKAGE}: {' '.join(said) or error}") from error
