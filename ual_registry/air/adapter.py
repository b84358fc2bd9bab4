"""An adapter in memory: its manifest, and its tensors as byte ranges that are read when asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from ual_registry.air.model import Entry, Manifest
from ual_registry.air.tensor import FileSource, Tensor

__all__ = ["Adapter"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A manifest and its tensors; a context manager that closes the file behind them.

    Attributes:
        manifest: What the adapter says about itself.
        tensors: Every tensor by its name in the file.
    """

    manifest: Manifest
    tensors: Mapping[str, Tensor]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of the manifest."""
        return self.manifest.entries

    @property
    def parameter_count(self) -> int:
        """Numbers held by the factors; a tensor that entries share counts once."""
        names = {name for entry in self.entries for name in entry.tensor_names().values()}
        return sum(math.prod(self.tensors[name].shape) for name in names)

    def close(self) -> None:
        """Close the file behind the tensors; they can no longer be read."""
        for tensor in self.tensors.values():
            for segment in tensor.segments:
                if isinstance(segment.source, FileSource):
                    segment.source.close()

    def __enter__(self) -> Adapter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
