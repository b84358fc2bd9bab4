"""``ual transfer`` with base models: every method, the rule of auto, the label, and what is measured on the spot."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Ual
from tests.unit.cli.transfer_scene import Scene, scene, ual
from ual_registry.air.adapter import Adapter
from ual_registry.air.read import read
from ual_registry.air.schema import schema_problems
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.transfers.report import CHOICE_KEY, LABEL_KEY, WARNINGS_KEY
from ual_registry.transfers.rungs import RUNGS

__all__ = ["scene", "ual"]  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks while tiny models are made


def statements(path: str) -> list[Any]:
    with read(path) as adapter:
        return list(adapter.manifest.provenance)


TO_COUSIN = "transfer ./own.air --to cousin --source-base llama -o out.air"
TO_GPT2 = "transfer ./own.air --to gpt2 --source-base llama -o out.air"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("svd", ""),
        ("truncate", ""),
        ("interpolate", ""),
        ("copy", ""),
        ("subspace", ""),
        ("vocab", ""),
        ("activations", "--calibrate text.txt"),
        ("residual", "--calibrate text.txt"),
        ("predictions", "--calibrate text.txt"),
    ],
)
def test_every_method_writes_an_adapter_for_the_target_with_its_label(ual: Ual, method: str, options: str) -> None:
    result = ual(f"{TO_COUSIN} --method {method} {options} --json")
    assert (result.code, result.err) == (0, "")
    document = result.document
    assert list(schema_problems("1.0/cli/transfer.json", document, root="document")) == []
    label = RUNGS[method].label
    assert (document["method"], document["label"], document["choice"], document["results"]) == (
        method,
        label,
        None,
        None,
    )
    assert document["digest"] == str(Digest.of_file(Path("out.air")))
    (statement,) = statements("out.air")
    assert (statement.type, statement.parameters["method"]) == ("projection", method)
    assert statement.annotations[LABEL_KEY] == label
    assert CHOICE_KEY not in statement.annotations
    assert ual("validate out.air").code == 0


def test_within_one_lineage_auto_copies_and_says_why(ual: Ual) -> None:
    result = ual(f"{TO_COUSIN} --json")
    assert (result.code, result.document["method"], result.document["label"]) == (0, "copy", "unmeasured")
    first = "copy comes first, and there are no items to compare by"
    choice = [
        {
            "method": "distill",
            "standing": "lacking",
            "reason": "no budget: give --budget, for these base models 27 s or more",
        },
        {
            "method": "copy",
            "standing": "taken",
            "reason": "every entry has its shape there; right within one lineage, which is checked",
        },
        {"method": "predictions", "standing": "lacking", "reason": "no calibration text: give --calibrate"},
        {"method": "residual", "standing": "lacking", "reason": "no calibration text: give --calibrate"},
        {"method": "activations", "standing": "lacking", "reason": "no calibration text: give --calibrate"},
        {"method": "vocab", "standing": "untried", "reason": first},
        {"method": "svd", "standing": "untried", "reason": "copy does better than a control"},
    ]
    assert result.document["choice"] == choice
    (statement,) = statements("out.air")
    assert [dict(step) for step in statement.annotations[CHOICE_KEY]] == choice


def test_the_plan_says_what_auto_would_do(ual: Ual) -> None:
    result = ual("transfer ./own.air --to gpt2 --source-base llama --calibrate text.txt --plan --json")
    assert result.code == 0
    assert list(schema_problems("1.0/cli/transfer-plan.json", result.document, root="document")) == []
    assert (result.document["method"], result.document["counts"]) == (
        "predictions",
        {"kept": 0, "projected": 1, "dropped": 0},
    )
    assert [(step["method"], step["standing"]) for step in result.document["choice"]] == [
        ("distill", "lacking"),
        ("copy", "lacking"),
        ("predictions", "possible"),
        ("residual", "possible"),
        ("activations", "possible"),
        ("vocab", "possible"),
        ("svd", "possible"),
    ]


def test_a_method_that_refuses_gives_way_to_the_next_one(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    from ual_registry.errors import TransferError
    from ual_registry.workflows import transfer_rungs

    def refuse(*_: object) -> None:
        raise TransferError("not today", code="no-chain")

    for name in ("predictions", "residual", "activations"):
        monkeypatch.setitem(transfer_rungs.RUNNERS, name, refuse)
    result = ual(f"{TO_GPT2} --calibrate text.txt --json")
    assert (result.code, result.document["method"]) == (0, "vocab")
    assert [(step["method"], step["standing"], step["reason"]) for step in result.document["choice"][2:5]] == [
        (name, "refused", "not today") for name in ("predictions", "residual", "activations")
    ]


def test_with_items_one_half_chooses_and_the_other_is_reported(ual: Ual) -> None:
    ual("transfer ./own.air --to cousin --source-base llama --method copy -o copied.air")
    command = f"{TO_COUSIN} --calibrate text.txt --data items.jsonl --task bits-per-byte --json"
    refused = ual(f"{command} --baselines native=copied.air")
    assert (refused.code, refused.document["error"]["code"]) == (5, "not-native")
    with read("copied.air") as adapter:  # as if it had been trained there
        write(Adapter(replace(adapter.manifest, lineage=None), adapter.tensors), "native.air")
    result = ual(f"{command} --baselines native=native.air")
    assert (result.code, result.err) == (0, "")
    document = result.document
    assert list(schema_problems("1.0/cli/transfer.json", document, root="document")) == []
    standings = {step["method"]: step["standing"] for step in document["choice"]}
    assert list(standings.values()).count("taken") == 1
    assert {standings[name] for name in ("copy", "predictions", "activations", "vocab")} <= {
        "taken",
        "beaten",
        "refused",
    }
    assert (standings["distill"], standings["svd"]) == ("lacking", "untried")
    taken = next(step for step in document["choice"] if step["standing"] == "taken")
    assert taken["reason"].endswith(" on the 12 items that choose")
    assert {own["n"] for own in document["results"]} == {12}

    made, card = statements("out.air")
    assert (made.type, card.type) == ("projection", "evaluation")
    assert made.annotations[LABEL_KEY] == document["label"]
    names = {material["name"]: material["digest"] for material in card.materials}
    assert {"adapter", "source adapter", "native adapter", "test data", "dev data"} <= set(names)
    assert {own["data_digest"] for own in document["results"]} == {names["test data"]}
    assert names["test data"] != names["dev data"]
    arms = {own["arm"] for own in document["results"]}
    assert arms == {
        "base",
        "adapter",
        "native",
        "random-1",
        "random-2",
        "random-3",
        "sign-flipped",
        "source-base",
        "source-adapter",
    }
    shown = ual("show ./out.air").out
    assert f"  label {document['label']}" in shown.splitlines()


def test_what_does_not_reach_the_label_that_is_required_is_not_written(ual: Ual) -> None:
    items = "--data items.jsonl --task bits-per-byte"
    result = ual(f"{TO_GPT2} --method svd {items} --require partial")
    assert (result.code, result.out) == (5, "")
    first, hint = result.err.splitlines()[-2:]
    assert first.startswith("error [label-required]: the result is labelled ")
    assert first.endswith(", and partial is required")
    assert hint == "hint: nothing was written; without --require it is, with its report card"
    assert not Path("out.air").exists()


def test_a_control_that_is_measured_is_called_what_it_is(ual: Ual) -> None:
    result = ual(f"{TO_GPT2} --method svd --data items.jsonl --task bits-per-byte --json")
    assert (result.code, result.document["label"] in ("none", "harmful", "n/a")) == (0, True)
    assert statements("out.air")[0].annotations[LABEL_KEY] == result.document["label"]


def test_continued_text_is_recorded_and_changes_what_is_fitted(ual: Ual) -> None:
    ual(f"{TO_GPT2} --method predictions --calibrate text.txt")
    (plain,) = statements("out.air")
    result = ual(f"{TO_GPT2} --method predictions --calibrate text.txt --continue 3 --force")
    assert result.code == 0
    (continued,) = statements("out.air")
    assert continued.parameters["settings"]["continued_tokens"] == 3
    assert "continued_tokens" not in plain.parameters["settings"]
    texts = [
        next(own["digest"] for own in made.materials if own["name"] == "calibration text")
        for made in (plain, continued)
    ]
    assert texts[0] != texts[1]


def test_the_source_base_is_found_in_the_hubs_cache(ual: Ual, scene: Scene, tmp_path: Path) -> None:
    from dataclasses import replace

    from ual_registry.air.adapter import Adapter
    from ual_registry.air.write import write

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshots = tmp_path / "HF_HOME" / "hub" / "models--org--base" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / commit).symlink_to(scene.folder / "llama")
    with read("own.air") as adapter:
        base = replace(adapter.manifest.base_model, id="org/base", revision=commit)
        write(Adapter(replace(adapter.manifest, base_model=base), adapter.tensors), Path("pinned.air"))
    result = ual("transfer ./pinned.air --to cousin --method copy -o out.air --json")
    assert (result.code, result.document["method"]) == (0, "copy")


def test_an_adapter_goes_to_its_own_base_as_it_is(ual: Ual) -> None:
    for method, options in (
        ("activations", "--calibrate text.txt"),
        ("residual", "--calibrate text.txt"),
        ("predictions", "--calibrate text.txt"),
        ("vocab", ""),
    ):
        result = ual(
            f"transfer ./own.air --to llama --source-base llama --method {method} {options} -o same.air --force --json"
        )
        assert (result.code, result.document["counts"]["kept"]) == (0, 14)
        assert result.document["warnings"] == ["the target is the source: every entry is kept as it is"]
        (statement,) = statements("same.air")
        assert list(statement.annotations[WARNINGS_KEY]) == result.document["warnings"]
    result = ual("transfer ./own.air --to llama --source-base llama -o same.air --force --json")
    assert (result.document["method"], result.document["counts"]["kept"]) == ("copy", 14)


def test_a_label_that_an_evaluation_has_overtaken_is_shown_as_the_older_one(ual: Ual) -> None:
    assert ual("transfer ./own.air --to gpt2 -o moved.air --method svd").code == 0
    assert "\n  label control-grade\n" in f"{ual('show moved.air').out}\n"
    judged = ual("evaluate moved.air --on gpt2 --data items.jsonl --task bits-per-byte -o judged.air --json").document
    shown = ual("show judged.air").out
    assert "\n  label control-grade, before the evaluation below\n" in shown
    assert f"\n  label {judged['label']}\n" in shown
    card = statements("judged.air")[-1]
    assert card.parameters["protocol"] == "paired arms, 1.1"
    assert card.parameters["settings"]["identity_error"] == pytest.approx(judged["identity_error"], rel=1e-5)


@pytest.mark.parametrize("items", ["", "--data items.jsonl --task bits-per-byte"])
def test_no_budget_is_spent_on_the_own_base(ual: Ual, items: str) -> None:
    to_own = "transfer ./own.air --to llama --source-base llama -o same.air --force --json"
    result = ual(f"{to_own} --budget 10m {items}")
    assert (result.document["method"], result.document["counts"]["kept"]) == ("copy", 14)
    (reason,) = [step["reason"] for step in result.document["choice"] if step["method"] == "distill"]
    why = "the target is its own base model" if items else "there are no items to compare by"
    assert reason == f"copy keeps the adapter as it is, and {why}"
    refused = ual(f"{to_own} --method distill")
    assert (refused.code, refused.err.splitlines()[-2:]) == (
        5,
        [
            "error [same-model]: the target is the adapter's own base model: there is nothing to learn",
            "hint: the adapter works there as it is",
        ],
    )


def test_python_takes_the_same_words(ual: Ual) -> None:
    import ual_registry

    texts = Path("text.txt").read_text(encoding="utf-8").splitlines()
    said: list[str] = []
    with ual_registry.read("own.air") as adapter:
        result = ual_registry.transfer(
            adapter, target="gpt2", method="predictions", source_base="llama", calibration=texts, say=said.append
        )
    assert (result.method, result.label, result.choice, result.evaluation) == ("predictions", "unmeasured", None, None)
    assert result.report.plan.counts() == {"kept": 0, "projected": 1, "dropped": 0}
    assert result.adapter.manifest.base_model.id == "gpt2"
    assert said == ["loading llama", "loading gpt2"]
    assert ual(f"{TO_GPT2} --method predictions --calibrate text.txt").code == 0
    with ual_registry.read("out.air") as other:
        digest = ual_registry.write(result.adapter, "python.air")
        assert str(digest) == str(Digest.of_file(Path("out.air")))
        assert json.dumps(other.manifest.name) == json.dumps(result.adapter.manifest.name)


def test_the_write_maps_are_fitted_to_what_is_asked_for(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {}
    for option, expected in (
        ("", "joint"),
        ("--write-map joint", "joint"),
        ("--write-map outputs", "outputs"),
    ):
        result = ual(f"{TO_COUSIN} --method activations --calibrate text.txt {option} --force --json")
        assert result.code == 0
        digests[option] = result.document["digest"]
        (statement,) = statements("out.air")
        assert statement.parameters["settings"]["write"] == expected
    assert digests[""] == digests["--write-map joint"] != digests["--write-map outputs"]

    monkeypatch.setattr("ual_registry.transfers.sites.predicts_next", lambda base: base.base.id != "cousin")
    command = f"{TO_COUSIN} --method activations --calibrate text.txt --force --json"
    assert ual(command).document["digest"] == digests["--write-map outputs"]
    refused = ual(f"{command} --write-map joint --folder fresh")  # statistics that are kept need no model
    assert (refused.code, refused.document["error"]["code"]) == (5, "no-loss")

    misplaced = ual(f"{TO_GPT2} --method vocab --write-map joint")
    assert (misplaced.code, misplaced.err.splitlines()[-1]) == (
        2,
        "Error: --method vocab has no --write-map: it compares no activations",
    )


@pytest.mark.parametrize("option", ["--layers pool", "--layer-map cka", "--write-map outputs"])
def test_what_not_every_method_has_is_refused_where_the_method_is_left_open(ual: Ual, option: str) -> None:
    """The method that is taken may have no such option, and then it would be passed over without a word."""
    refused = ual(f"{TO_GPT2} --calibrate text.txt {option}")
    name = option.split(maxsplit=1)[0]
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        f"Error: --method auto has no {name}: it may take a method that has none; say which one by --method",
    )


def test_a_transfer_that_takes_longer_than_its_budget_says_so(ual: Ual) -> None:
    result = ual(f"{TO_GPT2} --calibrate text.txt --budget 0.001s --force")
    assert result.code == 0
    assert re.search(r"^note: took [1-9]\d* s, more than the budget of 0\.001 s$", result.out, re.MULTILINE)


def test_a_training_says_how_each_start_went(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from ual_registry.distillation.report import ArmReport, DistillationReport
    from ual_registry.workflows import transfer_rungs

    arms = tuple(
        ArmReport(
            name=name,
            start_loss=3.5,
            held_out_loss=loss,
            best_step=20,
            steps=30,
            seconds=12.0,
            curve=((0, 3.5), (20, loss)),
        )
        for name, loss in (("cold", 1.25), ("warm", 1.0))
    )
    report = DistillationReport(arms=arms, chosen="warm", texts=40, held_out=4)

    def train(job: Any, _: str) -> Any:
        return SimpleNamespace(adapter=transfer_rungs.RUNNERS["copy"](job, "copy").adapter, report=report)

    monkeypatch.setitem(transfer_rungs.RUNNERS, "distill", train)
    result = ual(f"{TO_COUSIN} --method distill --budget 1m --json")
    assert result.code == 0
    assert list(schema_problems("1.0/cli/transfer.json", result.document, root="document")) == []
    one = {"start_loss": 3.5, "best_step": 20, "steps": 30, "seconds": 12.0}
    assert result.document == {
        "path": "out.air",
        "digest": str(Digest.of_file(Path("out.air"))),
        "method": "distill",
        "label": "unmeasured",
        "choice": None,
        "starts": [{"name": "cold", "held_out_loss": 1.25, **one}, {"name": "warm", "held_out_loss": 1.0, **one}],
        "chosen_start": "warm",
        "texts": 40,
        "held_out_texts": 4,
        "results": None,
        "over_budget": None,
    }
    late = ual(f"{TO_COUSIN} --method distill --budget 0.001s --force --json").document["over_budget"]
    assert re.fullmatch(r"took [1-9]\d* s, more than the budget of 0\.001 s", late)
    assert ual(f"{TO_COUSIN} --method distill --force").out.splitlines()[:7] == [
        "cousin (llama) by distill: 40 texts, 4 of them held out",
        "",
        "start    loss before    held-out loss    best step    steps    time",
        "cold     3.500          1.250            20           30       12 s",
        "warm     3.500          1.000            20           30       12 s",
        "",
        "the warm start is kept",
    ]
    report = replace(report, arms=arms[:1], chosen="cold", no_warm_because="no token is shared")
    lines = ual(f"{TO_COUSIN} --method distill --force").out.splitlines()
    assert lines[5:7] == ["no warm start: no token is shared", "the cold start is kept"]
