"""Try an adapter on its base model: whether it acts, and does what it is recorded to do; and record what it does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.effect import Effect, effect_of, with_effect
from ual_registry.air.read import verify
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.engines.findings import Finding, Verdict
from ual_registry.errors import (
    BaseMismatchError,
    ForeignFormatError,
    MissingExtraError,
    NumericalError,
    RouteError,
    TransferError,
    UALError,
    UnresolvedModuleError,
)
from ual_registry.interop.from_peft import from_peft
from ual_registry.storage import check_target
from ual_registry.workflows.extras import need_transformers
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import add_revision, locate, registered_name

if TYPE_CHECKING:
    from ual_registry.dispatch.acting import AdapterLoader, EffectProof

__all__ = ["EffectOrder", "RecordedEffect", "record_effect", "try_effect"]

_WHERE = "effect"
_SAYS = {
    "not_recorded": "not recorded; 'ual doctor REF --base FOLDER -o FILE.air' records it",
    "other_base": "recorded on another base model, so it was not compared",
    "too_small": "too small to be told from rounding, so it was not compared",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectOrder:
    """Where an adapter with its effect is kept.

    Attributes:
        output: AIR file to write.
        is_recorded: Whether to add it to the registry, as the next revision.
        is_forced: Whether to replace what stands at ``output``.
    """

    output: str | None = None
    is_recorded: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEffect:
    """An adapter that records what it does.

    Attributes:
        path: The AIR file; ``None`` where none was asked for.
        digest: Its digest.
        revision: Its name in the registry; ``None`` where it was not added.
    """

    path: str | None
    digest: str
    revision: str | None


def try_effect(reference: str, folder: Path) -> Finding:
    """Say what an adapter does on its base model, as a finding.

    Args:
        reference: An AIR file, a reference into the registry, or a PEFT folder.
        folder: Folder of the base model, with weights.

    Raises:
        UALError: The adapter or the base model cannot be read.
    """
    try:
        need_transformers("what an adapter does")
    except MissingExtraError as error:
        return Finding(verdict=Verdict.NOTE, where=_WHERE, says=f"not tried: {error.message}")
    loader = _loader(folder)
    if loader is None:
        return Finding(verdict=Verdict.NOTE, where=_WHERE, says="not tried: the base model goes on with no text")
    try:
        with _opened(reference, folder) as adapter:
            return _proved(loader.load(adapter, reference).effect, adapter)
    except UALError as error:
        found = _found(error)
        if found is None:
            raise
        return found


def record_effect(reference: str, folder: Path, order: EffectOrder) -> RecordedEffect:
    """Record in an adapter what it does on its base model, in place of what was recorded before.

    Args:
        reference: An AIR file, or a reference into the registry.
        folder: Folder of the base model, with weights.
        order: Where the result is kept.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        RouteError: It does nothing, or the base model goes on with no text.
        BaseMismatchError: The base model is another than the adapter records.
        UALError: Something cannot be read or written.
    """
    name = registered_name(reference, recorded="the effect") if order.is_recorded else None
    if order.output is not None:
        check_target(Path(order.output), force=order.is_forced)
    need_transformers("the effect of an adapter")
    with read_adapter(locate(reference)) as adapter:
        verify(adapter)
        made = Adapter(with_effect(adapter.manifest, _measured(adapter, reference, folder)), adapter.tensors)
        with tempfile.TemporaryDirectory(prefix="ual-doctor-") as place:
            path = Path(order.output) if order.output is not None else Path(place) / "adapter.air"
            digest = str(write(made, path))
            return RecordedEffect(
                path=order.output, digest=digest, revision=None if name is None else add_revision(path, name)
            )


def _measured(adapter: Adapter, reference: str, folder: Path) -> Effect:
    from ual_registry.dispatch.sources import other_base  # noqa: PLC0415  # only where it is measured

    loader = _loader(folder)
    if loader is None:
        raise RouteError(f"{folder}: the base model goes on with no text, so no effect can be recorded")
    assert loader.base is not None  # it was given
    other = other_base(adapter.manifest.base_model, loader.base)
    if other is not None:
        hint = "give the base model that the adapter records"
        raise BaseMismatchError(f"{reference}: {other}", code="other-base", hint=hint)
    return loader.measure(adapter, reference)


def _loader(folder: Path) -> AdapterLoader | None:
    """Load a base model; ``None`` where it is no causal one."""
    from ual_registry.dispatch.acting import AdapterLoader  # noqa: PLC0415  # loads torch
    from ual_registry.dispatch.mixing import MixingModel  # noqa: PLC0415  # likewise
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # likewise

    loaded = load_base_model(folder)
    if not loaded.model.can_generate() or loaded.model.config.is_encoder_decoder:
        return None
    return AdapterLoader(MixingModel(loaded.model), loaded.base)


@contextmanager
def _opened(reference: str, folder: Path) -> Iterator[Adapter]:
    if Path(reference).is_dir():
        with from_peft(reference, load_base(folder)) as adapter:
            yield adapter
        return
    with read_adapter(locate(reference)) as adapter:
        verify(adapter)
        yield adapter


def _proved(proof: EffectProof, adapter: Adapter) -> Finding:
    says = _SAYS.get(proof)
    if says is None:
        effect = effect_of(adapter.manifest)
        assert effect is not None  # it was compared
        first = effect.changes[0]
        says = f"as recorded: it moves the logit of token {first.token} by {first.change:.4g}"
    return Finding(verdict=Verdict.NOTE, where=_WHERE, says=says)


def _found(error: UALError) -> Finding | None:
    """Return the finding that an error of a loader is; ``None`` where it is none."""
    says = error.message.partition(": ")[2] if isinstance(error, RouteError | NumericalError) else error.message
    if isinstance(error, NumericalError) or error.problem_code == "other-effect":
        return Finding(verdict=Verdict.OTHER_EFFECT, where=_WHERE, says=says)
    if isinstance(error, RouteError | UnresolvedModuleError | BaseMismatchError):
        return Finding(verdict=Verdict.NO_EFFECT, where=_WHERE, says=says)
    if isinstance(error, TransferError | ForeignFormatError):
        return Finding(verdict=Verdict.NOTE, where=_WHERE, says=f"not tried: {says}")
    return None
