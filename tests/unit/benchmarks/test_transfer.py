import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import filelock
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.transfer import __main__ as transfer
from benchmarks.transfer import document, gathered, place, settings, side_by_side, steps
from benchmarks.transfer.arms import (
    Arm,
    adapter_file,
    choose_dose,
    dose_arms,
    moved_file,
    reference_arms,
    rung_arms,
)
from benchmarks.transfer.document import summary
from benchmarks.transfer.numbers import Numbers
from benchmarks.transfer.results import PERFECT_COPY, Result, result_of, table, verdict
from benchmarks.transfer.rungs import DEVICE, REFUSED, RUNGS, Made, RungError, RungRefusedError, make
from benchmarks.transfer.seeds import seed_file
from benchmarks.transfer.tasks import Item, Task
from ual_registry.evaluation.bootstrap import Interval
from ual_registry.evaluation.recovery import Label, measure_metric
from ual_registry.evaluation.series import Series


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({0.0: 2.0, 0.5: 1.5, 1.0: 1.0, 2.0: 1.2}, 1.0),
        ({0.0: 2.0, 0.5: 2.1, 1.0: 3.0}, 0.0),
        ({0.0: 2.0, 0.5: 1.0, 1.0: 1.0}, 0.5),
    ],
    ids=["the lowest loss wins", "where nothing helps the base wins", "of equal doses the smaller wins"],
)
def test_dose_is_the_one_with_the_lowest_loss_on_dev(losses, chosen):
    assert choose_dose(losses) == chosen


@pytest.mark.parametrize(
    ("dose", "every", "expected"),
    [
        (1.0, False, ["r", "r: flipped", "r: random 0", "r: wrong task", "r: random 1", "r: random 2"]),
        (2.0, False, ["r", "r x2", "r: flipped", "r: random 0", "r: wrong task", "r: random 1", "r: random 2"]),
        (0.0, False, ["r", "r: flipped", "r: random 0"]),
        (0.0, True, ["r", "r: flipped", "r: random 0", "r: wrong task", "r: random 1", "r: random 2"]),
    ],
    ids=["as it is", "at another dose", "no dose helps", "no dose helps, every control"],
)
def test_arms_of_a_rung_on_test_follow_from_the_dose_that_dev_chose(tmp_path, dose, every, expected):
    arms = rung_arms(tmp_path, "r", "topics", 0, dose, every=every)
    assert [arm.name for arm in arms] == expected
    assert [arm.dose for arm in arms if ":" in arm.name] == [dose or 1.0] * sum(":" in name for name in expected)
    assert arms[0].file == moved_file(tmp_path, "r", "topics", 0)


def test_key_of_an_arm_follows_the_bytes_of_its_adapter_and_dose_0_is_the_base(tmp_path):
    file = tmp_path / "r-topics-0.air"
    file.write_bytes(b"one")
    arm = Arm(name="r", base="gemma3", file=file, control="random 1", dose=2.0)
    assert arm.key("topics", "dev") == "gemma3-topics-dev-r-topics-0-7692c3ad3540-random1-x2"
    assert Arm(name="r", base="gemma3", file=file, dose=0.0).key("topics", "dev") == "gemma3-topics-dev-base"


def _loss(*values):
    return Series(
        metric="gold_nll", values=np.array(values), weights=np.ones(len(values)), is_better_high=False, is_share=False
    )


def test_kept_numbers_come_back_as_they_were(tmp_path):
    numbers = Numbers(tmp_path / "measured")
    assert numbers.of("arm") is None
    numbers.keep("arm", [_loss(1.0, 2.5)])
    found = numbers.of("arm")
    assert list(found) == ["gold_nll"]
    assert found["gold_nll"].values.tolist() == [1.0, 2.5]


