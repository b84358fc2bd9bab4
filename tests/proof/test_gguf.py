"""The names of GGUF tensors against llama.cpp's own table, where it knows the architecture."""

from __future__ import annotations

import gguf
import pytest

from tests.proof.cases import CASES, Case, case_of
from ual_registry.binders.describe import config_fields
from ual_registry.binders.fields import ConfigFields
from ual_registry.binders.model import Module

NAMED = [case for case in CASES if case.kind.gguf is not None and case.variant is None]


def is_there(module: Module, fields: ConfigFields) -> bool:
    """Tell whether a model has a module: one path may stand in a binder several times."""
    return fields.satisfies_all(module.when) and not (module.unless and fields.satisfies_all(module.unless))


def templates(case: Case) -> dict[str, str]:
    """Return the GGUF name of every module that has one, by its path, for the blocks that exist."""
    binding = case.binding()
    fields = config_fields(binding.binder, case.base())
    found = {}
    for layout in binding.binder.stacks:
        for path in binding.modules:
            rest = layout.module_path(path.removeprefix(binding.prefix))
            for module in layout.modules:
                if rest is not None and module.gguf is not None and module.fits(rest) and is_there(module, fields):
                    (layer,) = {slot.layer for slot in binding.modules[path].slots}
                    found[path] = module.gguf.format(layer=layer)
    tied = [tie.roles[1:] for tie in binding.binder.tied if fields.satisfies_all(tie.when)]
    for outer in binding.binder.outer:
        path = (binding.prefix if outer.within == "backbone" else "") + outer.path
        is_stored = not any(outer.role in roles for roles in tied)  # the first of tied modules stands for all
        if outer.gguf is not None and path in binding.modules and is_stored:
            found[path] = outer.gguf
    return found


@pytest.mark.parametrize("case", NAMED, ids=case_of)
def test_gguf_names_are_those_of_llama_cpp(case: Case) -> None:
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == case.kind.gguf)
    layers = max(stack.num_layers for stack in case.binding().base.stacks)
    table = gguf.get_tensor_name_map(arch, layers)
    named = templates(case)
    known = {path: table.get_name(path, try_suffixes=(".weight",)) for path in named}

    assert named != {}
    assert {path: name for path, name in named.items() if known[path] is not None} == {
        path: name for path, name in known.items() if name is not None
    }
    every = {name for _, name in table.mapping.values()}
    assert {name for name in named.values() if name not in every} == set()
