"""The weights of a base model in its folder, file by file, and the same folder again with some of them changed.

It decides where a module's weight is stored and how the new files are written: one tensor in memory at a time, every
other file of the folder copied, nothing unpickled.
"""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.canonical import parse_json
from ual_registry.air.header import open_header
from ual_registry.air.tensor import DTYPE_BYTES, FileSource, Segment, Tensor
from ual_registry.air.write import write_container
from ual_registry.binders.bind import Binding
from ual_registry.errors import BaseMismatchError, ContainerError, StorageError
from ual_registry.storage import atomic_folder, read_file

__all__ = ["BaseWeights", "open_weights"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 64 << 20
_NOT_COPIED = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx")
"""Weights, in whatever form: copied beside merged ones they would be the wrong ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseWeights:
    """The weights of a base model.

    Attributes:
        folder: Where they are.
        binding: The base model's binder, applied.
        files: The tensors of every file by name.
        metadata: ``__metadata__`` of every file.
    """

    folder: Path
    binding: Binding
    files: Mapping[str, Mapping[str, Tensor]]
    metadata: Mapping[str, Mapping[str, str]]

    def is_conv1d(self, path: str) -> bool:
        """Tell whether a module stores its weight as (in, out)."""
        module = self.binding.modules.get(path)
        return module is not None and module.is_conv1d

    @property
    def has_tied_head(self) -> bool:
        """Whether the head has no weight of its own, so that it computes with the embedding's."""
        stored = {name for tensors in self.files.values() for name in tensors}
        heads = [path for path, module in self.binding.modules.items() if module.slots[0].role == "lm_head"]
        return any(f"{path}.weight" not in stored for path in heads)

    def name_of(self, path: str) -> str:
        """Return the stored name of a parameter, which may lack the path of the backbone, or have another one.

        Raises:
            BaseMismatchError: The files do not hold it.
        """
        stored = {name for tensors in self.files.values() for name in tensors}
        inner = path.removeprefix(self.binding.prefix)
        for name in (path, inner):
            if name in stored:
                return name
        ending = [name for name in stored if name.endswith(f".{inner}")]
        if len(ending) == 1:
            return ending[0]
        raise BaseMismatchError(
            f"{self.folder}: its weights hold no {path}",
            context={"path": str(self.folder), "module": path},
            hint="give the base model that the adapter was made for; a head that is tied to the embedding has no "
            "weight of its own and cannot be merged into",
        )

    def write(self, target: Path, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> int:
        """Write the folder again with some tensors changed.

        Args:
            target: The new folder; it appears when it is complete.
            changes: What makes the new tensor from the old one, by stored name; shape and dtype stay.

        Returns:
            Bytes of the tensor files.

        Raises:
            StorageError: The file system refuses; nothing is left behind.
        """
        size_bytes = 0
        with atomic_folder(target) as place:
            _copy_others(self.folder, place)
            for file, tensors in self.files.items():
                new = {name: _changed(old, changes.get(name)) for name, old in tensors.items()}
                write_container(place / file, new, self.metadata[file])
                size_bytes += (place / file).stat().st_size
        return size_bytes


def open_weights(folder: Path, binding: Binding) -> BaseWeights:
    """Open the weights of a base model; they are read when they are asked for.

    Args:
        folder: Holds ``model.safetensors``, or the files that ``model.safetensors.index.json`` lists.
        binding: The base model's binder, applied.

    Raises:
        StorageError: There are no weights in safetensors.
        ContainerError: A file is broken.
    """
    files, metadata = {}, {}
    for file in sorted(_file_names(folder)):
        source = FileSource(folder / file)
        try:
            header = open_header(source)
        except ContainerError as error:
            message = f"{source.path}: {error.message}"
            raise ContainerError(message, code=error.problem_code, hint=error.hint, context=error.context) from error
        files[file], metadata[file] = header.tensors(source), header.metadata
    return BaseWeights(folder=folder, binding=binding, files=files, metadata=metadata)


def _file_names(folder: Path) -> set[str]:
    if (folder / _INDEX).is_file():
        document = parse_json(read_file(folder / _INDEX, limit_bytes=_MAX_INDEX_BYTES), what=_INDEX)
        table = document.get("weight_map") if isinstance(document, dict) else None
        names = set(table.values()) if isinstance(table, dict) else set()
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ContainerError(f"{folder / _INDEX}: lists no files of this folder")
        return names
    if (folder / _WEIGHTS).is_file():
        return {_WEIGHTS}
    raise StorageError(
        f"cannot read {folder}: it holds no {_WEIGHTS}",
        context={"path": str(folder)},
        hint="give the folder of the base model with its weights in safetensors",
    )


def _copy_others(folder: Path, place: Path) -> None:
    """Copy the files beside the weights: configs, tokenizer, licence."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in _NOT_COPIED:
            shutil.copyfile(path, place / path.name)


def _changed(old: Tensor, change: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Return a tensor whose bytes are computed when they are read, and let go of afterwards."""
    if change is None:
        return old
    size_bytes = DTYPE_BYTES[old.dtype] * _count(old.shape)
    return Tensor(old.dtype, old.shape, (Segment(_Computed(old, change, size_bytes), 0, size_bytes),))


def _count(shape: Iterable[int]) -> int:
    return functools.reduce(lambda count, size: count * size, shape, 1)


class _Computed:
    """Bytes that are computed at the first read, and let go of after the last."""

    def __init__(self, old: Tensor, change: Callable[[Tensor], Tensor], size_bytes: int) -> None:
        self._make = functools.partial(change, old)
        self._size_bytes = size_bytes
        self._data: bytes | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        with self._lock:
            if self._data is None:
                self._data = self._make().to_bytes()
            part = self._data[offset : offset + length]
            if offset + length == self._size_bytes:
                self._data = None
            return part
