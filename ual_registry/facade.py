"""A base model with the registry at its side: calls of the same workflows that the command line uses.

A folder alone loads no framework; the first call that computes does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read, verify
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.binders.describe import describe_base
from ual_registry.errors import BaseMismatchError
from ual_registry.interop.peft_config import CONFIG_FILE
from ual_registry.registry.views import on_all_pages
from ual_registry.storage import check_target
from ual_registry.workflows.convert import convert_to_peft, from_peft
from ual_registry.workflows.extras import need_transformers
from ual_registry.workflows.references import locate
from ual_registry.workflows.store import add, get, list_adapters
from ual_registry.workflows.train import train
from ual_registry.workflows.train_order import Data, TrainResult
from ual_registry.workflows.transfer import DEFAULT_METHOD, Transferred, transfer

if TYPE_CHECKING:
    from ual_registry.air.model import BaseModel
    from ual_registry.registry.views import RevisionRecord
    from ual_registry.training.config import TrainingConfig

__all__ = ["UniversalAdapter"]


class UniversalAdapter:
    """A base model whose adapters are trained, kept, exported, imported and carried to other base models.

    Adapters are named as in the registry, which is the usual one: ``name``, ``name@3``, ``name@alias``, a digest, or
    the path of an AIR file. What is known of the base model is read from its folder, also where it is in memory.

    Args:
        model: The base model: its folder, or a model of transformers that was loaded from one.
        tokenizer: Its tokenizer; that of the folder where absent.
        base_id: Label of the base model; the name of its folder where absent.

    Attributes:
        folder: The folder of the base model.
        base: What a manifest says of it.
        base_id: The label that it was given.
        adapter: The adapter that the model computes with.

    Raises:
        TransferError: The model in memory is none of a folder, was changed since, or carries an adapter; or the
            tokenizer is not that of the folder.
        StorageError: There is no such folder.
        BinderError: Its architecture is unknown.
    """

    def __init__(self, model: Any, tokenizer: Any = None, *, base_id: str | None = None) -> None:
        self._model = None if isinstance(model, (str, Path)) else model
        self.folder = _folder_of(model)
        self.base: BaseModel = describe_base(load_base(self.folder), id=base_id)
        self._tokenizer, self.base_id = tokenizer, base_id
        if tokenizer is not None:
            _check_tokenizer(tokenizer, self.folder)
        self._attached = contextlib.ExitStack()
        self.adapter: Adapter | None = None

    @property
    def model(self) -> Any:
        """The model, loaded when it is first asked for; it computes with the adapter that was imported last."""
        self._load()
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; ``None`` where the folder has none."""
        if self._tokenizer is None:
            self._load()
        return self._tokenizer

    def train_adapter(
        self,
        name: str,
        data: Data,
        *,
        config: TrainingConfig | Mapping[str, Any] | str | Path | None = None,
        output: str | Path | None = None,
        **options: Any,
    ) -> TrainResult:
        """Train an adapter and add it to the registry, as ``ual train --record`` does; the model stays as it is.

        Args:
            name: Its name in the registry.
            data: A JSONL, CSV or text file, a folder of texts, a data set of the Hub, or examples as dicts.
            config: Settings: as they are, as a dict, or a file; the defaults where absent.
            output: AIR file to write; ``NAME.air`` where absent.
            options: Other arguments of ``ual_registry.train``, such as ``domain`` and ``resume``.

        Returns:
            The adapter, and what was done and measured.

        Raises:
            UALError: As ``ual_registry.train``.
        """
        return train(
            self.folder,
            data,
            output=output or f"{name}.air",
            config=config,
            name=name,
            base_id=self.base_id,
            record=True,
            **options,
        )

    def export_adapter(self, adapter: str, path: str | Path, *, force: bool = False) -> Path:
        """Write an adapter to a file that ends in ``.air``, or to any other path as a folder that PEFT loads.

        Args:
            adapter: The adapter.
            path: What to write.
            force: Whether to replace what stands there.

        Returns:
            What was written.

        Raises:
            RegistryError: There is no such adapter.
            UALError: It cannot be read or written.
        """
        target, source = Path(path), locate(adapter)
        if target.suffix != ".air":
            convert_to_peft(source, target, force=force)
        elif source == Path(adapter):
            check_target(target, force=force)
            with read(source) as opened:
                write(opened, target)
        else:
            get(adapter, target, force=force)
        return target

    def import_adapter(self, source: Adapter | str | Path, *, name: str | None = None) -> Adapter:
        """Let the model compute with an adapter, in place of the one that was imported before.

        Args:
            source: The adapter, or a folder that PEFT wrote.
            name: What to add it to the registry as; it is not added where absent.

        Returns:
            The adapter.

        Raises:
            RegistryError: There is no such adapter.
            BaseMismatchError: It was made for another base model; ``transfer_to_model`` carries it over.
            UALError: It cannot be read, or the model cannot compute with it; the one before stays.
        """
        need_transformers("an adapter on a model")
        adapter = source if isinstance(source, Adapter) else self._opened(source)
        self._check_base(adapter)
        from ual_registry.models.attach import attach  # noqa: PLC0415  # loads torch

        attached = contextlib.ExitStack()
        attached.enter_context(attach(self.model, adapter))
        self.remove_adapter()
        self._attached, self.adapter = attached, adapter
        if name is not None:
            _recorded(adapter, name)
        return adapter

    def remove_adapter(self) -> None:
        """Let the model compute without an adapter again."""
        self._attached.close()
        self.adapter = None

    def transfer_to_model(
        self,
        adapter: str,
        target: UniversalAdapter | Any,
        *,
        method: str = DEFAULT_METHOD,
        name: str | None = None,
        output: str | Path | None = None,
        **options: Any,
    ) -> Transferred:
        """Carry an adapter of this base model to another one.

        Args:
            adapter: The adapter.
            target: The base model to go to: another ``UniversalAdapter``, which then computes with the result; its
                folder; or a model of transformers.
            method: ``auto`` takes the best one for what is at hand; ``svd``, ``truncate`` and ``interpolate`` need
                nothing but shapes.
            name: What to add the result to the registry as; it is not added where absent.
            output: AIR file to write; none where absent.
            options: Other arguments of ``ual_registry.transfer``.

        Returns:
            The new adapter, the report, and what is known of the result.

        Raises:
            RegistryError: There is no such adapter.
            UALError: As ``ual_registry.transfer``.
        """
        there = target if isinstance(target, UniversalAdapter) else UniversalAdapter(target)
        options.setdefault("target_id", there.base_id)
        options.setdefault("source_base", self.folder)
        made = transfer(adapter, there.folder, method=method, **options)
        if output is not None:
            write(made.adapter, output)
        if name is not None:
            _recorded(made.adapter, name)
        if there is target:
            there.import_adapter(made.adapter)
        return made

    def list_adapters(self) -> tuple[RevisionRecord, ...]:
        """Return the newest revision of every adapter in the registry that is for this base model, by name.

        Raises:
            RegistryError: The registry cannot be used.
        """
        own = self.base.config_digest
        found = on_all_pages(lambda after: list_adapters(config_digest=own, after=after))
        return tuple([adapter.newest for adapter in found])

    def _load(self) -> None:
        """Load the model where it is not in memory."""
        if self._model is not None:
            return
        need_transformers("a base model")
        from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # loads torch

        loaded = load_base_model(self.folder, id=self.base.id)
        self._model, self._tokenizer = loaded.model, self._tokenizer or loaded.tokenizer

    def _opened(self, source: str | Path) -> Adapter:
        if Path(source).is_dir() and (Path(source) / CONFIG_FILE).is_file():
            return from_peft(source, self.folder, base_id=self.base.id)
        adapter = read(locate(str(source)))
        verify(adapter)
        return adapter

    def _check_base(self, adapter: Adapter) -> None:
        wanted, own = adapter.manifest.base_model, self.base
        if wanted.config_digest != own.config_digest:
            raise BaseMismatchError(
                f"the adapter was made for {wanted.id} with config_digest {wanted.config_digest}, "
                f"not for {own.id} with {own.config_digest}",
                code="other-base",
                context={"expected": wanted.config_digest, "got": own.config_digest},
                hint="carry it over with transfer_to_model",
            )


def _folder_of(model: Any) -> Path:
    if isinstance(model, (str, Path)):
        return Path(model)
    need_transformers("a model in memory")
    from ual_registry.models.origin import folder_of  # noqa: PLC0415  # loads torch

    return folder_of(model)


def _check_tokenizer(tokenizer: Any, folder: Path) -> None:
    need_transformers("a tokenizer")
    from ual_registry.models.origin import check_tokenizer  # noqa: PLC0415  # loads torch

    check_tokenizer(tokenizer, folder)


def _recorded(adapter: Adapter, name: str) -> None:
    """Add an adapter to the registry, by way of a file."""
    with tempfile.TemporaryDirectory(prefix="ual-") as place:
        file = Path(place) / "adapter.air"
        write(adapter, file)
        add(file, name=name)
