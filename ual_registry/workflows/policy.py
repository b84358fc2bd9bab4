"""Read a policy file: TOML with the fields of ``Policy``, all of them optional."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ual_registry.air.policy import REQUIREMENTS, Policy
from ual_registry.errors import FormatError, StorageError
from ual_registry.storage import read_file

__all__ = ["load_policy"]

_LIMIT_BYTES = 1_000_000


def load_policy(path: str | Path) -> Policy:
    """Read a policy file.

    Args:
        path: The file.

    Raises:
        StorageError: It cannot be read.
        FormatError: It is not TOML, or holds something that a policy does not know (code ``policy-file``).
    """
    try:
        data = read_file(Path(path), limit_bytes=_LIMIT_BYTES)
    except StorageError as error:
        if str(path) in REQUIREMENTS:
            error.hint = f"a policy is a file; a requirement is asked for by --require {path}"
        raise
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"not TOML in UTF-8: {error}") from error
    return Policy(**{key: _value(path, key, value) for key, value in document.items()})


def _wrong(path: str | Path, message: str) -> FormatError:
    return FormatError(
        f"{path}: {message}", context={"path": str(path)}, code="policy-file", hint=f"known: {', '.join(_FIELDS)}"
    )


def _value(path: str | Path, key: str, value: Any) -> Any:
    if key not in _FIELDS:
        raise _wrong(path, f"unknown key {key!r}")
    is_right, expected = _FIELDS[key]
    if not is_right(value):
        raise _wrong(path, f"{key}: expected {expected}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_requirements(value: Any) -> bool:
    return _is_texts(value) and all(item in REQUIREMENTS for item in value)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "require": (_is_requirements, f"a list of {', '.join(REQUIREMENTS)}"),
    "strict": (lambda value: isinstance(value, bool), "true or false"),
    "allowed_licenses": (_is_texts, "a list of SPDX identifiers"),
    "allowed_base_models": (_is_texts, "a list of ids or config digests"),
    "max_size_bytes": (_is_size, "a whole number of bytes"),
}
