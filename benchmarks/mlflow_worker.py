"""MLflow's model registry behind standard input and output; runs in an environment of its own.

A line of JSON is a question, a line of JSON its answer: what was found, and the wall and processor time of MLflow's own
call alone. The first line is ``{"url": ...}``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PAGE = 100
_BY_NAME = ["name ASC", "version_number DESC"]


class Worker:
    """One store and its questions.

    Args:
        url: SQLAlchemy URL of its database, which is made ready where it is empty.
    """

    def __init__(self, url: str) -> None:
        self._entities = importlib.import_module("mlflow.entities.model_registry")
        module = importlib.import_module("mlflow.store.model_registry.sqlalchemy_store")
        self._store = module.SqlAlchemyStore(url)
        self._stat = self._backend_stat() if url.startswith("postgresql") else None

    def _backend_stat(self) -> Path:
        with self._store.engine.connect() as connection:
            number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        return Path(f"/proc/{number}/schedstat")

    def _cpu_seconds(self) -> float:
        """Return the processor time of this process and of the server's process that works for it."""
        server = int(self._stat.read_text().split()[0]) / 1e9 if self._stat is not None else 0.0
        return time.process_time() + server

    def answer(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Answer one question."""
        call: Callable[..., tuple[Callable[[], Any], Callable[[Any], Any]]] = getattr(self, f"ask_{method}")
        work, show = call(**arguments)
        cpu, start = self._cpu_seconds(), time.perf_counter()
        found = work()
        wall = time.perf_counter() - start
        return {"wall_s": wall, "cpu_s": self._cpu_seconds() - cpu, "found": show(found)}

    def ask_newest(self, name: str) -> Any:
        """Return the newest version of a model."""
        return lambda: self._store.get_model_version_by_alias(name, "latest"), lambda version: [version.source]

    def ask_alias(self, name: str, alias: str) -> Any:
        """Return the version that an alias names."""
        return lambda: self._store.get_model_version_by_alias(name, alias), lambda version: [version.source]

    def ask_number(self, name: str, number: int) -> Any:
        """Return where the bytes of a version are."""
        return lambda: self._store.get_model_version_download_uri(name, number), lambda source: [source]

    def ask_versions(self, query: str) -> Any:
        """Return the first page of the versions that a filter holds for."""
        return (
            lambda: self._store.search_model_versions(query, max_results=_PAGE, order_by=_BY_NAME),
            lambda page: [[version.name, version.version] for version in page],
        )

    def ask_models(self, query: str) -> Any:
        """Return the first page of the models that a filter holds for."""
        return (
            lambda: self._store.search_registered_models(query, max_results=_PAGE),
            lambda page: [model.name for model in page],
        )

    def ask_model(self, name: str, tags: dict[str, str]) -> Any:
        """Make a model."""
        given = [self._entities.RegisteredModelTag(key, value) for key, value in tags.items()]
        return lambda: self._store.create_registered_model(name, tags=given), lambda model: [model.name]

    def ask_version(self, name: str, source: str, tags: dict[str, str]) -> Any:
        """Make the next version of a model."""
        given = [self._entities.ModelVersionTag(key, value) for key, value in tags.items()]
        return (
            lambda: self._store.create_model_version(name, source, None, tags=given),
            lambda version: [[version.name, version.version]],
        )

    def ask_set_alias(self, name: str, alias: str, number: int) -> Any:
        """Point an alias at a version."""
        return lambda: self._store.set_registered_model_alias(name, alias, number), lambda _: []

    def ask_ingest(self, name: str, source: str, tags: dict[str, str]) -> Any:
        """Make a model and its first version, as one who registers an adapter would."""
        given = [self._entities.ModelVersionTag(key, value) for key, value in tags.items()]

        def work() -> Any:
            self._store.create_registered_model(name)
            return self._store.create_model_version(name, source, None, tags=given)

        return work, lambda version: [[version.name, version.version]]


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    worker: Worker | None = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer: dict[str, Any]
            if worker is None:
                worker = Worker(question["url"])
                answer = {"found": [importlib.import_module("mlflow").__version__]}
            else:
                answer = worker.answer(question["method"], question["arguments"])
        except Exception as error:  # noqa: BLE001  # the one who asked decides what to do with it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
