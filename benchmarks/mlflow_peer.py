"""MLflow's model registry as a peer: an environment of its own, and a process in it that answers questions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.latency import Sample

__all__ = ["MlflowError", "MlflowPeer", "environment", "prepare"]

_ENVIRONMENT = Path(__file__).parents[1] / "build" / "mlflow"
_PACKAGES = ("mlflow", "psycopg2-binary")
_WORKER = Path(__file__).with_name("mlflow_worker.py")


class MlflowError(Exception):
    """MLflow did not do what it was asked for; the message is its own."""


def environment() -> Path | None:
    """Return the interpreter of MLflow's environment, where it was made."""
    python = _ENVIRONMENT / "bin" / "python"
    return python if (_ENVIRONMENT / ".ready").exists() and python.exists() else None


def prepare() -> Path:
    """Make MLflow's environment with the newest MLflow, once, and return its interpreter.

    Raises:
        MlflowError: It cannot be installed.
    """
    found = environment()
    if found is not None:
        return found
    python = _ENVIRONMENT / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MlflowError(f"MLflow cannot be installed: {error}") from error
    (_ENVIRONMENT / ".ready").touch()
    return python


class MlflowPeer:
    """A process with an open MLflow store.

    Args:
        python: Interpreter of MLflow's environment.
        url: URL of its database; of a PostgreSQL, the form that libpq knows.

    Raises:
        MlflowError: The store cannot be opened.
    """

    def __init__(self, python: Path, url: str) -> None:
        quiet = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
        quiet |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
        self._process = subprocess.Popen(
            [str(python), str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ENVIRONMENT,
            env=quiet,
            text=True,
        )
        with_driver = url.replace("postgresql://", "postgresql+psycopg2://", 1)  # the one that MLflow asks for
        try:
            self.version = str(self._exchange({"url": with_driver})["found"][0])
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, **arguments: Any) -> Sample:
        """Ask a question of ``benchmarks.mlflow_worker`` and return what was found and what it cost.

        Raises:
            MlflowError: MLflow refuses, or its process has ended.
        """
        answer = self._exchange({"method": method, "arguments": arguments})
        return Sample(wall_s=answer["wall_s"], cpu_s=answer["cpu_s"], found=answer["found"])

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except OSError as error:
            raise MlflowError(f"MLflow's process has ended: {error}") from error
        answer: dict[str, Any] = json.loads(line) if line else {"error": "MLflow's process has ended"}
        if "error" in answer:
            raise MlflowError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.communicate()
