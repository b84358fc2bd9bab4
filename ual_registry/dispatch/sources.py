"""Where adapters come from: what a reference means now, and the bytes of a digest."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import BaseModel
from ual_registry.air.read import read
from ual_registry.digest import Digest
from ual_registry.errors import DigestMismatchError, RegistryError, StorageError
from ual_registry.registry.reference import is_path
from ual_registry.registry.registry import Registry

__all__ = ["AdapterSource", "other_base"]


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was when its digest was taken."""

    digest: Digest
    state: tuple[int, int, int]


class AdapterSource:
    """Finds adapters in a registry and in files; threads may share it.

    Args:
        registry: The registry; the usual one, opened when it is first needed, where absent.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        self._places: dict[str, Path] = {}

    def resolve(self, reference: str) -> str:
        """Return the digest of what a reference means at this moment.

        Args:
            reference: ``name``, ``name@3``, ``name@alias``, ``sha256:...``, or the path of an AIR file.

        Raises:
            RegistryError: It names nothing in the registry.
            StorageError: There is no such file.
        """
        if is_path(reference):
            return self._of_file(Path(reference))
        if reference in self._places:  # the digest of a file that was named before
            return reference
        return str(self._opened().resolve(reference))

    def open(self, digest: str) -> Adapter:
        """Open the adapter of a digest, its bytes compared with it; close it.

        Raises:
            RegistryError: The registry does not hold it.
            DigestMismatchError: The bytes are others.
            FormatError: It is no adapter.
            StorageError: The file cannot be read.
        """
        path, is_compared = self._found(digest)
        if not is_compared:
            _compare(path, digest)
        return read(path)

    def file(self, digest: str) -> Path:
        """Return the file of an adapter: the one that was named while it has these bytes, or the registry's.

        Raises:
            RegistryError: The registry does not hold it, and no file was named.
            DigestMismatchError: The file that was named has other bytes, and the registry does not hold it.
            StorageError: The file that was named cannot be read, and the registry does not hold it.
        """
        return self._found(digest)[0]

    def _found(self, digest: str) -> tuple[Path, bool]:
        """Return the file of an adapter, and whether its bytes are compared with the digest already."""
        path = self._places.get(digest)
        if path is None:
            return self._opened().find(digest), False
        try:
            _compare(path, digest)
        except (DigestMismatchError, StorageError):
            with contextlib.suppress(RegistryError, StorageError):
                return self._opened().find(digest), False
            raise
        return path, True

    def _of_file(self, path: Path) -> str:
        try:
            status = path.stat()
        except OSError as error:
            raise StorageError.of("read", path, error) from error
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._files.get(path)
        if known is None or known.state != state:
            known = self._files[path] = _File(Digest.of_file(path), state)
            self._places[str(known.digest)] = path
        return str(known.digest)

    def _opened(self) -> Registry:
        with self._lock:
            if self._registry is None:
                self._registry = Registry.open()
            return self._registry


def _compare(path: Path, digest: str) -> None:
    found = Digest.of_file(path)
    if str(found) != digest:
        raise DigestMismatchError(
            f"{path}: has the digest {found}, expected {digest}",
            context={"path": str(path), "expected": digest, "got": str(found)},
            hint="the file was changed; if it is one of the registry, 'ual fsck --deep' tells more",
        )


def other_base(recorded: BaseModel, base: BaseModel) -> str | None:
    """Say in what an adapter's base model is another one; ``None`` where it is the same as far as is known.

    Args:
        recorded: What the adapter's manifest says of its base model.
        base: The base model at hand.
    """
    for name in ("config_digest", "weights_digest"):
        wanted, found = getattr(recorded, name), getattr(base, name)
        if None not in (wanted, found) and wanted != found:
            return f"made for {recorded.id} with {name} {wanted}, not for {base.id} with {found}"
    return None
