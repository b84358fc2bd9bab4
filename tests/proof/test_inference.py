"""Binders inferred from what tiny models compute say the same as those written by hand."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from typing import Any

import pytest

from tests.proof.cases import CASES, IS_WHOLE, Case, case_of
from tests.proof.likeness import differences
from ual_registry.binders.base import BaseConfig
from ual_registry.binders.bind import apply_binder
from ual_registry.binders.load import binder_for, decode_binder, known_model_types
from ual_registry.digest import Digest
from ual_registry.errors import UALError, UninferableArchitectureError

PLAIN = [case for case in CASES if case.variant is None]
"""Every model type, with the settings of its tiny model."""

DIFFERENT: dict[str, list[str]] = {
    "bros": ["refused", "uninferable-architecture"],  # it cannot run without boxes
    "internlm2": ["refused", "uninferable-architecture"],  # transformers has no class for it
    "minimax": ["norms"],  # what is added to a branch's result is its normalised input, with a factor
    "prophetnet": ["slots", "without_role"],  # the embedding is named by the first of the modules that share it
    "qwen": ["refused", "uninferable-architecture"],  # transformers has no class for it
    "recurrent_gemma": ["dimensions"],  # the model obeys a head_dim in config.json, the binder computes it
    "t5gemma": ["classes"],  # one class takes only configs of an encoder alone
}
"""Types where inference says something else, with the aspects; ``refused`` where it says nothing."""

AT_LEAST = 55

ONE_EACH = {
    case.binder.architecture: case for case in sorted(PLAIN, key=lambda own: own.model_type == own.binder.architecture)
}
"""One model type of each binder, that of its name where there is one: the others have its blocks, and differ by what
the fields of a config are called."""

INFERRED = [case for case in PLAIN if IS_WHOLE or case in ONE_EACH.values() or case.model_type in DIFFERENT]


def infer_for(case: Case) -> Any:
    """Return what is inferred for the class that the binder written by hand takes by default."""
    from ual_registry.tracing.infer import infer

    base = case.base()
    named = {**base.document, "architectures": [case.kind.default_class]}
    return infer(replace(base, document=named))


def resized(case: Case, names: set[str]) -> list[BaseConfig]:
    """Return the config with each of the named fields doubled, as transformers saves it, where the model runs so."""
    from ual_registry.tracing.build import Builder
    from ual_registry.tracing.fields import look_up, replaced
    from ual_registry.tracing.perturb import stretched
    from ual_registry.tracing.trace import trace

    base, found = dict(case.base().document), []
    builder = Builder({**base, "architectures": [case.kind.default_class]})
    for name in sorted(names):
        value = look_up(base, name)
        if type(value) is int:
            plain = replaced(base, name, 2 * value)
            for document in (plain, stretched(plain, value, 2 * value)):
                try:
                    trace(builder, document)
                except UALError:
                    continue  # a class may refuse a size
                saved = json.loads(builder.config(document).to_json_string(use_diff=False))
                found.append(BaseConfig(label="resized", document=saved, digest=Digest.of_bytes(b"")))
                break
    return found


def fields_in(value: Any) -> set[str]:
    """Return every text in the ways of a dimension."""
    if isinstance(value, str):
        return {value}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return {name for item in items for name in fields_in(item)}


def outcome(case: Case) -> list[str]:
    """Return the aspects in which the inferred binder differs from the one written by hand."""
    try:
        found = infer_for(case)
    except UALError as error:
        return ["refused", error.code]
    inferred = decode_binder(json.dumps(found.document).encode(), what="inferred")
    names = {name for stack in inferred.stacks for ways in stack.dimensions.values() for name in fields_in(ways)}
    configs = resized(case, names)
    assert configs  # at least one other size was compared
    return differences(inferred, case.binder, case, case.base(), configs)


@pytest.mark.parametrize("case", INFERRED, ids=case_of)
def test_an_inferred_binder_says_what_the_one_written_by_hand_says(case: Case) -> None:
    assert outcome(case) == DIFFERENT.get(case.model_type, [])


def test_most_types_are_inferred_exactly_as_written_by_hand() -> None:
    equal = [case.model_type for case in PLAIN if case.model_type not in DIFFERENT]
    assert len(equal) >= AT_LEAST


USUAL = ["bert", "gpt2", "jamba", "phi3", "whisper"]
USUAL += ["deepseek_v3", "gemma3", "llama", "mamba", "mixtral", "t5"] if IS_WHOLE else []
"""Types whose config class has the sizes of a real model by default."""


@pytest.mark.parametrize("model_type", USUAL)
def test_a_model_of_usual_size_is_inferred_from_a_smaller_one(model_type: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from ual_registry.tracing.infer import infer

    binder = binder_for(model_type)
    text = CONFIG_MAPPING[model_type]().to_json_string(use_diff=False)
    document = {**json.loads(text), "architectures": [binder.model_types[model_type].default_class]}
    base = BaseConfig(label=model_type, document=document, digest=Digest.of_bytes(b""))
    inferred = decode_binder(json.dumps(infer(base).document).encode(), what="inferred")

    one, other = apply_binder(inferred, base), apply_binder(binder, base)
    assert one.slots() == other.slots()
    assert one.base.vocab_size == other.base.vocab_size


@pytest.fixture(scope="session")
def seed() -> int:
    """Return the seed of the types that are picked at random; ``UAL_SEED`` gives another one."""
    return int(os.environ.get("UAL_SEED", "20261125"))


@pytest.mark.parametrize("turn", [0, 1])
def test_a_type_that_nobody_wrote_a_binder_for_is_inferred_or_refused_with_a_reason(turn: int, seed: int) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from ual_registry.tracing.infer import infer

    unknown = sorted(set(CONFIG_MAPPING.keys()) - set(known_model_types()))
    random.Random(seed).shuffle(unknown)
    model_type = unknown[turn]
    print(f"seed {seed}: {model_type}")
    try:
        config = CONFIG_MAPPING[model_type]()
    except Exception:  # noqa: BLE001  # a class without a default config
        pytest.skip(f"{model_type} has no default config")
    document = {**json.loads(config.to_json_string(use_diff=False)), "model_type": model_type}
    base = BaseConfig(label=model_type, document=document, digest=Digest.of_bytes(b""))
    reason, found = None, None
    try:
        found = infer(base)
    except UALError as error:
        reason = (error.code, bool(error.message), bool(error.hint))
    if found is None:
        assert reason == ("uninferable-architecture", True, True)
    else:
        binder = decode_binder(json.dumps(found.document).encode(), what="inferred")
        assert list(binder.model_types) == [model_type]
        assert 0 < found.confidence <= 1
        assert all(item.path and item.seen for item in found.evidence)


def test_rows_whose_order_only_seems_to_be_a_known_one_are_refused() -> None:
    from transformers import CodeGenConfig

    from ual_registry.tracing.infer import infer

    document = {**json.loads(CodeGenConfig().to_json_string(use_diff=False)), "model_type": "codegen"}
    with pytest.raises(UninferableArchitectureError) as caught:  # four blocks of heads, as many as a tiny model has
        infer(BaseConfig(label="codegen", document=document, digest=Digest.of_bytes(b"")))
    assert caught.value.message == (
        "transformer.h.{layer}.attn.qkv_proj: its rows are in the order per_head in one model, "
        "and in another at other sizes"
    )
