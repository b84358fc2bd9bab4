"""The file that settings of a training are written in: YAML, TOML or JSON, one document, unknown names refused."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from ual_registry.air.canonical import parse_json
from ual_registry.errors import TrainingError, UALError
from ual_registry.storage import read_file
from ual_registry.training.config import TrainingConfig, setting_error
from ual_registry.training.usual_names import USUAL_NAMES

__all__ = ["make_config", "parse_layers", "read_config"]

_MAX_BYTES = 1 << 20
_LISTS = ("roles", "layers", "exclude", "sinks")


def read_config(path: Path, **changes: Any) -> TrainingConfig:
    """Read settings; those of ``changes`` take the place of the file's.

    Args:
        path: A file that ends in ``.yaml``, ``.yml``, ``.toml`` or ``.json``.
        changes: Further settings by name.

    Raises:
        TrainingError: It is no such file, or a setting is unknown or wrong.
        StorageError: It cannot be read.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise _refusal(path, f"expected a name that ends in {', '.join(_PARSERS)}")
    data = read_file(path, limit_bytes=_MAX_BYTES)
    try:
        document = parse(data)
    except UALError as error:
        raise _refusal(path, f"is no {path.suffix[1:].upper()}: {error.message}") from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _refusal(path, f"is no {path.suffix[1:].upper()}: {' '.join(str(error).split())}") from error
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise _refusal(path, f"expected names with values, got a {type(document).__name__}")
    return make_config({**document, **changes})


_PARSERS: dict[str, Callable[[bytes], Any]] = {
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".toml": lambda data: tomllib.loads(data.decode("utf-8")),
    ".json": lambda data: parse_json(data, what="the document"),
}


def make_config(document: Mapping[str, Any]) -> TrainingConfig:
    """Make settings of a document: lists are lists or words with commas, layers may be ranges.

    Raises:
        TrainingError: A setting is unknown or wrong.

    >>> make_config({"roles": "attention_query,attention_value", "layers": "0-2,5"}).layers
    (0, 1, 2, 5)
    """
    known = [own.name for own in fields(TrainingConfig)]
    for name in document:
        if name not in known:
            raise setting_error(str(name), "there is no such setting", hint=_known_as(str(name), known))
    return TrainingConfig(**{name: _value(name, value) for name, value in document.items()})


def _known_as(name: str, known: list[str]) -> str:
    """Return what a setting is called here, which other programs or a slip of the pen call otherwise."""
    if name in USUAL_NAMES:
        return f"here it is {USUAL_NAMES[name]}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known settings: {', '.join(known)}"


def _value(name: str, value: Any) -> Any:
    """Turn a document's value into a setting's."""
    if name == "layers" and isinstance(value, (str, int)) and not isinstance(value, bool):
        return parse_layers(str(value))
    if name in _LISTS and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> float | str:
    """Read the numbers that YAML takes for words, such as 2e-4."""
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+", text) else text


def parse_layers(text: str) -> tuple[int, ...]:
    """Read layers as people write them.

    Raises:
        TrainingError: They are written otherwise.

    >>> parse_layers("0-2, 5")
    (0, 1, 2, 5)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise setting_error("layers", f"expected layers such as 0-11,14, got {text!r}")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def _refusal(path: Path, problem: str) -> TrainingError:
    return TrainingError(f"{path}: {problem}", code="config-file", context={"path": str(path)})