@pytest.fixture
def result(tmp_path):
    arms = {
        "base": _loss(*[4.0, 5.0] * 20),
        "native": _loss(*[1.0, 2.0] * 20),
        PERFECT_COPY: _loss(*[0.1, 1.1] * 20),
        "svd": _loss(*[4.1, 5.1] * 20),
        "svd: random 0": _loss(*[4.0, 5.0] * 20),
        "residual": _loss(*[3.4, 4.4] * 20),
        "residual x2": _loss(*[2.5, 3.5] * 20),
        "residual: random 0": _loss(*[4.0, 5.0] * 20),
    }
    report = measure_metric(arms, base="base", native="native", seed=0, resamples=200)
    own = {"source base": _loss(*[3.0, 3.2] * 20), "source adapter": _loss(*[0.5, 0.7] * 20)}
    own["residual: to its own base"] = _loss(*[0.6, 0.8] * 20)
    source = measure_metric(own, base="source base", native="source adapter", seed=0, resamples=200)
    made = Made(
        rung="residual", file=tmp_path, cpu_s=61.2, wall_s=70.0, peak_bytes=2 << 30, where="here", said={"entries": 6}
    )
    return Result(
        task="topics",
        title="topic of a request",
        seed=0,
        source=(source,),
        reports=(report,),
        made=(made,),
        curves={"svd": {0.0: 4.5, 1.0: 4.6, 2.0: 5.0}, "residual": {0.0: 4.5, 1.0: 3.9, 2.0: 3.0}},
    )


def test_table_gives_every_arm_its_value_gain_and_recovered_gain_and_rungs_a_verdict(result):
    assert table(result) == _TABLE


def test_summary_gives_recovered_gain_at_the_dose_that_dev_chose(result):
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in summary([result]).splitlines()]
    works = "0.500 [0.500, 0.500] works (dose 2)"
    assert [rows[0], rows[2]] == [
        ["task", "seed", "metric", "a perfect copy", "svd", "residual"],
        ["topics", "0", "gold_nll", "1.300 [1.300, 1.300]", "0 (dev chose dose 0)", works],
    ]


def test_summary_gives_the_least_good_label_of_several_metrics(result):
    (report,) = result.reports
    moved = ("residual", "residual x2")
    poor = replace(
        report, arms=tuple(replace(own, recovered=_point(0.1)) if own.arm in moved else own for own in report.arms)
    )
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in summary([replace(result, reports=(report, poor))]).splitlines()
    ]
    assert [row[5] for row in rows[2:]] == [
        "0.500 [0.500, 0.500] works (dose 2)",
        "0.100 [0.100, 0.100] partial (dose 2)",
        "partial (dose 2)",
    ]
    assert rows[4][:5] == ["topics", "0", "overall", "", "0 (dev chose dose 0)"]


def _point(value):
    return Interval(value=value, low=value, high=value)


@pytest.fixture
def cache(tmp_path):
    """A cache in which one rung was measured at every dose and beside one control."""
    numbers, item = Numbers(tmp_path / "measured"), Item(prompt="p", answer=" a", labels=(" a", " b"))
    task = Task(name="topics", title="topic of a request", train=(item,), dev=(item,), test=(item,))
    for file, text in (
        (adapter_file(tmp_path, "smollm2", "topics", 0), b"source"),
        (adapter_file(tmp_path, "gemma3", "topics", 0), b"native"),
        (moved_file(tmp_path, "svd", "topics", 0), b"moved"),
    ):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text)
    figures = {"cpu_s": 2.0, "wall_s": 3.5, "peak_bytes": 1 << 20, "where": "here"}
    moved_file(tmp_path, "svd", "topics", 0).with_suffix(".cost.json").write_text(json.dumps(figures))
    moved_file(tmp_path, "svd", "topics", 0).with_suffix(".said.json").write_text(json.dumps({"entries": 90}))
    for arm in (*reference_arms(tmp_path, "topics", 0), *rung_arms(tmp_path, "svd", "topics", 0, 1.0)[:3]):
        numbers.keep(arm.key("topics", task.named("test")), [_loss(1.0 + len(arm.name), 1 / 3)])
    for arm in dose_arms(moved_file(tmp_path, "svd", "topics", 0)):
        numbers.keep(arm.key("topics", task.named("dev")), [_loss(5.0 - arm.dose * (arm.dose <= 1))])
    return task, tmp_path


