"""What a training works with: the base model in memory, its examples as rows, and the settings as far as both allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ual_registry.errors import TrainingError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.examples import known_form, read_examples
from ual_registry.training.fields import Record, check_fields, decode_record, fault, form_of, renamed
from ual_registry.training.forms import Example
from ual_registry.training.rank_notes import rank_notes
from ual_registry.workflows.train_order import TrainOrder

if TYPE_CHECKING:
    from ual_registry.models.loaded import LoadedBase
    from ual_registry.training.prepare import Prepared

__all__ = ["Material", "examples_of", "held_out_of", "load_material"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a training works with.

    Attributes:
        base: The base model, with the head that is trained through.
        prepared: The examples as rows of tokens.
        config: The settings; rows hold no more than the base model reads at once.
        notes: What the user must know of data and settings, in sentences.
    """

    base: LoadedBase
    prepared: Prepared
    config: TrainingConfig
    notes: tuple[str, ...]


def load_material(order: TrainOrder, say: Callable[[str], None] = lambda _: None) -> Material:
    """Load the base model, and prepare the examples for it, in rows that it can read.

    Args:
        order: What to train; its base model can be bound.
        say: Is told what the user must know.

    Raises:
        TrainingError: Memory runs out, or nothing can be trained on.
        UALError: The base model or the data cannot be read.
    """
    from ual_registry.training.factors import targets_of  # noqa: PLC0415  # loads torch
    from ual_registry.training.heads import context_of, load_for_training  # noqa: PLC0415  # as above
    from ual_registry.training.memory import memory_told  # noqa: PLC0415  # as above
    from ual_registry.training.place import place_of  # noqa: PLC0415  # as above
    from ual_registry.training.prepare import prepare, sorted_labels  # noqa: PLC0415  # as above

    config = order.config
    place = place_of(config)
    examples, held_out = examples_of(order), held_out_of(order)
    with memory_told(config):
        base = load_for_training(
            order.base,
            config.head,
            id=order.base_id,
            dtype=place.dtype,
            device=place.own_device,
            labels=sorted_labels((*examples, *(held_out or ()))),
            seed=config.seed,
        )
    context = context_of(base)
    if context is not None and context < config.max_length:
        say(f"rows hold {context:,} tokens at most, since the base model reads no more at once")
        config = replace(config, max_length=context)
    prepared = prepare(examples, base.text_tokenizer, config, held_out=held_out)
    notes = (*prepared.report.notes(), *rank_notes(base.binding, targets_of(base, config), config))
    return Material(base=base, prepared=prepared, config=config, notes=notes)


def held_out_of(order: TrainOrder) -> tuple[Example, ...] | None:
    """Read the examples that an order holds out; ``None`` where a share of its data is.

    Raises:
        UALError: As ``examples_of``.
    """
    return None if order.held_out is None else examples_of(replace(order, data=order.held_out, limit=None))


def examples_of(order: TrainOrder) -> tuple[Example, ...]:
    """Read the examples of an order, no more than it asks for.

    Raises:
        TrainingError: They are given as something else than a path or a sequence.
        UALError: As ``read_examples``.
    """
    if isinstance(order.data, (str, Path)):
        found: Iterable[Example] = read_examples(order.data, form=order.form, fields=order.fields)
    else:
        check_fields(order.fields)
        found = (_example(own, index, order) for index, own in enumerate(_given(order.data)))
    return tuple(islice(found, order.limit))


def _given(data: Any) -> Iterable[Any]:
    if isinstance(data, Mapping | bytes) or not isinstance(data, Iterable):
        raise TrainingError(
            f"data: expected a path or examples as dicts, got a {type(data).__name__}",
            code="setting",
            context={"setting": "data"},
            hint="give a file, a folder, a data set of the Hub, or a list of dicts",
        )
    return data


def _example(own: Example | Mapping[str, Any], index: int, order: TrainOrder) -> Example:
    if isinstance(own, Example):
        return own
    if not isinstance(own, Mapping):
        raise fault("examples", f"number {index}", f"expected a mapping, got a {type(own).__name__}")
    record = renamed(Record(source="examples", place=f"number {index}", values=own), order.fields)
    return decode_record(record, form_of(record) if order.form is None else known_form(order.form))
