"""Where the base models of a transfer lie, as far as this machine has them, and what of them is there.

A folder is looked into, nothing of it is loaded. Weights are never fetched. A base model that only an adapter names is
looked for in the Hub's cache, under its id alone: whatever a file calls a base model is no path that is opened.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ual_registry.air.commit import is_commit
from ual_registry.air.model import BaseModel
from ual_registry.binders.base import load_base, no_base_folder
from ual_registry.binders.describe import describe_base
from ual_registry.errors import UALError
from ual_registry.hub.address import is_repository
from ual_registry.workflows.base_check import require_recorded
from ual_registry.workflows.bases import NamedBase, has_weights

__all__ = ["Place", "find_source", "find_target"]

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What this machine has of a base model.

    Attributes:
        name: What to call it.
        folder: Its folder, with weights; ``None`` where there is none.
        lacking: Why there is none.
    """

    name: str
    folder: Path | None = None
    lacking: str | None = None

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder holds files of a tokenizer."""
        return self.folder is not None and any((self.folder / name).is_file() for name in _TOKENIZERS)

    @property
    def weights_bytes(self) -> int:
        """The size of the weights; 0 where there are none."""
        if self.folder is None:
            return 0
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))


def find_target(target: str | Path, named: NamedBase) -> Place:
    """Find the weights of the base model to go to.

    Args:
        target: What the user named it by.
        named: Its config, and what the Hub calls it.
    """
    if named.id is not None:
        name, folder = named.id, _cached(named.id, named.revision)
        where = f"no weights of {name} in the Hub's cache: download it, or give its folder"
    else:
        folder = Path(target)
        name, where = named.config.label, f"{target} has no weights in safetensors"
    return Place(name=name, folder=folder) if has_weights(folder) else Place(name=name, lacking=where)


def find_source(wanted: BaseModel, given: str | Path | None, *, is_any: bool = False) -> Place:
    """Find the weights of the base model that an adapter is for.

    That the target has the same config does not make it that base: what was trained on from a model has its config too.

    Args:
        wanted: What the adapter's manifest says of it.
        given: The folder that the user gave.
        is_any: Whether to take one with another config.

    Raises:
        BaseMismatchError: The folder that was given holds another base model.
        StorageError: What was given is no folder.
        BinderError: Its config cannot be read.
    """
    if given is not None:
        return _given(wanted, Path(given), is_any=is_any)
    folder = _cached(wanted.id, wanted.revision) if is_repository(wanted.id, owned=False) else None
    if folder is not None and has_weights(folder) and (is_any or _digest(folder) == wanted.config_digest):
        return Place(name=wanted.id, folder=folder)
    return Place(name=wanted.id, lacking=f"no weights of the source base {wanted.id} at hand: give --source-base")


def _given(wanted: BaseModel, folder: Path, *, is_any: bool) -> Place:
    if not folder.is_dir():
        raise no_base_folder(folder)
    own = describe_base(load_base(folder))
    if not is_any:
        require_recorded(own, wanted, where=folder)
    if has_weights(folder):
        return Place(name=wanted.id, folder=folder)
    return Place(name=wanted.id, lacking=f"{folder} has no weights in safetensors")


def _digest(folder: Path) -> str | None:
    try:
        return describe_base(load_base(folder)).config_digest
    except UALError:
        return None


def _cached(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository's files in the Hub's cache, as ``huggingface_hub`` lays it out."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    place = cache / f"models--{repository.replace('/', '--')}"
    if revision is None:
        try:
            revision = (place / "refs" / "main").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
    return place / "snapshots" / revision if is_commit(revision) else None
