"""Check a binder document against the real model: its classes, its modules, and what they compute."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ual_registry.air.model import RowSlice
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import Binding, apply_binder
from ual_registry.binders.describe import config_fields
from ual_registry.binders.law import law_faults
from ual_registry.binders.load import decode_binder
from ual_registry.binders.model import Binder
from ual_registry.binders.slots import TargetModule
from ual_registry.errors import BinderError
from ual_registry.tracing.build import Builder, said
from ual_registry.tracing.infer import infer
from ual_registry.tracing.survey import Matrix

__all__ = ["BinderCheck", "check", "default_config"]


_NUMBER = re.compile(r"\.\d+\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BinderCheck:
    """One thing that was checked.

    Attributes:
        name: ``law``, ``modules``, ``coverage`` or ``function``.
        subject: What it was checked on: a model type and a class.
        faults: What is wrong, a sentence each; none where it holds.
        undecided: Why it could not be checked, where it could not.
    """

    name: str
    subject: str
    faults: tuple[str, ...] = ()
    undecided: str | None = None


def check(binder: Binder, base: BaseConfig) -> Iterator[BinderCheck]:
    """Check a binder on one config, step by step; what cannot be built or run is said, not passed over.

    Args:
        binder: The binder.
        base: A config of one of its model types.

    Yields:
        ``law``: slots and rows are one-to-one, in older editions too. ``modules``: each stands in the real class, with
        its shape. ``coverage``: the class has no linear module or embedding that the binder does not know. These for
        every class that is listed. ``function``: what each module was seen to do in a tiny model is the role that it is
        given.

    Raises:
        BinderError: The binder is not for this config, or transformers cannot build the model.
    """
    kind = config_fields(binder, base).kind
    builder = Builder(base.document)
    public = {found.__name__: found for found in (*builder.public_classes(), builder.model_class, builder.base_class)}
    for name in kind.class_names:
        subject = f"{base.model_type}, {name}"
        if name not in public:
            yield BinderCheck(name="modules", subject=subject, faults=(f"transformers has no class {name} for it",))
            continue
        yield from _of_class(apply_binder(binder, base, name), builder, base, public[name])
    for edition in binder.editions_of(base.model_type)[1:]:
        faults = law_faults(apply_binder(binder, base, edition=edition))
        yield BinderCheck(name="law", subject=f"{base.model_type}, edition {edition}", faults=faults)
    yield _function(binder, base, kind.default_class)


def _of_class(binding: Binding, builder: Builder, base: BaseConfig, model_class: Any) -> Iterator[BinderCheck]:
    """Check what one class holds against a binding."""
    subject = f"{base.model_type}, {model_class.__name__}"
    yield BinderCheck(name="law", subject=subject, faults=law_faults(binding))
    try:
        matrices = builder.empty(base.document, model_class)
    except Exception as error:  # noqa: BLE001  # whatever a class makes of a config that it does not like
        undecided = error.message if isinstance(error, BinderError) else f"it cannot be built: {said(error)}"
        yield BinderCheck(name="modules", subject=subject, undecided=undecided)
        return
    yield BinderCheck(name="modules", subject=subject, faults=_counted(_module_faults(binding, matrices)))
    yield BinderCheck(name="coverage", subject=subject, faults=_counted(_unknown(binding, matrices)))


def default_config(model_type: str) -> BaseConfig:
    """Return the config that transformers gives a model type by default, for a check without a model.

    Raises:
        UninferableArchitectureError: transformers does not know the model type.
    """
    from ual_registry.digest import Digest  # noqa: PLC0415  # one use

    builder = Builder({"model_type": model_type})
    text = builder.config({"model_type": model_type}).to_json_string(use_diff=False)
    return BaseConfig(label=f"default {model_type}", document=json.loads(text), digest=Digest.of_bytes(text.encode()))


def _module_faults(binding: Binding, matrices: Mapping[str, Matrix]) -> Iterator[str]:
    for path, module in binding.modules.items():
        matrix = matrices.get(path)
        if matrix is None:
            if module.slots[0].role != "lm_head":  # a class without this head is no fault
                yield f"{path}: the class has no such module"
        elif matrix.kind in {"linear", "conv1d"} and (matrix.kind == "conv1d") != module.is_conv1d:
            yield f"{path}: the weight is stored as {matrix.kind}, the binder says otherwise"
        elif matrix.shape != _shape(module, matrix):
            yield f"{path}: the config gives {_shape(module, matrix)}, the class has {matrix.shape}"


def _shape(module: TargetModule, matrix: Matrix) -> tuple[int, ...]:
    """Return the shape that the binder and the config give the stored weight."""
    shape = module.matrix_shape
    stored = shape[::-1] if module.is_conv1d or matrix.kind == "embedding" else shape
    return (len({slot.expert for slot in module.slots}), *stored) if module.parameter else stored


def _unknown(binding: Binding, matrices: Mapping[str, Matrix]) -> Iterator[str]:
    for path, matrix in matrices.items():
        if matrix.kind != "parameter" and not binding.knows(path):
            yield f"{path}: stands neither among the modules nor in without_role"


def _function(binder: Binder, base: BaseConfig, class_name: str) -> BinderCheck:
    """Compare the binder with what the modules of a tiny model were seen to do."""
    subject = f"{base.model_type}, {class_name}"
    named = replace(base, document={**base.document, "architectures": [class_name]})
    try:
        found = infer(named)
        seen = apply_binder(decode_binder(json.dumps(found.document).encode(), what="inferred"), named, class_name)
    except BinderError as error:
        return BinderCheck(name="function", subject=subject, undecided=error.message)
    said, told = _roles(apply_binder(binder, named, class_name)), _roles(seen)
    matrices = Builder(named.document).empty(named.document)
    faults = (
        f"{path}: the binder says {said.get(path, 'no role')}, its function is {told.get(path, 'none that was seen')}"
        for path in sorted(said.keys() | told.keys())
        if path in matrices and said.get(path) != told.get(path)
    )
    return BinderCheck(name="function", subject=subject, faults=_counted(faults))


def _counted(faults: Iterable[str]) -> tuple[str, ...]:
    """Say once what is wrong in the same way in several blocks; every fault begins with the path of a module."""
    found: dict[str, list[str]] = {}
    for fault in faults:
        found.setdefault(_NUMBER.sub(".{layer}.", fault, count=1), []).append(fault)
    return tuple(texts[0] if len(texts) == 1 else f"{form} (in {len(texts)} blocks)" for form, texts in found.items())


def _roles(binding: Binding) -> dict[str, Any]:
    """Return what each module holds in words: its roles, with the form of their rows where there are several."""
    found = {}
    for path, module in binding.modules.items():
        words = [f"{slot.role} in {_rows_text(slot.rows)}" if slot.rows else slot.role for slot in module.matrix]
        found[path] = ", ".join(words)
    return found


def _rows_text(rows: RowSlice) -> str:
    if rows.count == 1:
        return f"rows {rows.offset} to {rows.offset + rows.block - 1}"
    return f"{rows.count} blocks of {rows.block} rows from {rows.offset}, {rows.stride} apart"
