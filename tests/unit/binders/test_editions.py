"""Editions of a binder: which names hold for which, how one is found from paths, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.binders.test_binders import own_base, own_binder
from ual_registry.binders.bind import Binding, apply_binder, bind, bind_paths
from ual_registry.binders.load import decode_binder
from ual_registry.binders.model import Binder
from ual_registry.errors import BinderDataError, UnresolvedModuleError


def document() -> dict[str, Any]:
    """Return a binder whose up projection had another name in each of two older editions."""
    found = copy.deepcopy(own_binder())
    found["editions"] = ["v3", "v2", "v1"]
    kind = found["model_types"]["own"]
    kind["classes"] = {"": ["OwnModel"], "model.": ["OwnForText"]}
    kind["older_editions"] = {"v2": {"": ["OwnModel"], "text.": ["OwnForText", "OwnForOld"]}, "v1": {}}
    (stack,) = found["stacks"]
    down = next(module for module in stack["modules"] if module["path"] == "down")
    ups = [{"path": path, "roles": ["mlp_up"], "edition": edition} for path, edition in NAMES]
    stack["modules"] = [*ups, down]
    return found


NAMES = (("up", "v3"), ("fc", "v2"), ("w1", "v1"))


def binder(**changes: Any) -> Binder:
    return decode_binder(json.dumps({**document(), **changes}).encode(), what="my.json")


def ups(binding: Binding) -> list[str]:
    return [path for path, module in binding.modules.items() if module.slots[0].role == "mlp_up"]


@pytest.mark.parametrize(
    ("edition", "model_class", "path"),
    [
        (None, None, "blocks.0.up"),
        ("v3", None, "blocks.0.up"),
        ("v2", None, "blocks.0.fc"),
        ("v1", None, "blocks.0.w1"),
        (None, "OwnForText", "model.blocks.0.up"),
        ("v2", "OwnForText", "text.blocks.0.fc"),
        ("v1", "OwnForText", "model.blocks.0.w1"),
        ("v2", "OwnForOld", "text.blocks.0.fc"),
        (None, "OwnForOld", "blocks.0.up"),
    ],
)
def test_a_binding_has_the_names_of_one_edition(edition: str | None, model_class: str | None, path: str) -> None:
    found = apply_binder(binder(), own_base(), model_class, edition=edition)
    assert found.edition == (edition or "v3")
    assert ups(found)[0] == path
    assert len(found.slots()) == len(found.modules) == 6


def test_a_binder_without_editions_has_none() -> None:
    plain = decode_binder(json.dumps(own_binder()).encode(), what="my.json")
    assert apply_binder(plain, own_base()).edition is None
    with pytest.raises(BinderDataError) as caught:
        apply_binder(plain, own_base(), edition="v1")
    assert caught.value.message == "binder own: model_type 'own' has no edition 'v1' (known: none)"


@pytest.fixture
def _shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(document()), encoding="utf-8")
    monkeypatch.setenv("UAL_BINDERS", str(path))


@pytest.mark.usefixtures("_shipped")
@pytest.mark.parametrize(
    ("paths", "edition", "prefix"),
    [
        (["blocks.0.up", "blocks.1.down"], "v3", ""),
        (["blocks.1.down"], "v3", ""),
        (["model.blocks.1.down"], "v3", "model."),
        (["blocks.0.fc"], "v2", ""),
        (["text.blocks.1.down"], "v2", "text."),
        (["blocks.0.w1", "blocks.1.down"], "v1", ""),
        (["model.blocks.0.w1"], "v1", "model."),
        ([], "v3", ""),
    ],
)
def test_the_edition_is_found_from_paths(paths: list[str], edition: str, prefix: str) -> None:
    found = bind_paths(own_base(), paths)
    assert (found.edition, found.prefix) == (edition, prefix)


@pytest.mark.usefixtures("_shipped")
def test_paths_of_two_editions_are_refused() -> None:
    with pytest.raises(UnresolvedModuleError) as caught:
        bind_paths(own_base(), ["blocks.0.fc", "blocks.0.up", "blocks.1.fc"])
    assert caught.value.context["module"] == "blocks.0.up"
    assert bind(own_base(), edition="v2").modules.keys() == bind_paths(own_base(), ["blocks.0.fc"]).modules.keys()


def _older(editions: dict[str, Any]) -> dict[str, Any]:
    kind = document()["model_types"]["own"]
    return {"model_types": {"own": {**kind, "older_editions": editions}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            _older({"v0": {}}),
            "my.json.model_types.own.older_editions: 'v0' is no older one of editions",
        ),
        (
            _older({"v3": {}}),
            "my.json.model_types.own.older_editions: 'v3' is no older one of editions",
        ),
        (
            _older({"v2": {"": ["OwnForText"]}}),
            "my.json.model_types.own.default_class: 'OwnModel' is not in older_editions.v2",
        ),
        ({"editions": ["v4", "v2", "v1"]}, "my.json.stacks[0].modules[0].edition: 'v3' is none of editions"),
        (
            {"outer": [{"path": "head", "role": "lm_head", "within": "model", "edition": "v0"}]},
            "my.json.outer[0].edition: 'v0' is none of editions",
        ),
        ({"editions": []}, "my.json.editions: [] has less than 1 item"),
    ],
)
def test_a_document_whose_editions_contradict_one_another_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BinderDataError) as caught:
        binder(**changes)
    assert caught.value.message == message
