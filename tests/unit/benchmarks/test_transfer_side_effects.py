import json
import math
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.transfer import generic_text, side_effects, side_effects_measure
from benchmarks.transfer.arms import Arm, adapter_file, moved_file
from benchmarks.transfer.gathered import Gathered
from benchmarks.transfer.numbers import Numbers
from benchmarks.transfer.side_effects import arms_of, chosen_doses, put
from benchmarks.transfer.side_effects_numbers import (
    AFTER,
    BEFORE,
    DIVERGENCE,
    Effect,
    Generic,
    Measurement,
    load,
    save,
    series,
)
from benchmarks.transfer.side_effects_results import section, table
from ual_registry.tensors import to_torch

_TOPIC = """The "pass" statement
********************

   pass_stmt ::= "pass"

"pass" is a null operation — when it is
executed, nothing happens.

   def f(arg): pass

Notes
=====

It is useful as a placeholder.
"""


def test_prose_of_a_topic_has_no_headings_no_grammar_and_no_examples():
    found = '"pass" is a null operation — when it is executed, nothing happens.\n\nIt is useful as a placeholder.'
    assert generic_text.prose(_TOPIC) == found


def test_texts_are_of_one_length_and_no_two_are_alike(monkeypatch):
    topics = {"one": "a" * 500, "again": "a" * 480 + "b", "short": "a" * 479, "other": "c" * 480}
    monkeypatch.setattr("pydoc_data.topics.topics", topics)
    texts = generic_text.generic_texts()
    assert sorted(texts) == ["a" * 480, "c" * 480]
    assert generic_text.text_digest(texts) != generic_text.text_digest(texts[::-1])


def _metrics(bits, after, divergence, size=100.0, tokens=20.0):
    return {
        BEFORE: series(BEFORE, bits, [size] * len(bits)),
        AFTER: series(AFTER, after, [size] * len(bits)),
        DIVERGENCE: series(DIVERGENCE, divergence, [tokens] * len(bits)),
    }


_SOURCE_BITS, _BITS = [100.0, 100.0], [200.0, 200.0]


def _effect(arm, base, dose, norm, said):
    after, divergence = said
    bits = _SOURCE_BITS if base == "smollm2" else _BITS
    return Effect(arm=arm, base=base, dose=dose, norm=norm, metrics=_metrics(bits, [after] * 2, [divergence] * 2))


_FOUND = Measurement(
    task="topics",
    seed=0,
    generic=Generic(source="hand-made (CC0)", digest="0123456789abcdef", documents=2),
    chosen={"svd": 0.0, "predictions": 1.5},
    effects=(
        _effect("source adapter", "smollm2", 1.0, 4.0, (125.0, 3.0)),
        _effect("native", "gemma3", 1.0, 7.25, (190.0, 2.0)),
        _effect("svd", "gemma3", 1.0, 3.0, (200.0, 0.0)),
        _effect("predictions", "gemma3", 1.0, 5.0, (210.0, 4.0)),
        _effect("predictions x1.5", "gemma3", 1.5, 7.5, (230.0, 9.0)),
        _effect("predictions: random 0", "gemma3", 1.5, 7.5, (205.0, 1.0)),
    ),
)

_TABLE = """\
### topics, seed 0: generic text

2 texts: hand-made (CC0); digest 0123456789ab.

| arm                   | dose              | norm of the update   | bits per byte        | change                  | KL, nats             |
|-----------------------|-------------------|----------------------|----------------------|-------------------------|----------------------|
| source base           |                   |                      | 1.000 [1.000, 1.000] |                         |                      |
| source adapter        | 1                 | 4.0                  | 1.250                | 0.250 [0.250, 0.250]    | 0.150 [0.150, 0.150] |
| base                  |                   |                      | 2.000 [2.000, 2.000] |                         |                      |
| native                | 1                 | 7.2                  | 1.900                | -0.100 [-0.100, -0.100] | 0.100 [0.100, 0.100] |
| svd                   | 1 (dev chose 0)   | 3.0                  | 2.000                | 0.000 [0.000, 0.000]    | 0.000 [0.000, 0.000] |
| predictions           | 1 (dev chose 1.5) | 5.0                  | 2.100                | 0.100 [0.100, 0.100]    | 0.200 [0.200, 0.200] |
| predictions x1.5      | 1.5               | 7.5                  | 2.300                | 0.300 [0.300, 0.300]    | 0.450 [0.450, 0.450] |
| predictions: random 0 | 1.5               | 7.5                  | 2.050                | 0.050 [0.050, 0.050]    | 0.050 [0.050, 0.050] |"""  # noqa: E501  # rows of a table


def test_table_gives_every_arm_its_change_and_divergence_and_every_base_its_bits():
    assert table(_FOUND) == _TABLE


def test_intervals_are_those_of_draws_of_documents():
    effect = replace(_FOUND.effects[1], metrics=_metrics([100.0, 300.0], [110.0, 330.0], [0.0, 4.0]))
    row = table(replace(_FOUND, effects=(effect,))).splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("native", "1", "7.2", "2.200"),
        *("0.200 [0.100, 0.300]", "0.100 [0.000, 0.200]"),
    ]


