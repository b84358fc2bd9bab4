"""Measure what an adapter does on its base model, with controls; frameworks are loaded when it begins."""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write
from ual_registry.binders.base import load_base
from ual_registry.binders.describe import describe_base
from ual_registry.errors import FormatError, StorageError
from ual_registry.evaluation.carried import carried_energy
from ual_registry.storage import check_target
from ual_registry.workflows.base_check import CARRIED, require_recorded, require_trained
from ual_registry.workflows.extras import need_transformers
from ual_registry.workflows.native import NativeOrder, refuse_test_items, train_native
from ual_registry.workflows.pictures import check_picture
from ual_registry.workflows.reading import open_material
from ual_registry.workflows.references import add_revision, registered_name

if TYPE_CHECKING:
    from ual_registry.evaluation.items import DataFile
    from ual_registry.evaluation.report import Evaluation
    from ual_registry.evaluation.run import Baselines, Data
    from ual_registry.models.loaded import LoadedBase

__all__ = ["BASELINES", "EvaluateOrder", "EvaluateResult", "evaluate"]

BASELINES = ("native", "wrong-task")
"""The further adapters that may be given by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOrder:
    """How to measure.

    Attributes:
        on: Folder of the base model, with weights and tokenizer.
        data: The test items, a JSONL file.
        task: ``labels``, ``bits-per-byte`` or ``exact``.
        baselines: References to further adapters, by a name of ``BASELINES``.
        native: How to train a native adapter first, in place of one among the baselines.
        source_base: Folder of the model that the adapter was carried from.
        source: Reference to the adapter that it was made from.
        dev: Items that choose the dose; a curve is measured where they are given.
        generic: Documents that have nothing to do with the task.
        seed: Seeds label orders, controls and the bootstrap.
        is_plain: Whether prompts are given as they are, even where a base has a chat template.
        is_any_base: Whether to measure on another base model than the one that the adapter records.
        plot: Picture to write, PNG or SVG.
        output: AIR file to write, with the report card.
        is_recorded: Whether to add that to the registry, as the next revision.
        is_forced: Whether to replace what stands at ``plot`` and ``output``.
    """

    on: str
    data: str
    task: str = "labels"
    baselines: Mapping[str, str] = field(default_factory=dict)
    native: NativeOrder | None = None
    source_base: str | None = None
    source: str | None = None
    dev: str | None = None
    generic: str | None = None
    seed: int = 0
    is_plain: bool = False
    is_any_base: bool = False
    plot: str | None = None
    output: str | None = None
    is_recorded: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """What was measured, and where it is kept.

    Attributes:
        evaluation: What was measured.
        digest: Digest of the adapter that was measured.
        base: Label of the base model.
        path: The AIR file with the report card; ``None`` where none was asked for.
        path_digest: Its digest.
        revision: Its name in the registry; ``None`` where it was not added.
        plot: The picture.
    """

    evaluation: Evaluation
    digest: str
    base: str
    path: str | None
    path_digest: str | None
    revision: str | None
    plot: str | None


def evaluate(reference: str, order: EvaluateOrder, *, say: Callable[[str], None] = lambda _: None) -> EvaluateResult:
    """Measure an adapter, with controls, and keep the report card where that is asked for.

    Args:
        reference: The adapter.
        order: How to measure.
        say: Is told what is done now.

    Raises:
        MissingExtraError: torch, transformers or, for a picture, matplotlib is not installed.
        FormatError: The data is not of the form of the task, or dev is the test file.
        BaseMismatchError: The base model is another than the adapter records.
        RegistryError: The report card cannot be recorded, because the adapter has no name in the registry.
        UALError: As ``evaluation.run.evaluate``, ``models.loaded.load_base_model`` and ``air.write.write``.
    """
    name = _checked(reference, order)
    need_transformers("evaluation")
    from ual_registry.evaluation.run import evaluate as run  # noqa: PLC0415  # loads torch
    from ual_registry.evaluation.tasks import TASKS  # noqa: PLC0415  # loads torch

    data = _data(order)
    with contextlib.ExitStack() as stack:
        materials: dict[str, str] = {}
        notes: tuple[str, ...] = ()
        adapter = open_material(stack, "adapter", reference, materials)
        baselines = _baselines(stack, order, materials)
        say(f"loading {order.on}")
        loaded = _loaded(order.on, adapter, materials, name="base", is_any=order.is_any_base)
        _check_baselines(baselines, loaded, order)
        if order.native is not None:
            say(f"training a native adapter on {order.native.data}")
            native, notes = _trained(stack, order, loaded, data.test, materials)
            baselines = replace(baselines, native=native)
        task = TASKS[order.task][0](order.seed, order.is_plain)
        found = run(loaded, adapter, task, data, baselines=baselines, seed=order.seed, say=say)
        found = replace(found, notes=(*notes, *_lineage_note(adapter, order, materials), *found.notes))
        materials |= {key: own.digest for key, own in _files(data)}
        path_digest, revision = _keep(adapter, found, materials, order, name)
    _draw(adapter, found, order)
    return EvaluateResult(
        evaluation=found,
        digest=materials["adapter"],
        base=loaded.base.id,
        path=order.output,
        path_digest=path_digest,
        revision=revision,
        plot=order.plot,
    )


def _checked(reference: str, order: EvaluateOrder) -> str | None:
    """Refuse what cannot be done before anything is measured; return the adapter's name where it is needed."""
    if order.output is not None:
        check_target(Path(order.output), force=order.is_forced)
    if order.plot is not None:
        check_picture(Path(order.plot), force=order.is_forced)
    if order.plot is not None and order.output is not None and _is_same_place(order.plot, order.output):
        raise StorageError(f"cannot write {order.output}: the picture goes there too", context={"path": order.output})
    return registered_name(reference, recorded="the report card") if order.is_recorded else None


