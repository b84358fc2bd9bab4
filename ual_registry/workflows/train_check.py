"""What of a training can be refused before any work: its base, names and places; nothing here loads a framework."""

from __future__ import annotations

from pathlib import Path

from ual_registry.errors import RegistryError, StorageError
from ual_registry.registry.reference import check_name
from ual_registry.storage import check_target
from ual_registry.training.folder import check_run
from ual_registry.training.launch import is_first
from ual_registry.workflows.train_order import TrainOrder

__all__ = ["check_base", "check_order"]

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"


def check_order(order: TrainOrder) -> bool:
    """Check what is asked for, and tell whether a run goes on.

    Raises:
        StorageError: The base model is no folder here, or what is to be written stands there already.
        FormatError: The run's folder holds something else.
        RegistryError: The result could not be added to the registry.
    """
    check_base(order.base)
    check_target(Path(order.output), force=order.is_forced)
    goes_on = is_first() and check_run(order.run_folder, resume=order.is_resumed or order.is_forced)
    if order.is_recorded:
        _check_recordable(order)
    return goes_on and order.is_resumed


def check_base(base: str | Path) -> None:
    """Make sure that a base model is a folder on this machine; nothing is fetched for a training.

    Raises:
        StorageError: It is not.
    """
    place = Path(base)
    if (place / _CONFIG).is_file():
        return
    fetch = "hf download OWNER/NAME --local-dir FOLDER"
    if place.is_file():
        problem, hint = "it is a file", f"give the folder, {place.parent}" if place.name == _CONFIG else None
    elif (place / _ADAPTER).is_file():
        problem, hint = "it is an adapter", "give the folder of its base model; train on top of it after merging it"
    elif place.is_dir():
        problem, hint = f"it has no {_CONFIG}", f"fetch a base model into a folder: {fetch}"
    else:
        problem, hint = "no such folder", f"ual train fetches nothing; fetch it first: {fetch}"
    raise StorageError(f"base model {place}: expected its folder; {problem}", context={"path": str(place)}, hint=hint)


def _check_recordable(order: TrainOrder) -> None:
    """Make sure, before the training, that its result can be added to the registry."""
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # a database library comes along

    name = order.labels.get("name")
    if name is None:
        raise RegistryError(
            "cannot record the adapter: it has no name", code="not-recordable", hint="give it a name (--name)"
        )
    check_name(name)
    if is_first():
        registry = Registry.open()
        with registry.blobs.private_folder(), registry.database.session(writes=True):
            pass  # both halves can be written
