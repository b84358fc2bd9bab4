"""Convert between AIR and PEFT: the same adapter in another format; no number changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest
from ual_registry.air.read import read, verify
from ual_registry.air.write import write_sealed
from ual_registry.binders.base import load_base
from ual_registry.errors import BinderError, ForeignFormatError
from ual_registry.interop import from_peft as peft_reader
from ual_registry.interop.peft_config import CONFIG_FILE, WEIGHTS_FILE, require_files
from ual_registry.interop.to_peft import to_peft
from ual_registry.storage import check_target

__all__ = ["ConvertResult", "Labels", "convert_to_air", "convert_to_peft", "from_peft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What people add to a manifest.

    Attributes:
        base_id: Hub id of the base model.
        base_revision: Its commit.
        name: A label for the adapter.
        description: What it does.
        domain: The field that it serves.
        license: SPDX expression.
    """

    base_id: str | None = None
    base_revision: str | None = None
    name: str | None = None
    description: str | None = None
    domain: str | None = None
    license: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertResult:
    """What a conversion made.

    Attributes:
        path: The new file or folder.
        tensor_digest: Digest of the tensors in AIR's form, on either side; ``ual show`` gives that of a file.
        entry_count: Entries of the adapter.
        extra_count: Tensors without a role that were carried along.
        size_bytes: Size of the new tensor file.
        left_behind: Files of the source folder that are no part of the adapter, such as a model card.
    """

    path: str
    tensor_digest: str
    entry_count: int
    extra_count: int
    size_bytes: int
    left_behind: tuple[str, ...] = ()


def from_peft(
    folder: str | Path, base: str | Path, *, base_id: str | None = None, base_revision: str | None = None
) -> Adapter:
    """Read a PEFT folder as an adapter; its tensors stay in their file until they are used.

    Args:
        folder: What ``save_pretrained`` wrote.
        base: The base model: its folder, or its ``config.json``.
        base_id: Label of the base model; by default the one in the adapter's configuration.
        base_revision: Commit of the base model; by default the one in the adapter's configuration.

    Raises:
        ForeignFormatError: The folder is no PEFT LoRA adapter, or holds what AIR cannot carry.
        ContainerError: The tensor file is broken.
        BinderError: The base model is unknown, or is not the one that the adapter fits.
        StorageError: A file cannot be read.
    """
    config = load_base(Path(base))
    return peft_reader.from_peft(folder, config, base_id=base_id, base_revision=base_revision)


def convert_to_air(
    source: str | Path,
    target: str | Path,
    *,
    base: str | Path | None,
    labels: Labels | None = None,
    force: bool = False,
) -> ConvertResult:
    """Convert a PEFT folder to an AIR file.

    Args:
        source: What ``save_pretrained`` wrote.
        target: The file to write.
        base: The base model: its folder, or its ``config.json``.
        labels: What to add to the manifest.
        force: Whether to replace what stands at ``target``.

    Raises:
        BinderError: No base model is given, or see ``from_peft``.
        ForeignFormatError: ``source`` is a file, or see ``from_peft``.
        UALError: As ``from_peft`` and ``air.write.write_sealed``.
    """
    folder, file, labels = Path(source), Path(target), labels or Labels()
    if folder.is_file():
        raise ForeignFormatError(
            f"{folder}: is a file, expected a PEFT folder",
            context={"path": str(folder)},
            hint="an AIR file becomes a PEFT folder by 'ual convert FILE.air FOLDER'",
        )
    require_files(folder)
    if base is None:
        raise BinderError(
            f"{folder}: which base model was it trained on?",
            code="no-base",
            hint="pass --base with the base model's folder or its config.json; its dimensions are needed",
        )
    check_target(file, force=force)
    with from_peft(folder, base, base_id=labels.base_id, base_revision=labels.base_revision) as adapter:
        manifest = write_sealed(_labelled(adapter, labels), file)
        return _result(file, manifest, file.stat().st_size, _others(folder))


def _labelled(adapter: Adapter, labels: Labels) -> Adapter:
    given = {
        "name": labels.name,
        "description": labels.description,
        "domain": labels.domain,
        "license": labels.license,
    }
    present = {field: value for field, value in given.items() if value is not None}
    return replace(adapter, manifest=replace(adapter.manifest, **present))  # type: ignore[arg-type]  # all are text


def _others(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.name not in (CONFIG_FILE, WEIGHTS_FILE)))


def convert_to_peft(source: str | Path, target: str | Path, *, force: bool = False) -> ConvertResult:
    """Convert an AIR file to a PEFT folder; its tensors are compared with their digest on the way.

    Args:
        source: The file.
        target: The folder to write.
        force: Whether to replace what stands at ``target``.

    Raises:
        UALError: As ``air.read.read``, ``air.read.verify`` and ``interop.to_peft.to_peft``.
    """
    folder = Path(target)
    check_target(folder, force=force, replaceable=CONFIG_FILE)
    with read(source) as adapter:
        verify(adapter, check_finite=False)
        to_peft(adapter, folder)
        return _result(folder, adapter.manifest, (folder / WEIGHTS_FILE).stat().st_size, ())


def _result(path: Path, manifest: Manifest, size_bytes: int, left_behind: tuple[str, ...]) -> ConvertResult:
    return ConvertResult(
        path=str(path),
        tensor_digest=manifest.tensor_digest,
        entry_count=len(manifest.entries),
        extra_count=len(manifest.extra),
        size_bytes=size_bytes,
        left_behind=left_behind,
    )