def _is_same_place(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _data(order: EvaluateOrder) -> Data:
    from ual_registry.evaluation.items import read_documents  # noqa: PLC0415  # as in evaluate
    from ual_registry.evaluation.run import Data  # noqa: PLC0415
    from ual_registry.evaluation.tasks import TASKS  # noqa: PLC0415

    read_items = TASKS[order.task][1]
    test = read_items(Path(order.data))
    dev = read_items(Path(order.dev)) if order.dev is not None else None
    if dev is not None and dev.digest == test.digest:
        raise FormatError(
            f"{order.dev}: is the test file too, so the dose would be chosen on what it is tested on",
            code="evaluation-data",
            context={"path": order.dev},
            hint="split the items in two files",
        )
    return Data(test=test, dev=dev, generic=read_documents(Path(order.generic)) if order.generic is not None else None)


def _files(data: Data) -> Iterator[tuple[str, DataFile]]:
    for name, file in (("test data", data.test), ("dev data", data.dev), ("generic data", data.generic)):
        if file is not None:
            yield name, file


def _baselines(stack: contextlib.ExitStack, order: EvaluateOrder, materials: dict[str, str]) -> Baselines:
    from ual_registry.evaluation.run import Baselines  # noqa: PLC0415  # as in evaluate

    given = {name: open_material(stack, f"{name} adapter", own, materials) for name, own in order.baselines.items()}
    if "native" in given:
        require_trained(given["native"].manifest, order.baselines["native"])
    source = None
    if order.source is not None and order.source_base is not None:
        own, folder = open_material(stack, "source adapter", order.source, materials), order.source_base
        if not order.is_any_base:  # said now, although its weights are looked at after everything else is measured
            require_recorded(describe_base(load_base(Path(folder))), own.manifest.base_model, where=folder)
        source = (lambda: _loaded(folder, own, materials, name="source base", is_any=order.is_any_base), own)
    return Baselines(native=given.get("native"), wrong_task=given.get("wrong-task"), source=source)


def _lineage_note(adapter: Adapter, order: EvaluateOrder, materials: Mapping[str, str]) -> Iterator[str]:
    """Say where the source is another adapter than the one that the lineage names."""
    made_from = [own.digest for own in adapter.manifest.parents if own.relation in CARRIED]
    given = materials.get("source adapter")
    if given is not None and made_from and given not in made_from:
        yield f"the adapter was carried from {made_from[0]}, and {order.source} is another one"


def _check_baselines(baselines: Baselines, loaded: LoadedBase, order: EvaluateOrder) -> None:
    """Refuse adapters that were made for another base model: the same shapes do not make them comparable."""
    if order.is_any_base:
        return
    for name, own in (("native", baselines.native), ("wrong-task", baselines.wrong_task)):
        if own is not None:
            require_recorded(loaded.base, own.manifest.base_model, where=order.on, whose=f"the {name} adapter")


def _trained(
    stack: contextlib.ExitStack, order: EvaluateOrder, loaded: LoadedBase, test: DataFile, materials: dict[str, str]
) -> tuple[Adapter, tuple[str, ...]]:
    """Train the native adapter and open it; say where it has seen what it is tested on."""
    from ual_registry.evaluation.items import contents  # noqa: PLC0415  # as in evaluate
    from ual_registry.evaluation.tasks import TASKS  # noqa: PLC0415

    assert order.native is not None  # the caller asks
    items = TASKS[order.task][1](Path(order.native.data))
    refuse_test_items(order.native, items, test)
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ual-native-")))
    path = train_native(order.native, loaded, items, place, seed=order.seed, is_plain=order.is_plain)
    materials["native training data"] = items.digest
    shared = len(contents(items) & contents(test))
    notes = (f"{shared} items that the native adapter was trained on are test items too",) if shared else ()
    return open_material(stack, "native adapter", str(path), materials), notes


def _loaded(folder: str, adapter: Adapter, materials: dict[str, str], *, name: str, is_any: bool) -> LoadedBase:
    """Load a base model with its tokenizer, and make sure that the adapter is for it."""
    from ual_registry.models.loaded import load_base_model  # noqa: PLC0415  # loads torch

    loaded = load_base_model(folder)
    loaded.text_tokenizer  # noqa: B018  # raises where there is none
    if not is_any:
        require_recorded(loaded.base, adapter.manifest.base_model, where=folder)
    materials[f"{name} config"] = loaded.base.config_digest
    if loaded.base.weights_digest is not None:
        materials[f"{name} weights"] = loaded.base.weights_digest
    return loaded


def _keep(
    adapter: Adapter, found: Evaluation, materials: Mapping[str, str], order: EvaluateOrder, name: str | None
) -> tuple[str | None, str | None]:
    """Write the adapter with its report card where that is asked for; return digest and revision."""
    if order.output is None and name is None:
        return None, None
    from ual_registry.evaluation.report_card import evaluation_statement  # noqa: PLC0415  # as in evaluate

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    statement = evaluation_statement(
        found, materials=materials, builder_version=version("ual-registry"), created_at=now
    )
    manifest = replace(adapter.manifest, provenance=(*adapter.manifest.provenance, statement))
    judged = Adapter(manifest, adapter.tensors)
    with tempfile.TemporaryDirectory(prefix="ual-evaluate-") as place:
        path = Path(order.output) if order.output is not None else Path(place) / "adapter.air"
        digest = str(write(judged, path))
        return digest, add_revision(path, name) if name is not None else None


def _draw(adapter: Adapter, found: Evaluation, order: EvaluateOrder) -> None:
    """Draw the picture where one is asked for."""
    if order.plot is None:
        return
    from ual_registry.evaluation.plots import draw  # noqa: PLC0415  # loads matplotlib

    draw(found, Path(order.plot), carried_energy(adapter.manifest))
