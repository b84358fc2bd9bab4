"""Convert between AIR and other forms of the same adapter; no number changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Manifest
from ual_registry.air.read import verify
from ual_registry.air.write import write_sealed
from ual_registry.binders.base import BaseConfig
from ual_registry.distillation.seeds import read_seeds, with_seeds
from ual_registry.errors import BinderError, ForeignFormatError
from ual_registry.interop import from_peft as peft_reader
from ual_registry.interop.editions import to_edition
from ual_registry.interop.folder import FOLDER_FILES, MARKER_FILE, TENSORS_FILE, from_folder, is_unpacked, to_folder
from ual_registry.interop.from_legacy import from_legacy
from ual_registry.interop.legacy import LegacyForm, legacy_form, pair_refusal
from ual_registry.interop.peft_config import CONFIG_FILE, WEIGHTS_FILE, require_files
from ual_registry.interop.to_peft import to_peft
from ual_registry.storage import check_target
from ual_registry.workflows.bases import NamedBase, find_base
from ual_registry.workflows.reading import read_adapter

__all__ = [
    "ConvertResult",
    "Direction",
    "Labels",
    "convert_from_folder",
    "convert_to_air",
    "convert_to_folder",
    "convert_to_peft",
    "direction",
    "from_peft",
]


class Direction(StrEnum):
    """What a conversion goes from and to."""

    TO_AIR = "to_air"
    TO_PEFT = "to_peft"
    TO_FOLDER = "to_folder"
    FROM_FOLDER = "from_folder"


def direction(source: str | Path, target: str | Path, to: str | None) -> Direction:
    """Tell what converting ``source`` to ``target`` means.

    Args:
        source: What to convert.
        target: Where to.
        to: ``air``, ``peft`` or ``folder``; by default AIR where the source is a folder or the target ends in
            ``.air``, else PEFT.
    """
    path = Path(source)
    if to not in (None, "air"):
        return Direction.TO_FOLDER if to == "folder" else Direction.TO_PEFT
    if to == "air" or path.is_dir() or str(target).endswith(".air"):
        return Direction.FROM_FOLDER if is_unpacked(path) else Direction.TO_AIR
    return Direction.TO_PEFT


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
        seed_prompts: A JSON file of inputs of the kind that the adapter is made for; see ``distillation.seeds``.
    """

    base_id: str | None = None
    base_revision: str | None = None
    name: str | None = None
    description: str | None = None
    domain: str | None = None
    license: str | None = None
    seed_prompts: str | Path | None = None


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
        losses: What the source's format does not say, and what was taken instead.
    """

    path: str
    tensor_digest: str
    entry_count: int
    extra_count: int
    size_bytes: int
    left_behind: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def from_peft(
    folder: str | Path, base: str | Path, *, base_id: str | None = None, base_revision: str | None = None
) -> Adapter:
    """Read a PEFT folder as an adapter; its tensors stay in their file until they are used.

    Args:
        folder: What ``save_pretrained`` wrote.
        base: The base model: its folder, its ``config.json``, or its repository on the Hub.
        base_id: Label of the base model; by default its repository, or the one in the adapter's configuration.
        base_revision: Commit of the base model; by default the one that was read, or the one in the configuration.

    Raises:
        ForeignFormatError: The folder is no PEFT LoRA adapter, or holds what AIR cannot carry.
        ContainerError: The tensor file is broken.
        BinderError: The base model is unknown, or is not the one that the adapter fits.
        StorageError: A file cannot be read.
        HubError: The base model is on the Hub, and cannot be read there.
    """
    found = find_base(base)
    name, commit = found.labels(base_id, base_revision)
    return peft_reader.from_peft(folder, found.config, base_id=name, base_revision=commit)


def convert_to_air(
    source: str | Path,
    target: str | Path,
    *,
    base: str | Path | None,
    labels: Labels | None = None,
    force: bool = False,
) -> ConvertResult:
    """Convert a PEFT folder, or a JSON file of ual-adapter 0.1, to an AIR file.

    Args:
        source: What ``save_pretrained`` wrote, or the file.
        target: The file to write.
        base: The base model: its folder, its ``config.json``, or its repository on the Hub, which becomes its label.
        labels: What to add to the manifest.
        force: Whether to replace what stands at ``target``.

    Raises:
        BinderError: No base model is given, or see ``from_peft``.
        ForeignFormatError: ``source`` is a file of no known form, or see ``from_peft`` and ``from_legacy``.
        UALError: As ``from_peft`` and ``air.write.write_sealed``.
    """
    origin, file, labels = Path(source), Path(target), labels or Labels()
    is_legacy = origin.is_file() and _is_readable_legacy(origin)
    if not is_legacy:
        require_files(origin)
    found = _base(origin, base)
    check_target(file, force=force)
    name, commit = found.labels(labels.base_id, labels.base_revision)
    labels = replace(labels, base_id=name, base_revision=commit)
    opened, losses = (_from_legacy if is_legacy else _from_peft)(origin, found.config, labels)
    with opened as adapter:
        manifest = write_sealed(_labelled(adapter, labels), file)
    left_behind = () if is_legacy else _others(origin, (CONFIG_FILE, WEIGHTS_FILE))
    result = _result(file, manifest, file.stat().st_size, left_behind)
    return replace(result, losses=losses)


def _is_readable_legacy(file: Path) -> bool:
    """Tell a file that can be read from those that cannot, which are refused by name.

    Raises:
        ForeignFormatError: The file is of a form that nothing can be made of.
    """
    form = legacy_form(file)
    if form is LegacyForm.PAIR:
        raise pair_refusal(file)
    if form is None:
        hint = "an AIR file becomes a PEFT folder by 'ual convert FILE.air FOLDER'"
        if file.name in (CONFIG_FILE, WEIGHTS_FILE):
            hint = f"give the folder that holds it: {file.parent}"
        elif file.suffix != ".air":
            hint = "give the folder that save_pretrained wrote"
        raise ForeignFormatError(
            f"{file}: is a file, expected a PEFT folder",
            context={"path": str(file)},
            hint=hint,
        )
    return True


def _base(source: Path, base: str | Path | None) -> NamedBase:
    if base is None:
        raise BinderError(
            f"{source}: which base model was it trained on?",
            code="no-base",
            hint="pass --base: a model folder, its config.json, or OWNER/NAME on the Hub; its dimensions are needed",
        )
    return find_base(base)


def _from_peft(folder: Path, config: BaseConfig, labels: Labels) -> tuple[Adapter, tuple[str, ...]]:
    try:
        return peft_reader.from_peft(folder, config, base_id=labels.base_id, base_revision=labels.base_revision), ()
    except ForeignFormatError as error:
        if error.message.startswith(f"{CONFIG_FILE}: "):  # which of many folders it is
            error.reword(f"{folder / CONFIG_FILE}{error.message.removeprefix(CONFIG_FILE)}")
        raise


def _from_legacy(file: Path, config: BaseConfig, labels: Labels) -> tuple[Adapter, tuple[str, ...]]:
    found = from_legacy(file, config, base_id=labels.base_id, base_revision=labels.base_revision)
    return found.adapter, found.losses


def _labelled(adapter: Adapter, labels: Labels) -> Adapter:
    given = {
        "name": labels.name,
        "description": labels.description,
        "domain": labels.domain,
        "license": labels.license,
    }
    present = {field: value for field, value in given.items() if value is not None}
    manifest = replace(adapter.manifest, **present)  # type: ignore[arg-type]  # all are text
    if labels.seed_prompts is not None:
        manifest = with_seeds(manifest, read_seeds(labels.seed_prompts))
    return replace(adapter, manifest=manifest)


def _others(folder: Path, own: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.name not in own))


def convert_to_peft(
    source: str | Path,
    target: str | Path,
    *,
    edition: str | None = None,
    base: str | Path | None = None,
    force: bool = False,
) -> ConvertResult:
    """Convert an AIR file to a PEFT folder; its tensors are compared with their digest on the way.

    Args:
        source: The file.
        target: The folder to write.
        edition: Whose names the modules are to have; by default they keep theirs.
        base: The base model where an edition is given: its folder, its ``config.json``, or its repository on the Hub.
        force: Whether to replace what stands at ``target``.

    Raises:
        BinderError: An edition is given without a base model, or see ``interop.editions.to_edition``.
        UALError: As ``air.read.read``, ``air.read.verify`` and ``interop.to_peft.to_peft``.
    """
    config = None if edition is None else _base(Path(source), base).config

    def write_to(adapter: Adapter, folder: Path) -> None:
        to_peft(adapter if config is None else to_edition(adapter, config, edition), folder)

    check_target(Path(target), force=force, replaceable=CONFIG_FILE)
    return _write_folder(source, Path(target), write_to, WEIGHTS_FILE)


def convert_to_folder(source: str | Path, target: str | Path, *, force: bool = False) -> ConvertResult:
    """Unpack an AIR file into a folder for human eyes; its tensors are compared with their digest on the way.

    Args:
        source: The file.
        target: The folder to write.
        force: Whether to replace what stands at ``target``.

    Raises:
        UALError: As ``air.read.read``, ``air.read.verify`` and ``interop.folder.to_folder``.
    """
    check_target(Path(target), force=force, replaceable=MARKER_FILE)
    return _write_folder(source, Path(target), to_folder, TENSORS_FILE)


def _write_folder(
    source: str | Path, folder: Path, write_to: Callable[[Adapter, Path], None], tensor_file: str
) -> ConvertResult:
    """Write an AIR file as a folder in one of its forms, verified on the way."""
    with read_adapter(Path(source)) as adapter:
        verify(adapter, check_finite=False)
        write_to(adapter, folder)
        return _result(folder, adapter.manifest, (folder / tensor_file).stat().st_size, ())


def convert_from_folder(source: str | Path, target: str | Path, *, force: bool = False) -> ConvertResult:
    """Pack an unpacked folder into an AIR file: the same bytes again where nothing was changed.

    A manifest that was edited by hand is checked and sealed anew.

    Args:
        source: The folder.
        target: The file to write.
        force: Whether to replace what stands at ``target``.

    Raises:
        UALError: As ``interop.folder.from_folder`` and ``air.write.write_sealed``.
    """
    folder, file = Path(source), Path(target)
    check_target(file, force=force)
    with from_folder(folder) as adapter:
        manifest = write_sealed(adapter, file)
    return _result(file, manifest, file.stat().st_size, _others(folder, FOLDER_FILES))


def _result(path: Path, manifest: Manifest, size_bytes: int, left_behind: tuple[str, ...]) -> ConvertResult:
    return ConvertResult(
        path=str(path),
        tensor_digest=manifest.tensor_digest,
        entry_count=len(manifest.entries),
        extra_count=len(manifest.extra),
        size_bytes=size_bytes,
        left_behind=left_behind,
    )
