"""Configs of base models that were read from the Hub, kept so that a pinned commit is asked for once.

A config at a commit never changes, so nothing here grows old. What was damaged is not believed, and a cache that
cannot be written is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from ual_registry.errors import StorageError
from ual_registry.storage import atomic_file, read_file

__all__ = ["ConfigCache"]

_MAX_KEPT_BYTES = 1 << 20
_SUFFIX = ".config"


def _usual_folder() -> Path:
    import platformdirs  # noqa: PLC0415  # only where a base model on the Hub is named

    return Path(platformdirs.user_cache_dir("ual-registry", appauthor=False)) / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCache:
    """A folder of configs, each under the digest of where it is from.

    Attributes:
        folder: The folder; by default in the platform's cache of this user.
    """

    folder: Path = field(default_factory=_usual_folder)

    def get(self, endpoint: str, repository: str, commit: str) -> bytes | None:
        """Return the config of a base model at a commit; ``None`` where it is not kept."""
        try:
            kept = read_file(self._file(endpoint, repository, commit), limit_bytes=_MAX_KEPT_BYTES + 65)
        except StorageError:
            return None
        digest, _, data = kept.partition(b"\n")
        return data if hashlib.sha256(data).hexdigest().encode() == digest else None

    def put(self, endpoint: str, repository: str, commit: str, data: bytes) -> None:
        """Keep the config of a base model at a commit, unless it is very large."""
        if len(data) > _MAX_KEPT_BYTES:
            return
        with contextlib.suppress(OSError, StorageError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._file(endpoint, repository, commit)) as out:
                out.write(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)

    def _file(self, endpoint: str, repository: str, commit: str) -> Path:
        key = hashlib.sha256("\n".join((endpoint, repository, commit)).encode()).hexdigest()
        return self.folder / f"{key}{_SUFFIX}"
