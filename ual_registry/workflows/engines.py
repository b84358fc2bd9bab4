"""Write an adapter for an engine that serves it: a folder for vLLM, a file for llama.cpp, a merged model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import verify
from ual_registry.binders.base import load_base
from ual_registry.binders.bind import bind_paths
from ual_registry.engines.rules import load_rules
from ual_registry.errors import BaseMismatchError, ForeignFormatError, StorageError
from ual_registry.interop.peft_config import CONFIG_FILE, WEIGHTS_FILE
from ual_registry.interop.to_peft import PeftForm, peft_form, write_peft
from ual_registry.storage import check_target
from ual_registry.workflows.convert import ConvertResult
from ual_registry.workflows.extras import need_gguf, need_torch
from ual_registry.workflows.reading import read_adapter

if TYPE_CHECKING:
    from ual_registry.engines.normal_form import NormalForm

__all__ = ["convert_to_gguf", "convert_to_merged", "convert_to_vllm"]

_MODEL_CONFIG = "config.json"


def convert_to_vllm(
    source: str | Path, target: str | Path, *, served_name: str | None = None, force: bool = False
) -> ConvertResult:
    """Write an AIR file as a PEFT folder in normal form, which vLLM and other engines read as PEFT does.

    Args:
        source: The file.
        target: The folder to write.
        served_name: The name under which vLLM serves the base model, which its resolver compares with the folder's;
            by default the base model's label.
        force: Whether to replace what stands at ``target``.

    Raises:
        ForeignFormatError: The adapter is more than plain LoRA, or its rank is over what vLLM can be started for.
        UALError: As ``air.read.read`` and ``air.read.verify``.
    """
    need_torch("the normal form of an adapter")
    folder = Path(target)
    check_target(folder, force=force, replaceable=CONFIG_FILE)

    def write(adapter: Adapter) -> tuple[NormalForm, int]:
        from ual_registry.engines.normal_form import normal_form  # noqa: PLC0415  # loads torch

        form = normal_form(adapter, target="vLLM")
        _check_rank(form.rank)
        write_peft(_served(form, served_name), folder)
        return form, (folder / WEIGHTS_FILE).stat().st_size

    return _converted(source, folder, write)


def convert_to_gguf(source: str | Path, target: str | Path, *, force: bool = False) -> ConvertResult:
    """Write an AIR file as a GGUF file for llama.cpp.

    Args:
        source: The file.
        target: The file to write.
        force: Whether to replace what stands at ``target``.

    Raises:
        ForeignFormatError: The adapter is more than plain LoRA, or GGUF or this package has no place for a module.
        UALError: As ``air.read.read`` and ``air.read.verify``.
    """
    need_gguf("a GGUF file")
    file = Path(target)
    check_target(file, force=force)

    def write(adapter: Adapter) -> tuple[NormalForm, int]:
        from ual_registry.engines.gguf_file import write_gguf  # noqa: PLC0415  # loads torch

        form = write_gguf(adapter, file)
        return form, file.stat().st_size

    return _converted(source, file, write)


def _converted(source: str | Path, target: Path, write: Callable[[Adapter], tuple[NormalForm, int]]) -> ConvertResult:
    with read_adapter(Path(source)) as adapter:
        verify(adapter, check_finite=False)
        form, size_bytes = write(adapter)
        losses = [f"{name}, a copy of the base model's own" for name in form.left_out]
        return _result(adapter, target, size_bytes, tuple(losses))


def _result(adapter: Adapter, target: Path, size_bytes: int, losses: tuple[str, ...]) -> ConvertResult:
    return ConvertResult(
        path=str(target),
        tensor_digest=adapter.manifest.tensor_digest,
        entry_count=len(adapter.entries),
        extra_count=len(adapter.manifest.extra),
        size_bytes=size_bytes,
        losses=losses,
    )


def _check_rank(rank: int) -> None:
    highest = load_rules("vllm").ranks[-1]
    if rank > highest:
        raise ForeignFormatError(
            f"rank {rank} is over {highest}, the highest that vLLM can be started for",
            code="rank-too-high",
            context={"rank": rank, "highest": highest},
            hint="merge it into its base model: 'ual convert REF DIR --to merged --base BASE'",
        )


def _served(form: NormalForm, served_name: str | None) -> PeftForm:
    """Return the PEFT form of a normal form, its whole alpha as vLLM declares it and its base as vLLM calls it."""
    made = peft_form(form.adapter)
    config = {**made.config, "lora_alpha": form.alpha}
    if served_name is not None:
        config |= {"base_model_name_or_path": served_name, "revision": None}
    return replace(made, config=config)


def convert_to_merged(
    source: str | Path, target: str | Path, *, base: str | Path, force: bool = False
) -> ConvertResult:
    """Merge an AIR file into its base model and write that as a folder, which needs no adapter any more.

    Args:
        source: The file.
        target: The folder to write.
        base: The folder of the base model, with weights in safetensors.
        force: Whether to replace what stands at ``target``.

    Raises:
        ForeignFormatError: The adapter holds what cannot be merged.
        BaseMismatchError: ``base`` is not the model that the adapter was made for.
        StorageError: ``base`` is no folder with weights.
        UALError: As ``air.read.read`` and ``air.read.verify``.
    """
    need_torch("a merged model")
    from ual_registry.engines.base_weights import open_weights  # noqa: PLC0415  # only where weights are merged
    from ual_registry.engines.merge import plan_merge  # noqa: PLC0415  # loads torch

    folder, made = Path(base), Path(target)
    if not folder.is_dir():
        hint = "merging needs the weights: give the folder of the base model"
        raise StorageError(f"cannot read {folder}: no such folder", context={"path": str(folder)}, hint=hint)
    check_target(made, force=force, replaceable=_MODEL_CONFIG)
    config = load_base(folder)
    with read_adapter(Path(source)) as adapter:
        verify(adapter)
        if str(config.digest) != adapter.manifest.base_model.config_digest:
            raise BaseMismatchError(
                f"{folder}: its config has the digest {config.digest}, the adapter was made for "
                f"{adapter.manifest.base_model.config_digest}",
                context={"path": str(folder)},
                hint="give the base model that the adapter was made for",
            )
        paths = [entry.source for entry in adapter.entries if entry.source is not None and entry.expert is None]
        weights = open_weights(folder, bind_paths(config, paths))
        changes = {change.name: change.of for change in plan_merge(adapter, weights)}
        return _result(adapter, made, weights.write(made, changes), ())
