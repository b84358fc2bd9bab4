"""Base models on the Hub, wherever a command takes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub_server.server import HubSite
from tests.unit.cli.conftest import Ual
from ual_registry.workflows.transfer import plan_transfer


@pytest.fixture
def hub_transport() -> str:
    """A config is small, so it does not matter how large files travel."""
    return "lfs"


@pytest.fixture
def commit(folder: Path, hub_site: HubSite, hub_env: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "cache"))
    return hub_site.put("tester/base", {"config.json": folder / "base" / "config.json"})


def labels(ual: Ual, file: str) -> tuple[str, str | None]:
    base = ual("show", file, "--json").document["manifest"]["base_model"]
    return base["id"], base.get("revision")


def test_an_adapter_is_converted_with_a_base_on_the_hub_and_says_which(
    ual: Ual, hub_site: HubSite, commit: str
) -> None:
    assert ual("convert", "peft", "a.air", "--base", "tester/base").code == 0
    assert ual("convert", "peft", "b.air", "--base", "base", "--base-id", "tester/base").code == 0
    assert (labels(ual, "a.air"), labels(ual, "b.air")) == (("tester/base", commit), ("tester/base", None))
    assert hub_site.log.endpoints() == ["model-info", "resolve-get"]


def test_a_label_that_was_told_counts_more_and_takes_no_commit_of_another(ual: Ual, commit: str) -> None:
    assert ual("convert", "peft", "a.air", "--base", f"hf:tester/base@{commit}", "--base-id", "org/mine").code == 0
    assert labels(ual, "a.air") == ("org/mine", None)


def test_a_transfer_goes_to_a_base_on_the_hub(ual: Ual, commit: str) -> None:
    plan = plan_transfer("./small.air", "hf:tester/base")
    assert (plan.target.id, plan.target.revision) == ("tester/base", commit)
    named = plan_transfer("./small.air", "tester/base", target_id="org/mine")
    assert (named.target.id, named.target.revision) == ("org/mine", None)
    assert (
        ual("transfer", "small.air", "--to", "hf:tester/base", "--plan", "--json").document["target"] == plan.target.id
    )


def test_a_binder_is_shown_for_a_base_on_the_hub(ual: Ual, commit: str) -> None:
    shown = ual("binder", "show", "tester/base", "--json").document
    here = ual("binder", "show", "base", "--json").document
    assert shown["model_type"] == here["model_type"] == "llama"
    assert shown["base_model"]["stacks"] == here["base_model"]["stacks"]


def test_a_gated_base_says_where_to_ask(
    ual: Ual, hub_site: HubSite, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_site.put("tester/gated", {"config.json": b"{}"}, gated="manual")
    monkeypatch.setenv("HF_TOKEN", hub_site.other_token)
    result = ual("convert", "peft", "a.air", "--base", "hf:tester/gated", "--json")
    error = result.document["error"]
    assert (result.code, error["code"], error["hint"]) == (
        9,
        "hub-gated",
        f"open {hub_site.endpoint}/tester/gated and ask for access",
    )
    assert json.dumps(result.document).count("hf_loopback") == 0
    assert not Path("a.air").exists()
