"""A base model's ``config.json``: the document and the digest of its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, FormatError, StorageError
from ual_registry.storage import read_file

__all__ = ["MAX_CONFIG_BYTES", "BaseConfig", "load_base", "no_base_folder", "parse_base"]

MAX_CONFIG_BYTES = 16 << 20
"""What is read of a ``config.json``; it has a few kilobytes."""

_HINT = "a base model is given as a model folder, its config.json, or OWNER/NAME on the Hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """A parsed ``config.json``.

    Attributes:
        label: What to call the model where nothing better is known: the name of its folder.
        document: The config.
        digest: Digest of the file's bytes.
    """

    label: str
    document: Mapping[str, Any]
    digest: Digest

    @property
    def model_type(self) -> str:
        """The model type.

        Raises:
            BinderDataError: The config has none.
        """
        value = self.document.get("model_type")
        if not isinstance(value, str):
            raise BinderDataError(
                f"config of {self.label}: missing model_type",
                hint="give the config.json of a transformers model",
            )
        return value

    @property
    def model_classes(self) -> tuple[str, ...]:
        """The classes that the config names; often one, sometimes none."""
        value = self.document.get("architectures")
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def load_base(path: Path) -> BaseConfig:
    """Read the config of a base model.

    Args:
        path: A model folder, or a ``config.json``.

    Raises:
        StorageError: There is no such file.
        BinderDataError: The file is no JSON object.
    """
    if not path.exists():
        raise StorageError(f"cannot read {path}: no such file or folder", context={"path": str(path)}, hint=_HINT)
    file = path / "config.json" if path.is_dir() else path
    folder = path if path.is_dir() else file.resolve().parent
    try:
        data = read_file(file, limit_bytes=MAX_CONFIG_BYTES)
        return parse_base(data, label=folder.resolve().name or "base", what=str(file))
    except (StorageError, BinderDataError) as error:
        if not isinstance(error.__cause__, PermissionError):
            error.hint = _HINT
        raise


def parse_base(data: bytes, *, label: str, what: str) -> BaseConfig:
    """Parse the config of a base model.

    Args:
        data: The bytes of its ``config.json``.
        label: What to call the model where nothing better is known.
        what: What the bytes are, for errors.

    Raises:
        BinderDataError: They are no JSON object.
    """
    try:
        document = parse_json(data, what=what)
    except FormatError as error:
        raise BinderDataError(error.message) from error
    if not isinstance(document, dict):
        raise BinderDataError(f"{what}: expected a JSON object")
    return BaseConfig(label=label, document=document, digest=Digest.of_bytes(data))


def no_base_folder(place: Path) -> StorageError:
    """Return the error that a base model with weights cannot be read from a path, since it is no folder.

    Args:
        place: What was given.
    """
    is_file = place.is_file()
    found = "is a file, expected a folder with config.json and weights" if is_file else "no such folder"
    hint = "check the path; weights on the Hub are never fetched: download them, and give their folder"
    if is_file and place.name == "config.json":
        hint = f"give the folder: {place.parent}"
    return StorageError(f"cannot read {place}: {found}", context={"path": str(place)}, hint=hint)