def test_measurements_come_back_from_their_file_and_make_the_section(tmp_path):
    save([_FOUND], tmp_path / "numbers.json")
    (again,) = load(tmp_path / "numbers.json")
    assert table(again) == _TABLE
    assert (again.chosen, again.generic) == (_FOUND.chosen, _FOUND.generic)
    (tmp_path / "reading.md").write_text("What it shows.\n")
    found = section(tmp_path / "numbers.json", tmp_path / "reading.md")
    assert found == f"## Side effects on generic text\n\nWhat it shows.\n\n{_TABLE}"


@pytest.mark.parametrize("text", ["", "no JSON", '[{"task": "topics"}]', "[1]"])
def test_a_file_that_holds_no_side_effects_is_refused(tmp_path, text):
    (tmp_path / "n").write_text(text)
    with pytest.raises(click.ClickException, match="expected side effects that --save wrote"):
        load(tmp_path / "n")


def test_a_new_measurement_takes_the_place_of_that_of_its_task_and_seed():
    others = [replace(_FOUND, task="banking"), replace(_FOUND, seed=1), _FOUND]
    new = replace(_FOUND, effects=())
    assert put(others, new) == [new, others[0], others[1]]


def test_doses_are_those_of_the_task_and_seed_and_what_comes_last_counts():
    def own(task, seed, **curves):
        return Gathered(task=task, title="t", seed=seed, source={}, arms={}, made=(), curves=curves)

    published = own("topics", 0, svd={0.0: 1.0, 1.0: 2.0}, residual={0.0: 2.0, 1.0: 1.0})
    cached = own("topics", 0, residual={0.0: 3.0, 1.0: 2.0, 2.0: 1.0})
    others = [own("topics", 1, vocab={1.0: 0.0}), own("banking", 0, vocab={1.0: 0.0})]
    assert chosen_doses([published, *others, cached], "topics", 0) == {"svd": 0.0, "residual": 2.0}


def _files(cache, *rungs):
    names = [adapter_file(cache, base, "topics", 0) for base in ("smollm2", "gemma3")]
    for file in (*names, *(moved_file(cache, rung, "topics", 0) for rung in rungs)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(file.name.encode())


def test_arms_are_the_trained_adapters_and_each_rung_that_was_made_at_both_doses_beside_a_random_update(tmp_path):
    _files(tmp_path, "svd", "residual", "predictions", "distill")
    found = arms_of(tmp_path, "topics", 0, {"svd": 0.0, "residual": 1.0, "predictions": 1.5, "vocab": 2.0})
    assert [(own.name, own.dose) for own in found] == [
        ("source adapter", 1.0),
        ("native", 1.0),
        ("svd", 1.0),
        ("residual", 1.0),
        ("residual: random 0", 1.0),
        ("predictions", 1.0),
        ("predictions x1.5", 1.5),
        ("predictions: random 0", 1.5),
        ("distill", 1.0),
        ("distill: random 0", 1.0),
    ]


@pytest.fixture
def measured(monkeypatch):
    """Keys of the arms that were measured; every arm gets the same numbers."""
    keys = []

    def measure(bench, arm, texts, key):
        if bench.numbers.of(key) is None:
            keys.append(key.partition("text-")[0])
            bench.numbers.keep(key, list(_metrics([1.0] * 40, [2.0] * 40, [3.0] * 40).values()))
        return bench.numbers.of(key)

    monkeypatch.setattr(side_effects_measure, "measure", measure)
    monkeypatch.setattr(side_effects_measure, "update_norm", lambda arm: arm.dose)
    monkeypatch.setattr(side_effects, "_kept", lambda task, seed, cache: iter(()))
    return keys


def test_arms_that_were_measured_before_stay_beside_those_of_the_rungs_that_are_asked_for(measured, tmp_path):
    _files(tmp_path, "svd", "residual", "distill")
    asked = ["--task", "topics", "--cache", str(tmp_path), "--save", str(tmp_path / "s.json")]
    for rung in ("svd", "distill"):
        done = CliRunner().invoke(side_effects.main, [*asked, "--rung", rung], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "s.json").read_text())
    assert [own["arm"] for own in found["arms"]] == [
        *("source adapter", "native", "svd", "svd: random 0", "distill", "distill: random 0")
    ]
    assert len(measured) == 6
    assert len(Numbers(tmp_path / "measured").of(Path(next((tmp_path / "measured").glob("*.json"))).stem)) == 3


def test_without_the_trained_adapters_nothing_is_measured(tmp_path):
    done = CliRunner().invoke(side_effects.main, ["--task", "topics", "--cache", str(tmp_path)])
    assert done.exit_code == 1
    assert "expected the trained adapters of topics, seed 0" in done.output
    assert "--references` makes them" in done.output


def test_norm_of_an_update_is_that_of_all_its_modules_together(adapter, air_file):
    whole = [
        entry.scaling * to_torch(adapter.tensors[entry.lora_B]) @ to_torch(adapter.tensors[entry.lora_A])
        for entry in adapter.entries
    ]
    wanted = math.sqrt(sum(float((update**2).sum()) for update in whole))
    arm = Arm(name="small x1.5", base="gemma3", file=air_file, dose=1.5)
    assert side_effects_measure.update_norm(arm) == pytest.approx(1.5 * wanted)
