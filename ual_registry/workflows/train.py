"""Train an adapter, or say beforehand what that would take; frameworks are loaded when it begins."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import bind
from ual_registry.binders.load import known_model_types
from ual_registry.errors import RegistryError
from ual_registry.storage import check_target
from ual_registry.training.config import TrainingConfig
from ual_registry.training.config_file import make_config, read_config
from ual_registry.training.examples import known_form, read_examples
from ual_registry.training.fields import Record, decode_record, fault, form_of
from ual_registry.training.forms import Example
from ual_registry.training.target_choice import TargetChoice
from ual_registry.training.targets import choose_targets
from ual_registry.workflows.bases import find_base
from ual_registry.workflows.extras import need_training

if TYPE_CHECKING:
    from ual_registry.air.adapter import Adapter
    from ual_registry.models.loaded import LoadedBase
    from ual_registry.training.estimate import Estimate
    from ual_registry.training.prepare import Prepared
    from ual_registry.training.record import TrainingRecord

__all__ = [
    "Data",
    "TrainEstimate",
    "TrainOrder",
    "TrainResult",
    "estimate_training",
    "explain_targets",
    "is_first",
    "run_training",
    "train",
]

Data = str | Path | Iterable[Example | Mapping[str, Any]]
"""What is trained on: a file, a folder, a data set of the Hub, or examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOrder:
    """What to train.

    Attributes:
        base: Folder of the base model, with weights and tokenizer.
        data: What to train on.
        config: How.
        base_id: Label of the base model; the name of its folder where absent.
        form: What the examples are; what the first one is where absent.
        labels: Fields of the manifest that people write: ``name``, ``description``, ``domain``, ``license``.
        output: AIR file to write.
        folder: Where the run is kept; beside ``output``, with the ending ``.run``, where absent.
        is_resumed: Whether to go on with the run that is there.
        is_recorded: Whether to add the result to the registry, under its name.
        is_forced: Whether to replace what stands at ``output``.
        is_shown: Whether to draw a line on standard error while it goes.
    """

    base: str
    data: Data
    config: TrainingConfig = field(default_factory=TrainingConfig)
    base_id: str | None = None
    form: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    output: str | Path
    folder: str | Path | None = None
    is_resumed: bool = False
    is_recorded: bool = False
    is_forced: bool = False
    is_shown: bool = False

    @property
    def run_folder(self) -> Path:
        """Where the run is kept."""
        return Path(self.output).with_suffix(".run") if self.folder is None else Path(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What was trained, and where it is kept.

    Attributes:
        adapter: The adapter.
        record: What was done and measured.
        path: Its AIR file.
        digest: The file's digest.
        folder: Where the run is kept.
        notes: What the user must know of the data.
        revision: Its name in the registry; ``None`` where it was not added.
    """

    adapter: Adapter
    record: TrainingRecord
    path: str
    digest: str
    folder: str
    notes: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEstimate:
    """What a training would take.

    Attributes:
        base: Label of the base model.
        estimate: The numbers.
        data: What became of the examples.
        notes: What the user must know of the data.
    """

    base: str
    estimate: Estimate
    data: Mapping[str, Any]
    notes: tuple[str, ...]


def is_first() -> bool:
    """Tell whether this process speaks for all that share the training, as ``accelerate launch`` starts them."""
    return os.environ.get("RANK", "0") == "0"


def explain_targets(base: str | Path, config: TrainingConfig) -> TargetChoice:
    """Say which modules would carry factors, and why; a framework is loaded only where the binder must be inferred.

    Args:
        base: A base model: its folder, its ``config.json``, or its repository on the Hub.
        config: Roles, layers, and what to leave out.

    Raises:
        UALError: The base model cannot be read or bound, or has no such role or layer.
    """
    found = find_base(base).config
    with tempfile.TemporaryDirectory(prefix="ual-train-") as place, _architecture(found, Path(place) / "binder.json"):
        return choose_targets(
            bind(found), roles=config.roles, layers=config.layers, exclude=config.exclude, config=found
        )


def estimate_training(order: TrainOrder) -> TrainEstimate:
    """Say what a training would take; a few micro-batches are run, and nothing is written.

    Args:
        order: What would be trained.

    Raises:
        MissingExtraError: torch, transformers, peft or accelerate is not installed.
        UALError: As ``train``.
    """
    need_training("an estimate")
    from ual_registry.training.estimate import estimate  # noqa: PLC0415  # loads torch

    with (
        tempfile.TemporaryDirectory(prefix="ual-train-") as place,
        _architecture(find_base(order.base).config, Path(place) / "binder.json"),
    ):
        base, prepared = _material(order)
        return TrainEstimate(
            base=base.base.id,
            estimate=estimate(base, prepared, order.config),
            data=prepared.report.document(),
            notes=prepared.report.notes(),
        )


def train(
    base: str | Path,
    data: Data,
    *,
    output: str | Path,
    config: TrainingConfig | Mapping[str, Any] | str | Path | None = None,
    name: str | None = None,
    description: str | None = None,
    domain: str | None = None,
    license: str | None = None,
    base_id: str | None = None,
    form: str | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    record: bool = False,
    force: bool = False,
) -> TrainResult:
    """Train an adapter, and write it as an AIR file with its record and its proof.

    Args:
        base: Folder of the base model, with weights and tokenizer.
        data: A JSONL, CSV or text file, a folder of texts, a data set of the Hub, or examples as dicts.
        output: AIR file to write.
        config: Settings: as they are, as a dict, or a YAML, TOML or JSON file; the defaults where absent.
        name: A label for the adapter, and its name in the registry.
        description: What it does.
        domain: The field that it serves.
        license: SPDX expression.
        base_id: Label of the base model; the name of its folder where absent.
        form: What the examples are: ``text``, ``completion``, ``chat`` or ``label``.
        folder: Where the run is kept; beside ``output`` where absent.
        resume: Whether to go on with the run that is there.
        record: Whether to add the result to the registry.
        force: Whether to replace what stands at ``output``.

    Returns:
        The adapter, and what was done and measured.

    Raises:
        MissingExtraError: torch, transformers, peft or accelerate is not installed.
        UALError: The base model, the data or a setting is not fit, or the run cannot go on; see ``training.run``.
    """
    texts = {"name": name, "description": description, "domain": domain, "license": license}
    return run_training(
        TrainOrder(
            base=str(base),
            data=data,
            config=_config(config),
            base_id=base_id,
            form=form,
            labels={key: value for key, value in texts.items() if value is not None},
            output=output,
            folder=folder,
            is_resumed=resume,
            is_recorded=record,
            is_forced=force,
        )
    )


def _config(given: TrainingConfig | Mapping[str, Any] | str | Path | None) -> TrainingConfig:
    if given is None:
        return TrainingConfig()
    if isinstance(given, (str, Path)):
        return read_config(Path(given))
    return given if isinstance(given, TrainingConfig) else make_config(given)


def run_training(order: TrainOrder, *, say: Callable[[str], None] = lambda _: None) -> TrainResult:
    """Train an adapter; see ``train``.

    Args:
        order: What to train.
        say: Is told what is done now.
    """
    output = Path(order.output)
    check_target(output, force=order.is_forced)
    if order.is_recorded and "name" not in order.labels:
        raise RegistryError(
            "cannot record the adapter: it has no name", code="not-recordable", hint="give it a name (--name)"
        )
    need_training("training")
    with _architecture(find_base(order.base).config, output.with_suffix(".binder.json"), say):
        say(f"loading {order.base}")
        base, prepared = _material(order, say)
        for note in prepared.report.notes():
            say(note)
        say(f"training in {order.run_folder}")
        return _trained(order, base, prepared)


@contextlib.contextmanager
def _architecture(config: BaseConfig, file: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Make sure that the architecture is known, by inference where no binder knows it."""
    if config.model_type in known_model_types():
        yield
        return
    need_training("inference of a binder")
    from ual_registry.training.inferred import known_architecture  # noqa: PLC0415  # loads torch

    with known_architecture(config, file) as inferred:
        if inferred is not None:
            say(f"inferred the binder of this architecture: {file}; set UAL_BINDERS to it wherever the adapter is used")
        yield


def _trained(order: TrainOrder, base: LoadedBase, prepared: Prepared) -> TrainResult:
    """Train, and put the result where it belongs."""
    from ual_registry.training import run  # noqa: PLC0415  # loads torch

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    made = run.train(
        base,
        prepared,
        order.config,
        folder=order.run_folder,
        resume=order.is_resumed,
        labels=order.labels,
        created_at=now,
        is_shown=order.is_shown,
    )
    revision, path = None, made.path
    if is_first():
        path = Path(order.output)
        with made.adapter:
            write(made.adapter, path)
        revision = _added(path, order.labels["name"]) if order.is_recorded else None
    return TrainResult(
        adapter=read(path),
        record=made.record,
        path=str(path),
        digest=str(made.digest),
        folder=str(order.run_folder),
        notes=prepared.report.notes(),
        revision=revision,
    )


def _material(order: TrainOrder, say: Callable[[str], None] = lambda _: None) -> tuple[LoadedBase, Prepared]:
    """Load the base model, and prepare the examples for it, in rows that it can read."""
    from ual_registry.training.heads import context_of, load_for_training  # noqa: PLC0415  # as in run_training
    from ual_registry.training.place import place_of  # noqa: PLC0415
    from ual_registry.training.prepare import prepare, sorted_labels  # noqa: PLC0415

    config = order.config
    place = place_of(config)
    examples = tuple(_examples(order))
    base = load_for_training(
        order.base,
        config.head,
        id=order.base_id,
        dtype=place.dtype,
        device=place.device,
        labels=sorted_labels(examples),
        seed=config.seed,
    )
    context = context_of(base)
    if context is not None and context < config.max_length:
        say(f"rows hold {context:,} tokens at most, since the base model reads no more at once")
        config = replace(config, max_length=context)
    return base, prepare(examples, base.text_tokenizer, config)


def _examples(order: TrainOrder) -> Iterable[Example]:
    if isinstance(order.data, (str, Path)):
        return read_examples(order.data, form=order.form)
    return [_example(own, index, order.form) for index, own in enumerate(order.data)]


def _example(own: Example | Mapping[str, Any], index: int, form: str | None) -> Example:
    if isinstance(own, Example):
        return own
    if not isinstance(own, Mapping):
        raise fault("examples", f"number {index}", f"expected a mapping, got a {type(own).__name__}")
    record = Record(source="examples", place=f"number {index}", values=own)
    return decode_record(record, form_of(record) if form is None else known_form(form))


def _added(path: Path, name: str) -> str:
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # brings a database library along

    added = Registry.open().add(path, name=name)
    return f"{added.name}@{added.number}"
