"""What commands print with ``--json`` follows the shipped schemas, each command run once for real."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_adapter import make_tiny_models
from tests.hub_server.fixtures import HubEnvironment
from ual_registry.air.schema import schema_names, schema_problems
from ual_registry.cli.main import COMMANDS, run

WALK = (
    ("convert", "convert tour/adapter tour/t.air --base tour/base", 0),
    ("validate", "validate tour/t.air tour/base/config.json none.air", 11),
    ("show", "show tour/t.air", 0),
    ("convert", "convert tour/t.air tour/served --to vllm --served-name my-model", 0),
    ("doctor", "doctor tour/served --for vllm --served-name my-model", 0),
    ("doctor", "doctor tour/served --for vllm --served-name another-model", 3),
    ("add", "add tour/t.air --name t --alias candidate", 0),
    ("add", "add tour none.air --name-from file --tag team=search", 11),
    ("alias", "alias t production candidate --protect", 0),
    ("alias", "alias t candidate --delete", 0),
    ("tag", "tag t team=search reviewed", 0),
    ("yank", "yank t@1 --why wrong", 0),
    ("yank", "yank t@1 --undo", 0),
    ("describe", "describe t --owner me", 0),
    ("log", "log", 0),
    ("log", "log t --limit 1", 0),
    ("list", "list", 0),
    ("search", "search rank>=8", 0),
    ("get", "get t@production -o tour/copy.air", 0),
    ("transfer-plan", "transfer t --to tour/other --plan", 0),
    ("transfer", "transfer t --to tour/other -o tour/other.air", 0),
    ("add", "add tour/other.air --name other", 0),
    ("lineage", "lineage other", 0),
    ("diff", "diff t other", 1),
    ("diff", "diff t tour/copy.air", 0),
    ("gc", "gc --grace 0 --yanked", 0),
    ("fsck", "fsck --deep", 0),
    ("export", "export -o tour/exported", 0),
    ("import", "import tour/exported", 0),
    ("db", "db current", 0),
    ("db", "db upgrade", 0),
    ("db", "db check", 0),
    ("conformance", "conformance --implementation UAL", 0),
    ("binder", "binder list", 0),
    ("binder", "binder show tour/base", 0),
    ("binder", "binder infer tour/base -o tour/binder.json", 0),
    ("binder", "binder check tour/binder.json --base tour/base", 0),
    ("error", "show none.air", 11),
    ("error", "search foo:1", 8),
    ("error", "validate", 2),
)


HUB_WALK = (
    ("show-hub", "show hf:tester/air", 0),
    ("show-hub", "show hf:tester/pair", 0),
    ("show-hub", "show hf:tester/both", 0),
    ("validate", "validate hf:tester/air hf:tester/pair hf:tester/none", 9),
    ("search-hub", "search --hub rank>=8", 0),
    ("push", "push tour/t.air team/pushed", 0),
    ("push", "push tour/t.air team/pushed --dry-run", 0),
    ("pull", "pull tester/air --name t", 0),
    ("mirror", "mirror hf:team --into mirrored", 0),
    ("error", "show hf:tester/none", 9),
)
"""The same with a Hub."""

WEIGHTS_NEEDED = {"dispatch", "evaluate", "route", "router", "show-router", "train", "train-estimate", "train-explain"}
"""Their documents are checked where there are base models with weights, in unit/evaluation, unit/training and
unit/dispatch."""

IMPLEMENTATION = f"{sys.executable} -m ual_registry conformance --serve"


def documents(
    capsys: pytest.CaptureFixture[str], walk: Sequence[tuple[str, str, int]] = WALK
) -> list[tuple[str, str, Any]]:
    """Walk through the commands and return (schema, command, document) of each."""
    make_tiny_models(Path("tour"))
    found = []
    for schema, command, code in walk:
        words = [IMPLEMENTATION if word == "UAL" else word for word in command.split()]
        assert (command, run([*words, "--json"])) == (command, code)
        found.append((schema, command, json.loads(capsys.readouterr().out)))
    return found


def test_every_document_follows_its_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    for schema, command, document in documents(capsys):
        problems = list(schema_problems(f"1.0/cli/{schema}.json", document, root="document"))
        assert (command, [str(problem) for problem in problems]) == (command, [])


@pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)
def test_every_document_about_the_hub_follows_its_schema(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UAL_HOME", str(tmp_path / "registry"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_tiny_models(Path("tour"))
    assert run(["convert", "tour/adapter", "tour/t.air", "--base", "tour/base", "--name", "t"]) == 0
    air, card = {"adapter.air": Path("tour/t.air")}, {"README.md": "---\ntags: [air, peft]\n---\n"}
    pair = {file.name: file for file in Path("tour/adapter").iterdir()}
    hub_env.site.put("tester/air", {**air, **card}, private=True, gated="manual")
    hub_env.site.put("tester/pair", {**pair, "README.md": "---\ntags: [peft]\n---\n"})
    hub_env.site.put("tester/both", {f"{name}/adapter.air": Path("tour/t.air") for name in "ab"})
    capsys.readouterr()
    for schema, command, document in documents(capsys, HUB_WALK):
        problems = list(schema_problems(f"1.0/cli/{schema}.json", document, root="document"))
        assert (command, [str(problem) for problem in problems]) == (command, [])


def test_every_command_has_its_schema() -> None:
    commands = {name for group in COMMANDS.values() for name in group} - {"serve"}  # it prints no document
    schemas = {Path(name).stem for name in schema_names() if name.startswith("1.0/cli/")}
    assert schemas == commands | {
        "error",
        "search-hub",
        "show-hub",
        "show-router",
        "train-estimate",
        "train-explain",
        "transfer-plan",
    }
    assert schemas == {schema for schema, _, _ in (*WALK, *HUB_WALK)} | WEIGHTS_NEEDED
