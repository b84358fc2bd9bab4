"""A base model ready to compute: its weights, its tokenizer, and its binder applied.

It decides what may be loaded: a local folder with weights in safetensors, for a class that transformers itself has.
No code of the folder runs, nothing is unpickled, nothing is fetched. What is done with the model is left to others.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from ual_registry.air.canonical import parse_json
from ual_registry.air.model import BaseModel
from ual_registry.binders.base import BaseConfig, load_base, no_base_folder
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.describe import describe_base
from ual_registry.binders.load import binder_for
from ual_registry.binders.slots import TargetModule
from ual_registry.digest import Digest
from ual_registry.errors import TransferError, UnresolvedModuleError
from ual_registry.storage import read_file

__all__ = [
    "LoadedBase",
    "load_base_model",
    "load_tokenizer",
    "require_device",
    "weights_digest",
    "without_progress_bars",
]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 64 << 20
_POOLER = ".pooler."
"""A part of some backbones that only heads for labels read, so that models trained without one may lack it."""
_REFUSALS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    NotImplementedError,
    SafetensorError,
)
"""What transformers raises for folders that it cannot load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBase:
    """A base model in memory.

    Attributes:
        model: The model, in evaluation mode.
        tokenizer: Its fast tokenizer; ``None`` where the folder has none.
        base: What a manifest says of it, with the digest of its weights.
        config: Its config.
        binding: Its binder, applied where its class has the backbone.
        fresh: Weights that its folder does not hold, which a head for labels needs; they started at random.
    """

    model: Any
    tokenizer: Any
    base: BaseModel
    config: BaseConfig
    binding: Binding
    fresh: tuple[str, ...] = ()

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer, where text is needed.

        Raises:
            TransferError: The base model came without a tokenizer.
        """
        if self.tokenizer is None:
            raise TransferError(
                f"base model {self.base.id}: it has no tokenizer, and text is needed",
                code="no-tokenizer",
                context={"base_model": self.base.id},
                hint="put its tokenizer.json and tokenizer_config.json into the folder",
            )
        return self.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def module(self, path: str) -> torch.nn.Module:
        """Return a module by its path.

        Raises:
            UnresolvedModuleError: The model has no such module.
        """
        try:
            found: torch.nn.Module = self.model.get_submodule(path)
        except AttributeError as error:
            raise UnresolvedModuleError(
                f"{path}: {type(self.model).__name__} of {self.base.id} has no such module", context={"module": path}
            ) from error
        return found

    def linear(self, target: TargetModule) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight (out, in) and bias (out,) of a target module, as they are stored; not those of experts.

        Raises:
            UnresolvedModuleError: The model has no such module, or it holds no matrix of the binder's shape.
        """
        module = self.module(target.path)
        weight: Any = getattr(module, "weight", None)
        matrix = weight.detach().T if target.is_conv1d and weight is not None else weight
        if matrix is None or tuple(matrix.shape) != target.matrix_shape:
            got = None if matrix is None else tuple(matrix.shape)
            raise UnresolvedModuleError(
                f"{target.path}: expected a weight of shape {target.matrix_shape}, got {got}",
                context={"module": target.path},
            )
        bias: Any = getattr(module, "bias", None)
        return matrix.detach(), None if bias is None else bias.detach()


def load_base_model(
    folder: Path | str,
    *,
    id: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    model_class: str | None = None,
    labels: Sequence[str] = (),
) -> LoadedBase:
    """Load a base model from a local folder.

    Args:
        folder: Holds ``config.json``, weights in safetensors and, where text is needed, a tokenizer.
        id: Its label; the name of the folder where absent.
        dtype: What to compute in.
        device: Where to compute.
        model_class: The class to load, one of the binder's; the usual one where absent.
        labels: What the head of a class for labels tells apart; weights that such a head lacks start fresh.

    Raises:
        StorageError: There is no such folder.
        BinderError: The architecture is unknown.
        TransferError: The folder holds something else than a complete base model, transformers cannot load it, or there
            is no such device.
    """
    require_device(device)
    place = Path(folder)
    if not place.is_dir():
        raise no_base_folder(place)
    config = load_base(place)
    _refuse_detours(place, config)
    name = _class_name(config) if model_class is None else model_class
    weights = weights_digest(place)
    with without_progress_bars():
        model, fresh = _load_model(place, name, dtype, labels)
        tokenizer = load_tokenizer(place)
    base = replace(describe_base(config, id=id), weights_digest=str(weights), model_class=name)
    binding = bind(config, name)
    return LoadedBase(
        model=model.to(device),
        tokenizer=tokenizer,
        base=base,
        config=config,
        binding=replace(binding, base=base),
        fresh=fresh,
    )


