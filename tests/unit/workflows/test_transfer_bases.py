"""Where the base models of a transfer are looked for, and where they are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import LLAMA_CONFIG, base_model
from ual_registry.air.model import BaseModel
from ual_registry.binders.base import load_base
from ual_registry.binders.describe import describe_base
from ual_registry.workflows.bases import NamedBase
from ual_registry.workflows.transfer_bases import Place, find_source, find_target

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_base(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA_CONFIG, **changes}))
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    return folder


def wanted(**changes: Any) -> BaseModel:
    return replace(base_model(), **changes)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, with one base model."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "models--org--base"
    make_base(place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return place


def digest(folder: Path) -> str:
    return describe_base(load_base(folder)).config_digest


@pytest.mark.parametrize("revision", [COMMIT, None])
def test_the_source_base_is_found_in_the_cache_by_its_commit_or_as_the_newest(
    cache: Path, revision: str | None
) -> None:
    folder = cache / "snapshots" / COMMIT
    base = wanted(id="org/base", revision=revision, config_digest=digest(folder))
    assert find_source(base, None) == Place(name="org/base", folder=folder)


@pytest.mark.parametrize(
    ("id", "revision"),
    [
        ("org/other", COMMIT),
        ("org/base", "f" * 40),
        ("org/base", "main"),
        ("org/base", f"../../{COMMIT}"),
        ("../hub/models--org--base", COMMIT),
        ("/", None),
    ],
)
def test_what_an_adapter_calls_its_base_is_no_path(cache: Path, id: str, revision: str | None) -> None:
    base = wanted(id=id, revision=revision, config_digest=digest(cache / "snapshots" / COMMIT))
    reason = f"no weights of the source base {id} at hand: give --source-base"
    assert find_source(base, None) == Place(name=id, lacking=reason)


def test_another_config_in_the_cache_is_not_taken_unless_told(cache: Path) -> None:
    base = wanted(id="org/base", revision=COMMIT, config_digest="sha256:" + "0" * 64)
    assert find_source(base, None).folder is None
    assert find_source(base, None, is_any=True).folder == cache / "snapshots" / COMMIT


def test_a_folder_without_weights_is_said_to_have_none(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    base = wanted(config_digest=digest(folder))
    reason = f"{folder} has no weights in safetensors"
    assert find_source(base, folder) == Place(name=base.id, lacking=reason)
    assert find_target(folder, NamedBase(config=load_base(folder))) == Place(name="base", lacking=reason)


def test_a_target_on_the_hub_needs_its_weights_in_the_cache(cache: Path, tmp_path: Path) -> None:
    folder = cache / "snapshots" / COMMIT
    named = NamedBase(config=load_base(folder), id="org/base", revision=COMMIT)
    assert find_target("org/base", named) == Place(name="org/base", folder=folder)
    other = NamedBase(config=load_base(folder), id="org/other", revision=COMMIT)
    assert find_target("org/other", other) == Place(
        name="org/other", lacking="no weights of org/other in the Hub's cache: download it, or give its folder"
    )


def test_a_place_tells_of_tokenizer_and_size(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    place = Place(name="base", folder=folder)
    assert (place.has_tokenizer, place.weights_bytes) == (False, 100)
    (folder / "tokenizer.json").touch()
    assert place.has_tokenizer
    assert (Place(name="none").has_tokenizer, Place(name="none").weights_bytes) == (False, 0)


def test_a_cache_below_the_home_of_the_user_is_found(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", "~/hub")
    folder = cache / "snapshots" / COMMIT
    base = wanted(id="org/base", revision=COMMIT, config_digest=digest(folder))
    assert find_source(base, None) == Place(name="org/base", folder=folder)
