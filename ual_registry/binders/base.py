"""A base model as its ``config.json`` describes it: the bytes, their digest, and the numbers in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ual_registry.air.canonical import canonical_bytes, parse_json
from ual_registry.binders.model import Condition, Way
from ual_registry.digest import Digest
from ual_registry.errors import BinderDataError, FormatError, StorageError
from ual_registry.storage import read_file

__all__ = ["BaseConfig", "load_base"]

_MAX_CONFIG_BYTES = 16 << 20


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

    def satisfies(self, condition: Condition) -> bool:
        """Tell whether the config has one of the condition's values; equality is that of JSON, absent is ``null``."""
        found = canonical_bytes(self._field(condition.field))
        return any(found == canonical_bytes(value) for value in condition.values)

    def number(self, ways: tuple[Way, ...], *, what: str) -> float:
        """Return the first number that one of ``ways`` yields.

        Args:
            ways: Config fields, numbers, quotients or products, in order of preference.
            what: The number's name, for the message.

        Raises:
            BinderDataError: No way yields a positive number.
        """
        for way in ways:
            value = self._way(way)
            if value is not None and value > 0:
                return value
        tried = ", ".join(str(way) if isinstance(way, (str, int, float)) else str(dict(way)) for way in ways)
        raise BinderDataError(f"config of {self.label}: no positive number for {what} (tried {tried})")

    def _way(self, way: Way) -> float | None:
        if not isinstance(way, Mapping):
            return self._operand(way)
        operator, operands = next(iter(way.items()))
        left, right = (self._operand(operand) for operand in operands)
        if left is None or right is None:
            return None
        if operator == "product":
            return left * right
        return left / right if right else None

    def _operand(self, operand: str | float) -> float | None:
        value = self._field(operand) if isinstance(operand, str) else operand
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def _field(self, path: str) -> Any:
        value: Any = self.document
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def load_base(path: Path) -> BaseConfig:
    """Read the config of a base model.

    Args:
        path: A model folder, or a ``config.json``.

    Raises:
        StorageError: There is no such file.
        BinderDataError: The file is no JSON object.
    """
    if not path.exists():
        raise StorageError(
            f"cannot read {path}: no such file or folder",
            context={"path": str(path)},
            hint="a base model is given as a local model folder or its config.json; for a model on the Hub, "
            "download its config.json first",
        )
    file = path / "config.json" if path.is_dir() else path
    data = read_file(file, limit_bytes=_MAX_CONFIG_BYTES)
    try:
        document = parse_json(data, what=str(file))
    except FormatError as error:
        raise BinderDataError(error.message) from error
    if not isinstance(document, dict):
        raise BinderDataError(f"{file}: expected a JSON object")
    folder = path if path.is_dir() else file.resolve().parent
    return BaseConfig(label=folder.resolve().name or "base", document=document, digest=Digest.of_bytes(data))
