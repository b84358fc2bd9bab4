"""A router in memory: its manifest, and its tensors as byte ranges that are read when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.model import Manifest
from ual_registry.air.read import open_legal
from ual_registry.air.router import RouterManifest
from ual_registry.air.tensor import FileSource, Tensor
from ual_registry.air.validate import scan_problems
from ual_registry.errors import RuleError

__all__ = ["RouterFile", "read_router"]


@dataclass(frozen=True, slots=True)
class RouterFile:
    """A router's manifest and tensors.

    Attributes:
        manifest: What the router says about itself.
        tensors: Its five tensors by name.
    """

    manifest: RouterManifest
    tensors: Mapping[str, Tensor]


def read_router(path: str | Path) -> RouterFile:
    """Read a router file whole, its digests checked; the file is closed again.

    Args:
        path: The file.

    Raises:
        FormatError: The file is not a legal router; the message names the first fault.
        StorageError: The file cannot be read.
    """
    found = open_legal(path)
    try:
        if not isinstance(found.manifest, RouterManifest):
            kind = "adapter" if isinstance(found.manifest, Manifest) else "file without a manifest"
            raise RuleError(f"{path}: is an {kind}, expected a router", code="kind", context={"path": str(path)})
        tensors = found.tensors()
        for problem in scan_problems(found.manifest, tensors):
            raise problem.to_error()
        held = {name: Tensor.of_bytes(own.dtype, own.shape, own.to_bytes()) for name, own in tensors.items()}
        return RouterFile(found.manifest, held)
    finally:
        if isinstance(found.source, FileSource):
            found.source.close()
