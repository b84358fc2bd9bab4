"""Which files of a repository make its adapters, and which of them are meant.

An adapter is an AIR file, or a PEFT pair in a folder that holds no AIR file. Nothing is read and nothing is guessed:
where several are there and none is named, all are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ual_registry.errors import ForeignFormatError, HubError, HubNotFoundError
from ual_registry.hub.model import HubFile, Snapshot

__all__ = [
    "AIR_FILE",
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "Choice",
    "RepositoryAdapter",
    "choose",
    "is_air",
    "is_checkpoint",
]

AIR_FILE = "adapter.air"
"""What the AIR file of a repository is called where it has no other name."""

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
"""The two files of a PEFT adapter."""

_PICKLE_FILE = "adapter_model.bin"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_CHECKPOINT = re.compile(r"checkpoint-[0-9]+\Z")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryAdapter:
    """The files that make one adapter of a repository.

    Attributes:
        file: The AIR file, or the tensors of the PEFT pair.
        config: The configuration of the PEFT pair; ``None`` beside an AIR file.
    """

    file: HubFile
    config: HubFile | None = None

    @property
    def path(self) -> str:
        """What names the adapter in its repository: the path of its tensors."""
        return self.file.path

    @property
    def folder(self) -> str:
        """The folder that it lies in; empty for the repository itself."""
        return _folder(self.file.path)

    @property
    def form(self) -> str:
        """``air`` or ``peft``."""
        return "air" if self.config is None else "peft"

    @property
    def files(self) -> tuple[HubFile, ...]:
        """Everything that must be fetched."""
        return (self.file,) if self.config is None else (self.config, self.file)

    @property
    def size_bytes(self) -> int:
        """What must be fetched, in bytes."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen of a repository.

    Attributes:
        adapters: The adapters, by path.
        is_whole: Whether the repository holds no other adapter.
        left_out: What was not chosen though it looks like an adapter, each with the reason.
    """

    adapters: tuple[RepositoryAdapter, ...]
    is_whole: bool
    left_out: tuple[str, ...] = ()


def is_air(path: str) -> bool:
    """Tell whether a file of a repository is called as AIR files are."""
    return path.endswith(".air")


def is_checkpoint(path: str) -> bool:
    """Tell whether a file lies in a folder in which a training run kept an earlier state.

    >>> is_checkpoint("checkpoint-500/adapter_model.safetensors"), is_checkpoint("checkpoints/a.air")
    (True, False)
    """
    return any(_CHECKPOINT.match(part) for part in PurePosixPath(path).parts[:-1])


def choose(
    snapshot: Snapshot, *, files: Sequence[str] = (), subfolder: str | None = None, all_of_them: bool = False
) -> Choice:
    """Choose the adapters of a repository that are meant.

    Args:
        snapshot: The repository at one commit.
        files: Their paths, each an AIR file or the tensors of a PEFT pair; empty leaves that open.
        subfolder: The folder that they lie in, at any depth; ``None`` for the whole repository.
        all_of_them: Whether several may be meant.

    Raises:
        HubNotFoundError: A file or folder is not there (``hub-no-file``), or there is no adapter (``hub-no-adapter``).
        HubError: There are several and nothing says which is meant (``hub-several``).
        ForeignFormatError: The weights are a pickle (``peft-pickle``).
    """
    found = _adapters(snapshot.files)
    if files:
        chosen = tuple(_named(snapshot, path, found) for path in dict.fromkeys(files))
        return Choice(adapters=chosen, is_whole=len(found) == 1)
    inside = {path: file for path, file in snapshot.files.items() if _is_inside(path, subfolder)}
    if not inside and subfolder is not None:
        raise _no_file(snapshot, subfolder, what="folder")
    own = tuple(adapter for adapter in found if adapter.path in inside)
    pickles = tuple(path for path in sorted(inside) if _is_pickle_alone(path, inside))
    if not own:
        raise _pickle(snapshot, pickles[0]) if pickles else _none(snapshot, inside, subfolder)
    kept, left = _without_checkpoints(own)
    if len(kept) > 1 and not all_of_them:
        raise _several(snapshot, kept)
    return Choice(
        adapters=kept,
        is_whole=len(_without_checkpoints(found)[0]) == 1,
        left_out=(
            *(f"{adapter.path}: an earlier state of a training run" for adapter in left),
            *(f"{path}: a pickle, which can run code when it is opened" for path in pickles),
        ),
    )


def _adapters(files: Mapping[str, HubFile]) -> tuple[RepositoryAdapter, ...]:
    """Return every adapter of a repository, by path."""
    air = [RepositoryAdapter(file=file) for path, file in files.items() if is_air(path)]
    taken = {adapter.folder for adapter in air}
    pairs = [_pair(files, path) for path in files if _name(path) == WEIGHTS_FILE and _folder(path) not in taken]
    return tuple(sorted((*air, *filter(None, pairs)), key=lambda adapter: adapter.path))


def _pair(files: Mapping[str, HubFile], path: str) -> RepositoryAdapter | None:
    config = files.get(_beside(path, CONFIG_FILE))
    return None if config is None else RepositoryAdapter(file=files[path], config=config)


def _named(snapshot: Snapshot, path: str, found: Iterable[RepositoryAdapter]) -> RepositoryAdapter:
    """Return the adapter that a path names; the PEFT pair beside an AIR file can be named, too."""
    if path not in snapshot.files:
        raise _no_file(snapshot, path, what="file")
    if path.endswith(_PICKLES):
        raise _pickle(snapshot, path)
    beside = _pair(snapshot.files, path) if _name(path) == WEIGHTS_FILE else None
    adapter = next((adapter for adapter in found if adapter.path == path), beside)
    if adapter is not None:
        return adapter
    missing = f"there is no {CONFIG_FILE} beside it, without which rank, alpha and targets are unknown"
    reason = missing if _name(path) == WEIGHTS_FILE else f"expected an AIR file (*.air) or {WEIGHTS_FILE}"
    raise HubNotFoundError(
        f"{_label(snapshot)}: {path} is no adapter: {reason}",
        code="hub-no-adapter",
        context={"repository": snapshot.repository, "commit": snapshot.commit, "path": path},
    )


def _without_checkpoints(
    adapters: tuple[RepositoryAdapter, ...],
) -> tuple[tuple[RepositoryAdapter, ...], tuple[RepositoryAdapter, ...]]:
    """Set earlier states of a training run aside, where anything else is there."""
    kept = tuple(adapter for adapter in adapters if not is_checkpoint(adapter.path))
    return (kept, tuple(adapter for adapter in adapters if adapter not in kept)) if kept else (adapters, ())


def _is_pickle_alone(path: str, files: Mapping[str, HubFile]) -> bool:
    others = (*(other for other in files if is_air(other)), _beside(path, WEIGHTS_FILE))
    return _name(path) == _PICKLE_FILE and not any(
        other in files and _folder(other) == _folder(path) for other in others
    )


def _is_inside(path: str, subfolder: str | None) -> bool:
    return subfolder is None or path.startswith(f"{subfolder.strip('/')}/")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _beside(path: str, name: str) -> str:
    return f"{_folder(path)}/{name}".lstrip("/")


def _label(snapshot: Snapshot) -> str:
    return f"{snapshot.repository}@{snapshot.commit[:12]}"


def _pickle(snapshot: Snapshot, path: str) -> ForeignFormatError:
    return ForeignFormatError(
        f"{_label(snapshot)}: the weights are in {path}, a pickle, which can run code when it is opened",
        code="peft-pickle",
        context={"repository": snapshot.repository, "commit": snapshot.commit, "path": path},
        hint="ask its owner for safetensors; if you trust the file, load it once with PeftModel.from_pretrained in a "
        "place where it can do no harm, and write it again with save_pretrained",
    )


def _several(snapshot: Snapshot, adapters: Sequence[RepositoryAdapter]) -> HubError:
    paths = [adapter.path for adapter in adapters]
    return HubError(
        f"{_label(snapshot)}: holds {len(paths)} adapters, expected one: {_listed(paths)}",
        code="hub-several",
        context={"repository": snapshot.repository, "commit": snapshot.commit, "paths": paths},
        hint="name one with --file PATH or --subfolder FOLDER, or take each with --all",
    )


def _none(snapshot: Snapshot, inside: Mapping[str, HubFile], subfolder: str | None) -> HubNotFoundError:
    where = _label(snapshot) if subfolder is None else f"{_label(snapshot)}, folder {subfolder}"
    return HubNotFoundError(
        f"{where}: no adapter; looked for *.air, and for {WEIGHTS_FILE} with {CONFIG_FILE} beside it, "
        f"found {_listed(sorted(inside)) or 'no file'}",
        code="hub-no-adapter",
        context={"repository": snapshot.repository, "commit": snapshot.commit, "paths": sorted(inside)[:_SHOWN]},
    )


def _no_file(snapshot: Snapshot, path: str, *, what: str) -> HubNotFoundError:
    adapters = [adapter.path for adapter in _adapters(snapshot.files)]
    return HubNotFoundError(
        f"{_label(snapshot)}: no {what} {path}",
        code="hub-no-file",
        context={"repository": snapshot.repository, "commit": snapshot.commit, "path": path},
        hint=f"its adapters are: {_listed(adapters)}" if adapters else "it holds no adapter",
    )


def _listed(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + rest