def require_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        TransferError: PyTorch knows no such device, or has none here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        reason = str(error).strip().splitlines()[0]
        raise TransferError(f"device {device!r}: {reason}", code="bad-option", hint="such as cpu or cuda") from error


def weights_digest(folder: Path) -> Digest:
    """Return the digest of the weights of a base model: of their file, or of the list of their files' digests.

    Raises:
        TransferError: The folder has no weights in safetensors.
        StorageError: A file cannot be read.
    """
    if (folder / _WEIGHTS).is_file():
        return Digest.of_file(folder / _WEIGHTS)
    if not (folder / _INDEX).is_file():
        held = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_file())[:8]) or "nothing"
        raise TransferError(
            f"{folder}: expected weights in {_WEIGHTS} or {_INDEX}, got {held}",
            code="no-weights",
            context={"path": str(folder)},
            hint="weights in pickles are never loaded; save the model with save_pretrained to get safetensors",
        )
    lines = hashlib.sha256()
    for name in _shards(folder):
        lines.update(f"{name} {Digest.of_file(folder / name)}\n".encode())
    return Digest.parse(f"sha256:{lines.hexdigest()}")


def _shards(folder: Path) -> list[str]:
    """Return the names of the files that an index lists, all of them in the folder itself."""
    document = parse_json(read_file(folder / _INDEX, limit_bytes=_MAX_INDEX_BYTES), what=str(folder / _INDEX))
    listed = document.get("weight_map") if isinstance(document, dict) else None
    held = list(listed.values()) if isinstance(listed, dict) else []
    names = sorted({name for name in held if isinstance(name, str) and PurePath(name).name == name})
    if not names or any(name not in names or not name.endswith(".safetensors") for name in held):
        raise TransferError(
            f"{folder / _INDEX}: expected a weight_map of safetensors files in the same folder",
            code="no-weights",
            context={"path": str(folder / _INDEX)},
        )
    return names


def _refuse_detours(folder: Path, config: BaseConfig) -> None:
    """Refuse what makes transformers load something else than the weights that lie there."""
    detour = None
    if (folder / "adapter_config.json").exists():
        detour = "it is the folder of an adapter (adapter_config.json)"
    elif "transformers_weights" in config.document:
        detour = "its config names other weights (transformers_weights)"
    if detour:
        raise TransferError(
            f"{folder}: expected a base model; {detour}",
            code="no-base-model",
            context={"path": str(folder)},
            hint="give the folder of the base model itself",
        )


def _class_name(config: BaseConfig) -> str:
    """Return the model class to load: the one that the config names, or the usual one of its model type."""
    usual = binder_for(config.model_type).model_types[config.model_type].default_class
    name = next(iter(config.model_classes), usual)
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise TransferError(
            f"config of {config.label}: transformers {transformers.__version__} has no model class {name!r}",
            code="no-model-class",
            context={"model_class": name},
            hint="code that comes with a model is never run",
        )
    return name


def _load_model(folder: Path, name: str, dtype: torch.dtype, labels: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Return the model, and the weights of a head for labels that the folder does not hold."""
    model_class: Any = getattr(transformers, name)
    numbered = dict(enumerate(labels))
    heads = {"id2label": numbered, "label2id": {label: own for own, label in numbered.items()}} if labels else {}
    try:
        model, told = model_class.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            **heads,
        )
    except _REFUSALS as error:
        raise _unloadable(folder, error) from error
    lacking = sorted(told["missing_keys"])
    backbone = f"{model.base_model_prefix}."
    missing = [own for own in lacking if not labels or (own.startswith(backbone) and _POOLER not in own)]
    if missing:
        shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise TransferError(
            f"{folder}: its weights lack {len(missing)} of {name}: {shown}",
            code="incomplete-weights",
            context={"path": str(folder)},
        )
    return model.eval().requires_grad_(False), tuple(lacking)


def load_tokenizer(folder: Path) -> Any:
    """Return the fast tokenizer of a folder; ``None`` where there are no files of one.

    Raises:
        TransferError: transformers cannot load it, or it tells no offsets.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        return None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except _REFUSALS as error:
        raise _unloadable(folder, error) from error
    if not tokenizer.is_fast:
        raise TransferError(
            f"{folder}: {type(tokenizer).__name__} does not tell where in the text its tokens stand",
            code="no-tokenizer",
            context={"path": str(folder)},
            hint="save it as a fast tokenizer (tokenizer.json)",
        )
    return tokenizer


def _unloadable(folder: Path, error: BaseException) -> TransferError:
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return TransferError(
        f"{folder}: transformers {transformers.__version__} cannot load it: {reason}",
        code="unloadable",
        context={"path": str(folder)},
    )


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars."""
    logging: Any = transformers.utils.logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
