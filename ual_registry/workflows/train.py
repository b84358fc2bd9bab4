"""Train an adapter, or say beforehand what that would take; frameworks are loaded when it begins."""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.bind import bind
from ual_registry.binders.load import known_model_types
from ual_registry.training.config import TrainingConfig
from ual_registry.training.config_file import make_config, read_config
from ual_registry.training.folder import clear_run
from ual_registry.training.launch import is_first
from ual_registry.training.target_choice import TargetChoice
from ual_registry.training.targets import choose_targets
from ual_registry.workflows.bases import find_base
from ual_registry.workflows.extras import need_training
from ual_registry.workflows.references import add_revision
from ual_registry.workflows.train_check import check_base, check_order
from ual_registry.workflows.train_material import Material, load_material
from ual_registry.workflows.train_order import Data, TrainEstimate, TrainOrder, TrainResult

__all__ = ["estimate_training", "explain_targets", "run_training", "train"]


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
    check_base(order.base)
    need_training("an estimate")
    from ual_registry.training.estimate import estimate  # noqa: PLC0415  # loads torch

    config = load_base(Path(order.base))
    with (
        tempfile.TemporaryDirectory(prefix="ual-train-") as place,
        _architecture(config, Path(place) / "binder.json"),
    ):
        _check_settings(config, order.config)
        material = load_material(order)
        return TrainEstimate(
            base=material.base.base.id,
            estimate=estimate(material.base, material.prepared, material.config),
            data=material.prepared.report.document(),
            notes=material.notes,
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
    fields: Mapping[str, str] | None = None,
    limit: int | None = None,
    held_out: Data | None = None,
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
        fields: What the data calls each field, where it has another name there: ``{"prompt": "question"}``.
        limit: How many examples are read at most; all where absent.
        held_out: What to hold out, given as ``data`` is; a share of the data where absent.
        folder: Where the run is kept; beside ``output`` where absent.
        resume: Whether to go on with the run that is there.
        record: Whether to add the result to the registry.
        force: Whether to replace what stands at ``output``, and to begin the run anew where it is not to go on.

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
            fields=fields or {},
            limit=limit,
            held_out=held_out,
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
    goes_on = check_order(order)
    need_training("training")
    config = load_base(Path(order.base))
    with _architecture(config, Path(order.output).with_suffix(".binder.json"), say):
        _check_settings(config, order.config)
        if order.is_resumed and not goes_on and is_first():
            say(f"no run in {order.run_folder}: begun anew")
        say(f"loading {order.base}")
        material = load_material(order, say)
        for note in material.notes:
            say(note)
        say(f"training in {order.run_folder}")
        return _trained(order, material)


def _check_settings(config: BaseConfig, settings: TrainingConfig) -> None:
    """Refuse, before anything large is loaded, a device that is not there, a head or modules that the base lacks."""
    from ual_registry.training.heads import model_class_of  # noqa: PLC0415  # loads torch
    from ual_registry.training.place import place_of  # noqa: PLC0415  # as above

    place_of(settings)
    binding = bind(config, model_class_of(config, settings.head))
    choose_targets(binding, roles=settings.roles, layers=settings.layers, exclude=settings.exclude, config=config)


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


def _trained(order: TrainOrder, material: Material) -> TrainResult:
    """Train, and put the result where it belongs."""
    from ual_registry.training import run  # noqa: PLC0415  # loads torch

    if is_first() and order.is_forced and not order.is_resumed:
        clear_run(order.run_folder)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    made = run.train(
        material.base,
        material.prepared,
        material.config,
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
        revision = add_revision(path, order.labels["name"]) if order.is_recorded else None
    return TrainResult(
        adapter=read(path),
        record=made.record,
        path=str(path),
        digest=str(made.digest),
        folder=str(order.run_folder),
        notes=material.notes,
        revision=revision,
    )