def test_what_was_gathered_comes_back_from_its_file_and_makes_the_same_tables(cache, tmp_path):
    task, folder = cache
    found = gathered.gather(task, 0, folder)
    assert list(found.arms) == ["base", "native", "svd", "svd: flipped", "svd: random 0"]
    assert found.curves == {"svd": {0.0: 5.0, 0.5: 4.5, 1.0: 4.0, 1.5: 5.0, 2.0: 5.0}}
    gathered.save([found], tmp_path / "numbers.json.gz")
    first = (tmp_path / "numbers.json.gz").read_bytes()
    gathered.save([found], tmp_path / "numbers.json.gz")
    assert (tmp_path / "numbers.json.gz").read_bytes() == first
    (again,) = gathered.load(tmp_path / "numbers.json.gz")
    assert again.made[0].said == {"entries": 90}
    assert again.arms["svd"]["gold_nll"].values.tolist() == [4.0, 0.333333]
    assert table(result_of(again)) == table(result_of(found))


def test_a_perfect_copy_has_on_the_target_what_the_source_adapter_has_on_its_own_base(cache):
    found = gathered.gather(cache[0], 0, cache[1])
    (report,) = result_of(found).reports
    assert [own.arm for own in report.arms] == ["base", "native", PERFECT_COPY, "svd", "svd: flipped", "svd: random 0"]
    assert report.arm(PERFECT_COPY).value.value == found.source["source adapter"]["gold_nll"].value


def _gathered(**changed):
    arms = {name: {"gold_nll": _loss(*values)} for name, values in changed.pop("arms").items()}
    whole = {"task": "topics", "title": "t", "seed": 0, "source": {}, "made": (), "curves": {}, **changed}
    return gathered.Gathered(arms=arms, **whole)


def _made(rung):
    return Made(rung=rung, file=Path("f"), cpu_s=1.0, wall_s=1.0, peak_bytes=1, where="here", said={})


def test_numbers_of_several_places_are_put_together_rung_by_rung():
    references = {"base": (4.0, 5.0), "native": (1.0, 2.0)}
    one = _gathered(
        arms={**references, "distill": (2.0, 2.0), "distill: random 0": (4.0, 5.0)},
        made=(_made("distill"),),
        curves={"distill": {0.0: 1.0}},
    )
    other = _gathered(
        arms={**references, "svd": (4.0, 4.0), "svd x2": (3.0, 3.0)}, made=(_made("svd"),), curves={"svd": {0.0: 2.0}}
    )
    alone = _gathered(arms=references, task="banking")
    whole, second = gathered.joined([alone, one, other])
    assert (whole.task, second.task) == ("topics", "banking")
    assert list(whole.arms) == ["base", "native", "svd", "svd x2", "distill", "distill: random 0"]
    assert [own.rung for own in whole.made] == list(whole.curves) == ["svd", "distill"]


def test_numbers_of_other_adapters_are_not_put_together():
    one = _gathered(arms={"base": (4.0, 5.0), "native": (1.0, 2.0)})
    other = _gathered(arms={"base": (4.0, 5.0), "native": (1.0, 2.5)})
    with pytest.raises(click.ClickException, match="the numbers of native differ"):
        gathered.joined([one, other])


@pytest.mark.parametrize("text", [None, b"", b"no JSON", b'[{"task": "topics"}]'])
def test_a_file_that_holds_no_numbers_is_refused(tmp_path, text):
    (tmp_path / "n").write_bytes(b"[]" if text is None else gzip.compress(text))
    with pytest.raises(click.ClickException, match="expected numbers that --save wrote"):
        gathered.load(tmp_path / "n")


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(DEVICE, "toaster")
    with pytest.raises(click.ClickException, match=r"device 'toaster': .*; try cpu or cuda"):
        place.load(tmp_path)


@pytest.mark.parametrize(("times", "chosen"), [((1.0, 2.0), torch.bfloat16), ((7.0, 1.0), torch.float32)])
def test_distillation_computes_in_what_the_device_is_faster_in(monkeypatch, times, chosen):
    monkeypatch.setattr(place, "_product_s", lambda dtype, device: times[dtype is torch.float32])
    assert place.fastest_dtype() is chosen


