"""Where a log goes beside its JSONL file: TensorBoard and MLflow, each by its own package."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

from ual_registry.errors import MissingExtraError

__all__ = ["Sink", "open_sink"]


class Sink(Protocol):
    """What takes numbers while a run goes."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Take one number of a step."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


def open_sink(name: str, folder: Path) -> Sink:
    """Return the writer of a sink.

    Args:
        name: One of ``config.SINKS``.
        folder: The folder of the run, after which it is called.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise MissingExtraError(name, needed_for=f"a log for {name}")
    if name == "mlflow":
        return _MlflowRun(folder.name)
    board: Sink = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder / name))
    return board


class _MlflowRun:
    """A run of MLflow, where ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say.

    Args:
        name: What the run is called.
    """

    def __init__(self, name: str) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        self._id: str = self._mlflow.start_run(run_name=name, nested=True).info.run_id

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Take one number of a step."""
        self._mlflow.log_metric(name, value, step=step, run_id=self._id)

    def close(self) -> None:
        """Take no more."""
        self._mlflow.end_run()
