"""Older editions: the same slots under the names that the conversion tables of transformers turn into the current ones.

No older transformers is installed, so there is no class to look at; what loads older checkpoints today is the witness.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.proof.cases import CASES, Case, case_of
from tests.unit.interop.test_editions import lora_of, write_folder
from ual_registry.binders.base import BaseConfig, load_base
from ual_registry.binders.bind import Binding, bind
from ual_registry.binders.law import law_faults
from ual_registry.interop.editions import to_edition
from ual_registry.interop.from_peft import from_peft
from ual_registry.interop.to_peft import to_peft

pytestmark = pytest.mark.filterwarnings("ignore")

OLDER = [
    (case, edition, name)
    for case in CASES
    for edition in case.binder.editions_of(case.model_type)[1:]
    for names in case.kind.classes_in(edition).values()
    for name in names
]


def bindings(case: Case, edition: str | None, class_name: str) -> tuple[Binding, Binding]:
    return bind(case.base(), class_name), bind(case.base(), class_name, edition=edition)


@functools.lru_cache(maxsize=64)
def empty_model(case: Case, class_name: str) -> Any:
    """Return a model of a class without memory for its weights."""
    import torch

    with torch.device("meta"):
        return getattr(case.module, class_name)(case.config(class_name))


def key_of(binding: Binding, path: str) -> str:
    """Return the name that a checkpoint gives the weight of a module."""
    return path if binding.modules[path].parameter else f"{path}.weight"


@pytest.mark.parametrize(("case", "edition", "class_name"), OLDER, ids=case_of)
def test_an_older_edition_has_the_slots_of_the_current_one(case: Case, edition: str, class_name: str) -> None:
    now, older = bindings(case, edition, class_name)
    assert (now.edition, older.edition) == (case.binder.editions[0], edition)
    assert law_faults(older) == ()
    assert (now.modules.keys() != older.modules.keys()) is (case != Case("jamba", "dense"))  # which has no experts
    features = [
        {key: (slot.in_features, slot.out_features) for key, (_, slot) in one.slots().items()} for one in (now, older)
    ]
    assert features[0] == {key: of for key, of in features[1].items() if key in features[0]}
    # What was linear and is no more: routers, which are classes of their own now.
    assert {role for _, _, role, _ in features[1].keys() - features[0].keys()} <= {"moe_router"}


@pytest.mark.parametrize(("case", "edition", "class_name"), OLDER, ids=case_of)
def test_transformers_turns_the_older_names_into_the_current_ones(case: Case, edition: str, class_name: str) -> None:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    model = empty_model(case, class_name)
    transforms = get_model_conversion_mapping(model)
    renamings = [item for item in transforms if isinstance(item, WeightRenaming)]
    converters = [item for item in transforms if isinstance(item, WeightConverter)]
    state = model.state_dict()
    now, older = bindings(case, edition, class_name)
    current = now.slots()
    for path, module in older.modules.items():
        old = key_of(older, path)
        new, _ = rename_source_key(old, renamings, converters, model.base_model_prefix, state)
        for slot in module.slots:
            place = current.get((slot.stack, slot.layer, slot.role, slot.expert))
            if slot.role != "lm_head" or new in state:  # classes without a head have none in either edition
                assert new in state, old
            assert place is None or new == key_of(now, place[0].path), old


def expert_modules(case: Case) -> dict[str, tuple[int, int]]:
    """Return (in, out) of the modules of every expert by their paths in the older edition."""
    modules = bind(case.base(), edition=case.binder.editions_of(case.model_type)[-1]).modules.items()
    plain = {path: module.slots[0] for path, module in modules if module.parameter is None}
    return {path: (slot.in_features, slot.out_features) for path, slot in plain.items() if slot.expert is not None}


EXPERTS = [case for case in CASES if case.variant is None and expert_modules(case)]
"""Model types of which each expert was a module of its own."""

NOT_BY_PEFT = {"jamba", "lfm2_moe", "phimoe", "qwen2_moe"}
"""Those of them whose adapters PEFT 0.21 does not convert: it refuses them, or leaves the experts out."""


def in_current_names(case: Case, place: Path) -> tuple[Path, Path, Path]:
    """Save a model, an older adapter of its experts, and the same under current names; return the folders."""
    base, folder = place / "base", write_folder(place / "old", expert_modules(case))
    case.model().save_pretrained(base)
    with from_peft(folder, load_base(base)) as adapter:
        to_peft(to_edition(adapter, load_base(base)), place / "new")
    return base, folder, place / "new"


def loaded(case: Case, base: Path, folder: Path) -> Any:
    """Return a model with an adapter, as PEFT loads it."""
    import peft

    model = getattr(case.module, case.kind.default_class).from_pretrained(base, attn_implementation="eager")
    return peft.PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.parametrize("case", EXPERTS, ids=case_of)
def test_peft_gives_every_expert_the_update_of_its_older_module(case: Case, tmp_path: Path) -> None:
    base, folder, new = in_current_names(case, tmp_path)
    older = safetensors.numpy.load_file(folder / "adapter_model.safetensors")
    with from_peft(folder, load_base(base)) as adapter:
        scaling = {entry.source: entry.scaling for entry in adapter.entries}
    updates = parameter_updates(loaded(case, base, new))
    current, seen = bind(load_base(base)).slots(), set()
    for path, module in bind(load_base(base), edition="transformers-4").modules.items():
        for slot in module.slots if path in scaling else ():
            target, place = current[slot.stack, slot.layer, slot.role, slot.expert]
            rows = (
                [row for start, count in place.rows.runs() for row in range(start, start + count)] if place.rows else []
            )
            found = updates[target.path][slot.expert]
            lora_A, lora_B = (older[f"base_model.model.{path}.{factor}.weight"] for factor in ("lora_A", "lora_B"))
            np.testing.assert_allclose(
                found[rows] if rows else found, scaling[path] * lora_B @ lora_A, rtol=0, atol=1e-5
            )
            seen.add(path)
    assert seen == expert_modules(case).keys()


def parameter_updates(model: Any) -> dict[str, Any]:
    """Return the updates of expert parameters by path, (experts, out, in)."""
    from peft.tuners.lora.layer import ParamWrapper

    return {
        f"{name.removeprefix('base_model.model.').replace('.base_layer', '')}.{module.parameter_name}": (
            module.get_delta_weight("default").detach().numpy()
        )
        for name, module in model.named_modules()
        if isinstance(module, ParamWrapper)
    }


@pytest.mark.parametrize("case", [case for case in EXPERTS if case.model_type not in NOT_BY_PEFT], ids=case_of)
def test_peft_makes_the_same_of_the_older_names(case: Case, tmp_path: Path) -> None:
    base, folder, new = in_current_names(case, tmp_path)
    expected, found = (lora_of(loaded(case, base, adapter)) for adapter in (folder, new))
    assert {name: scaling for name, (_, scaling) in found.items()} == {
        name: scaling for name, (_, scaling) in expected.items()
    }
    for name, (numbers, _) in expected.items():
        np.testing.assert_array_equal(found[name][0], numbers)


@pytest.mark.parametrize("architecture", sorted({case.binder.architecture for case, _, _ in OLDER}))
def test_every_module_of_an_older_edition_is_found_in_some_model(architecture: str) -> None:
    cases = [item for item in OLDER if item[0].binder.architecture == architecture]
    binder = cases[0][0].binder
    paths = [(module.full_path, module.edition) for stack in binder.stacks for module in stack.modules]
    paths += [(item.path, item.edition) for item in binder.outer]
    unused = {(edition, path) for path, edition in paths if edition in binder.editions[1:]}
    for case, edition, class_name in cases:
        bound = bind(case.base(), class_name, edition=edition).modules
        unused -= {used for used in unused if used[0] == edition and any(map(ending(used[1]).search, bound))}
    assert unused == set()


def ending(path: str) -> re.Pattern[str]:
    """Return what tells of a whole path whether it ends with one of a module."""
    return re.compile(r"(^|\.)" + re.escape(path).replace(r"\{expert\}", "[0-9]+") + "$")


TOWERS = [
    (case, form)
    for case in CASES
    for form in (*case.binder.without_role, *case.kind.without_role)
    if "_tower.vision_model." in form and case.variant is None
]
"""Vision towers had one more module around them; it went in transformers 5, later than the prefix changed."""


@pytest.mark.parametrize(("case", "form"), TOWERS, ids=case_of)
def test_an_older_name_of_a_module_without_a_role_is_that_of_a_real_one(case: Case, form: str) -> None:
    class_name = case.kind.default_class
    older = case.kind.older_editions
    assert len(older) == 1
    state = empty_model(case, class_name).state_dict()
    path = form.replace("{index}", "0").replace(".vision_model.", ".")
    assert bind(case.base(), edition=next(iter(older))).knows(form.replace("{index}", "0"))
    if ".head." in path and f"{path}.weight" not in state:
        pytest.skip("this tower has no head")
    assert f"model.{path.removeprefix('model.')}.weight" in state


ONE_EDITION = [case for case in CASES if len(case.binder.editions_of(case.model_type)) == 1]


@pytest.mark.parametrize("case", ONE_EDITION, ids=case_of)
def test_a_model_type_without_older_editions_has_one(case: Case) -> None:
    base: BaseConfig = case.base()
    assert bind(base).edition == (case.binder.editions[0] if case.binder.editions else None)