def test_rung_without_a_random_control_has_no_verdict(result):
    (report,) = result.reports
    alone = replace(report, arms=tuple(own for own in report.arms if not own.arm.startswith("residual: random")))
    assert verdict(result, report, "residual x2") == Label.WORKS
    assert verdict(result, alone, "residual x2") is None
    assert "no control measured (dose 2)" in summary([replace(result, reports=(alone,))])


def test_nothing_is_gathered_where_an_arm_is_absent_that_all_others_need(cache):
    task, folder = cache
    adapter_file(folder, "gemma3", "topics", 0).unlink()
    assert gathered.gather(task, 0, folder) is None


def test_parts_are_run_training_first_and_the_rungs_of_one_kind_together(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(side_by_side, "_part", lambda arguments, cache: begun.append((list(arguments), cache)) or 0)
    side_by_side.run_parts(["topics", "banking"], [0], ["truncate", "svd", "distill"], tmp_path, jobs=1)
    topics, banking = ["--task", "topics", "--seed", "0"], ["--task", "banking", "--seed", "0"]
    assert begun == [
        ([*topics, "--references"], tmp_path),
        ([*banking, "--references"], tmp_path),
        ([*topics, "--rung", "distill"], tmp_path),
        ([*banking, "--rung", "distill"], tmp_path),
        ([*topics, "--rung", "truncate", "--rung", "svd"], tmp_path),
        ([*banking, "--rung", "truncate", "--rung", "svd"], tmp_path),
    ]


def test_parts_that_move_get_the_further_options(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(side_by_side, "_part", lambda arguments, cache: begun.append(list(arguments)) or 0)
    side_by_side.run_parts(["topics"], [0], ["svd"], tmp_path, jobs=1, flags=["--every-control"])
    topics = ["--task", "topics", "--seed", "0"]
    assert begun == [[*topics, "--references"], [*topics, "--rung", "svd", "--every-control"]]


def test_a_part_that_fails_is_named_and_the_others_are_run(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        side_by_side, "_part", lambda arguments, cache: begun.append(arguments) or int("banking" in arguments)
    )
    with pytest.raises(click.ClickException, match=r"these parts failed: --task banking --seed 1 --references"):
        side_by_side.run_parts(["banking", "topics"], [1], ["svd"], tmp_path, jobs=1)
    tried = ["--task", "banking", "--seed", "1"]
    assert len(begun) == 6
    assert (begun[2], begun[5]) == ([*tried, "--references"], [*tried, "--rung", "svd"])


def test_a_part_that_failed_beside_others_gets_a_second_try(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        side_by_side, "_part", lambda arguments, cache: begun.append(list(arguments)) or int(len(begun) == 1)
    )
    side_by_side.run_parts(["topics"], [0], [], tmp_path, jobs=2)
    assert begun == [["--task", "topics", "--seed", "0", "--references"]] * 2


@pytest.mark.parametrize(("error", "status"), [(RungRefusedError("no text"), 0), (RungError("out of memory"), 1)])
def test_a_refusal_is_said_and_a_failure_is_one(tmp_path, monkeypatch, error, status):
    def fail(*_):
        raise error

    monkeypatch.setenv(DEVICE, "cpu")  # which the command sets, and which is to be as before afterwards
    monkeypatch.setattr(transfer, "TASKS", {"topics": lambda: SimpleNamespace(name="topics")})
    monkeypatch.setattr(transfer, "_train", lambda *_: None)
    monkeypatch.setattr(steps, "measure_references", lambda *_: None)
    monkeypatch.setattr(steps, "measure_rung", lambda *_, **__: None)
    monkeypatch.setattr(transfer, "_move", fail)
    monkeypatch.setattr(transfer, "WRONG_TASK", {"topics": "topics"})
    monkeypatch.setattr(gathered, "gather", lambda *_: None)
    asked = ["--task", "topics", "--seed", "0", "--rung", "svd", "--cache", str(tmp_path)]
    found = CliRunner().invoke(transfer.main, asked)
    said = {0: "svd, topics, seed 0, to gemma3 was refused: no text\n"}
    assert found.exit_code == status
    assert found.output == said.get(status, "Error: svd, topics, seed 0, to gemma3 was not made: out of memory\n")


@pytest.mark.parametrize(("status", "kind"), [(REFUSED, RungRefusedError), (1, RungError), (-9, RungError)])
def test_a_process_tells_a_refusal_from_a_failure(tmp_path, monkeypatch, status, kind):
    code = "import os, sys; print('why', file=sys.stderr, flush=True); " + (
        "os.kill(os.getpid(), 9)" if status < 0 else f"sys.exit({status})"
    )
    usual = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: usual([sys.executable, "-c", code], **more))
    with pytest.raises(RungError, match="why") as caught:
        make("svd", tmp_path / "a.air", (tmp_path, tmp_path), None, tmp_path / "b.air")
    assert type(caught.value) is kind


def test_two_processes_do_not_make_one_file_at_the_same_time(tmp_path):
    file = tmp_path / "new" / "file"
    with side_by_side.one_at_a_time(file):
        second = filelock.FileLock(file.with_name(".file.lock"), timeout=0)
        with pytest.raises(filelock.Timeout):
            second.acquire()
    with side_by_side.one_at_a_time(file):
        assert not file.exists()


@pytest.mark.parametrize(
    ("task", "kind", "expected"),
    [
        ("changelogs", "seeds", {"seeds": None, "texts": 800, "batch": 128, "writers": ["source"]}),
        ("topics", "seeds", {"seeds": 5, "texts": 2000, "batch": 32, "writers": ["source"]}),
        ("topics", "seeds by both", {"seeds": 5, "texts": 2000, "batch": 128, "writers": ["source", "target"]}),
        ("topics", "seeds and words", {"seeds": 5, "texts": 2000, "batch": 128, "writers": ["source"], "opened": 0.5}),
        ("topics", "nothing", {"seeds": None, "texts": 600, "batch": 32, "writers": ["source"]}),
    ],
)
def test_what_a_distillation_is_given_follows_from_task_and_kind(tmp_path, task, kind, expected):
    given = json.loads(seed_file(tmp_path, task, kind).read_text())
    seeds = given["seeds"]
    assert {
        "seeds": seeds and len(seeds["inputs"]),
        "texts": given.get("texts"),
        "batch": given.get("sampling", {}).get("batch_size", 32),
        "writers": given.get("manner", {}).get("writers", ["source"]),
        "opened": given.get("manner", {}).get("opened", 0.0),
    } == {"opened": 0.0, **expected}


@pytest.mark.parametrize("kind", ["seeds by both", "seeds and words"])
def test_documents_have_no_requests_that_could_be_written_otherwise(tmp_path, kind):
    with pytest.raises(RungRefusedError, match=r"^documents are written without requests, expected a task that has"):
        seed_file(tmp_path, "changelogs", kind)


@pytest.mark.parametrize(
    ("rung", "task", "expected"),
    [
        ("distill", "topics", "distill-changelogs-1.air"),
        ("distill-both", "topics", "distill-changelogs-1.air"),
        ("distill-both", "banking", "distill-both-topics-1.air"),
        ("distill-words", "topics", "distill-changelogs-1.air"),
    ],
)
def test_another_task_that_has_no_requests_is_distilled_without(tmp_path, rung, task, expected):
    arms = rung_arms(tmp_path, rung, task, 1, 1.0)
    assert [arm.file.name for arm in arms if arm.name == f"{rung}: wrong task"] == [expected]


@pytest.mark.parametrize(
    ("task", "name", "expected"),
    [
        ("topics", "source", {"seeds": 5, "texts": 70, "sampling": {"batch_size": 128}, "manner": None}),
        (
            "banking",
            "both, fine, warmer",
            {
                "seeds": 5,
                "texts": 70,
                "sampling": {"batch_size": 128, "temperature": 1.0},
                "manner": {"writers": ("source", "target"), "is_fine": True},
            },
        ),
        (
            "changelogs",
            "800 of 256 tokens",
            {
                "seeds": None,
                "texts": 800,
                "sampling": {"batch_size": 128, "temperature": 1.0, "top_p": 1.0, "max_tokens": 256},
                "manner": None,
            },
        ),
    ],
)
def test_a_setting_changes_what_a_distillation_is_given(task, name, expected):
    given = settings._given(task, name, 70)
    seeds = given["seeds"]
    found = {key: given.get(key) for key in ("texts", "sampling", "manner")}
    assert {"seeds": seeds and len(seeds["inputs"]), **found} == expected
    assert len({settings._file(Path(), task, own, 70, 0) for own in settings.SETTINGS[task]}) == len(
        settings.SETTINGS[task]
    )


def test_a_setting_that_fails_says_which_it_was(tmp_path, monkeypatch):
    def refuse(*_):
        raise RungError("cannot read the adapter")

    monkeypatch.setattr(settings, "make", refuse)
    monkeypatch.setattr(settings, "model_folder", Path)
    monkeypatch.setattr(settings, "TASKS", {"changelogs": lambda: None})
    asked = ["--task", "changelogs", "--setting", "800 of 160 tokens", "--cache", str(tmp_path)]
    found = CliRunner().invoke(settings.main, asked)
    assert (found.exit_code, found.output) == (1, "Error: changelogs, 800 of 160 tokens: cannot read the adapter\n")


def test_rungs_that_are_measured_nowhere_are_named_once(result):
    curves = {own.name: {0.0: 1.0} for own in RUNGS if own.name != "vocab"}
    first = replace(result, curves=curves)
    second = replace(result, seed=1, curves={name: curve for name, curve in curves.items() if name != "svd"})
    assert document._unmeasured([first, second]) == (
        "Measured in no case: vocab.\n"
        "What an empty cell stands for was not measured; `overall` of a perfect copy is not judged."
    )
    assert document._unmeasured([first]) == "Measured in no case: vocab."


_TABLE = """\
### topics, seed 0

The adapter on its own base: gold_nll 3.100 to 0.600, residual: to its own base R 0.960 [0.960, 0.960].

| gold_nll           | value                | gain                    | R                       | verdict   |
|--------------------|----------------------|-------------------------|-------------------------|-----------|
| base               | 4.500 [4.350, 4.625] |                         |                         |           |
| native             | 1.500 [1.350, 1.625] | 3.000 [3.000, 3.000]    |                         |           |
| a perfect copy     | 0.600 [0.450, 0.725] | 3.900 [3.900, 3.900]    | 1.300 [1.300, 1.300]    |           |
| svd                | 4.600 [4.450, 4.725] | -0.100 [-0.100, -0.100] | -0.033 [-0.033, -0.033] | harmful   |
| svd: random 0      | 4.500 [4.350, 4.625] | 0.000 [0.000, 0.000]    | 0.000 [0.000, 0.000]    |           |
| residual           | 3.900 [3.750, 4.025] | 0.600 [0.600, 0.600]    | 0.200 [0.200, 0.200]    | partial   |
| residual x2        | 3.000 [2.850, 3.125] | 1.500 [1.500, 1.500]    | 0.500 [0.500, 0.500]    | works     |
| residual: random 0 | 4.500 [4.350, 4.625] | 0.000 [0.000, 0.000]    | 0.000 [0.000, 0.000]    |           |

| gold_nll on dev   | dose 0   | dose 1   | dose 2   | chosen   |
|-------------------|----------|----------|----------|----------|
| svd               | 4.500    | 4.600    | 5.000    | 0        |
| residual          | 4.500    | 3.900    | 3.000    | 2        |

| rung     | processor time, s   | wall time, s   | peak memory, MiB   | where   | what it said   |
|----------|---------------------|----------------|--------------------|---------|----------------|
| residual | 61                  | 70             | 2048               | here    | 6 entries      |
"""
