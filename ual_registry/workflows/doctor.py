"""Say beforehand what an engine would reject of an adapter, what it would silently ignore, and what does nothing.

On a base model with weights the adapter is tried, too: see ``workflows.effects``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ual_registry.air.header import open_header
from ual_registry.air.tensor import FileSource, Tensor
from ual_registry.binders.bind import bind_paths
from ual_registry.engines.examine import examine, unmatched
from ual_registry.engines.findings import Diagnosis, Finding
from ual_registry.engines.rules import load_rules
from ual_registry.errors import UnresolvedModuleError
from ual_registry.interop.peft_config import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    WEIGHTS_FILE,
    carried_part,
    check_config,
    parse_document,
    require_files,
)
from ual_registry.interop.peft_names import split_name
from ual_registry.interop.to_peft import PeftForm, peft_form
from ual_registry.storage import read_file
from ual_registry.workflows.bases import find_base, has_weights
from ual_registry.workflows.effects import try_effect
from ual_registry.workflows.reading import read_adapter
from ual_registry.workflows.references import locate

__all__ = ["diagnose"]


def diagnose(
    reference: str, engine: str | None = None, *, base: str | Path | None = None, served_name: str | None = None
) -> Diagnosis:
    """Examine an adapter for an engine, and on its base model.

    Args:
        reference: An AIR file, a reference into the registry, or a PEFT folder.
        engine: One of ``engines.rules.ENGINES``; without one, what is wrong in every engine is found.
        base: The base model that it is to serve with: its folder, its ``config.json``, or its repository on the Hub;
            factors of modules that it does not have are found. In a folder with weights the adapter is tried.
        served_name: What the engine calls the base model, where its resolver is to find the adapter.

    Raises:
        FormatError: The adapter is broken.
        BinderError: The base model is of an unknown architecture.
        UALError: As ``workflows.references.locate``, ``workflows.bases.find_base`` and ``effects.try_effect``.
    """
    rules = None if engine is None else load_rules(engine)
    with _form(reference) as (form, path):
        modules = {part.path for name in form.tensors if (part := split_name(name))}
        missing = list(_unmatched(modules, base)) if base is not None else []
        found = [*missing, *examine(form.config, form.tensors, rules, served_name=served_name)]
    if base is not None and not missing and has_weights(base):
        found.append(try_effect(reference, Path(base)))
    version = None if rules is None else rules.version
    return Diagnosis(engine=engine, version=version, path=path, modules=len(modules), findings=tuple(found))


def _unmatched(modules: set[str], base: str | Path) -> Iterator[Finding]:
    """Find the modules that a base model does not have."""
    config = find_base(base).config
    paths = sorted(modules)
    try:
        bind_paths(config, paths)
    except UnresolvedModuleError:
        known = {path for path in paths if _has(config, path)}
        yield from unmatched(paths, known, base=str(base))


def _has(config: Any, path: str) -> bool:
    try:
        bind_paths(config, [path])
    except UnresolvedModuleError:
        return False
    return True


@contextmanager
def _form(reference: str) -> Iterator[tuple[PeftForm, str]]:
    """Open what PEFT stores, or would store, of an adapter."""
    folder = Path(reference)
    if folder.is_dir():
        require_files(folder)
        document = parse_document(read_file(folder / CONFIG_FILE, limit_bytes=MAX_CONFIG_BYTES))
        check_config(carried_part(document))
        source = FileSource(folder / WEIGHTS_FILE)
        try:
            header = open_header(source)
            tensors: Mapping[str, Tensor] = header.tensors(source)
            yield PeftForm(config=document, tensors=tensors, metadata=header.metadata), str(folder)
        finally:
            source.close()
        return
    path = locate(reference)
    with read_adapter(path) as adapter:
        yield peft_form(adapter), str(path)
