"""Read what a command about binders is given: a binder document, or the config of a base model; say which it is not."""

from __future__ import annotations

from pathlib import Path

from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.load import load_binder
from ual_registry.binders.model import Binder
from ual_registry.errors import BinderDataError, StorageError
from ual_registry.workflows.bases import address_of, find_base

__all__ = ["is_document", "read_base", "read_config", "read_document", "read_either"]

_WRITES = "`ual binder infer BASE -o FILE` writes a binder document"


def is_document(config: BaseConfig) -> bool:
    """Tell whether what was read as a config is a binder document."""
    return "binder_version" in config.document


def read_either(path: Path) -> BaseConfig:
    """Read a binder document or the config of a base model.

    Raises:
        StorageError: There is no such file, or none of this name in the folder.
        BinderDataError: It is neither.
    """
    _check_folder(path)
    try:
        found = load_base(path)
    except BinderDataError as error:
        raise BinderDataError(
            error.message,
            context={"path": str(path)},
            hint="give a binder document, a base model's folder, or its config.json",
        ) from error
    if not is_document(found) and not isinstance(found.document.get("model_type"), str):
        raise BinderDataError(
            f"{path}: neither a binder document (no binder_version) nor a base model's config (no model_type)",
            context={"path": str(path)},
            hint="give a binder document, a base model's folder, or its config.json",
        )
    return found


def read_config(path: Path) -> BaseConfig:
    """Read the config of a base model.

    Raises:
        StorageError: There is no such file, or none of this name in the folder.
        BinderDataError: It is no config.
    """
    found = read_either(path)
    if is_document(found):
        raise BinderDataError(
            f"{path}: is a binder document, expected a base model's config.json",
            context={"path": str(path)},
            hint=f"`ual binder show {path}` shows it, `ual binder check {path}` checks it",
        )
    return found


def read_base(base: str | Path) -> BaseConfig:
    """Read the config of a base model, which may be on the Hub.

    Raises:
        StorageError: There is no such file, or none of this name in the folder.
        HubError: The Hub has it not, or does not give it.
        BinderDataError: It is no config.
    """
    if address_of(base) is None:
        return read_config(Path(base))
    return find_base(base).config


def read_document(path: Path) -> Binder:
    """Read a binder document.

    Raises:
        StorageError: There is no such file.
        BinderDataError: It is no legal binder document.
    """
    if path.is_dir():
        raise StorageError(
            f"cannot read {path}: is a folder, expected a binder document", context={"path": str(path)}, hint=_WRITES
        )
    if not path.exists():
        raise StorageError(f"cannot read {path}: no such file", context={"path": str(path)}, hint=_WRITES)
    if not is_document(read_either(path)):
        raise BinderDataError(
            f"{path}: is a base model's config, expected a binder document",
            context={"path": str(path)},
            hint=f"`ual binder infer {path} -o FILE` writes the binder document of this model",
        )
    return load_binder(path)


def _check_folder(path: Path) -> None:
    """Say what a folder without a config is, as far as can be told."""
    if not path.is_dir() or (path / "config.json").exists():
        return
    is_peft = (path / "adapter_config.json").exists()
    raise StorageError(
        f"cannot read {path}: " + ("is a PEFT adapter" if is_peft else "no config.json in this folder"),
        context={"path": str(path)},
        hint="give the folder of a base model, in which its config.json is, or that file",
    )
