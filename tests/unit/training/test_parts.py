"""The smaller parts of a run: what each process is fed, how long a run is, its log, its pictures, its texts."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.tiny import config, run
from ual_registry.air.model import Statement
from ual_registry.cli.train_text import time_text
from ual_registry.errors import FormatError, MissingExtraError, StorageError, TrainingError
from ual_registry.models.loaded import LoadedBase
from ual_registry.training import hardware, log
from ual_registry.training.checkpoint import Checkpoint, last_checkpoint, read_checkpoint, write_checkpoint
from ual_registry.training.config import TrainingConfig
from ual_registry.training.feed import Feed
from ual_registry.training.log import Journal, read_log
from ual_registry.training.memory import memory_told
from ual_registry.training.order import cut_by_length, filled, share_of
from ual_registry.training.place import Place, place_of
from ual_registry.training.progress import Progress
from ual_registry.training.record import bits_per_byte, verdict_of
from ual_registry.training.schedule import Length, length_of
from ual_registry.training.signals import Wish, hearing_signals

STEP = (6, 2, 0, 4, 1, 5, 3)


@pytest.mark.parametrize(
    ("size", "processes", "expected"),
    [
        (4, 1, [((6, 2, 0, 4), (1, 5, 3))]),
        (2, 2, [((6, 2), (1, 5)), ((0, 4), (3,))]),
        (1, 2, [((6,), (0,), (1,), (3,)), ((2,), (4,), (5,))]),
        (4, 3, [((6, 2, 0, 4),), ((1, 5, 3),), ((),)]),
    ],
)
def test_processes_share_every_step_without_waiting(
    size: int, processes: int, expected: list[tuple[tuple[int, ...], ...]]
) -> None:
    assert [share_of(STEP, size=size, process=own, processes=processes) for own in range(processes)] == expected


def test_every_epoch_has_its_own_order() -> None:
    feed = Feed(lambda epoch: [[[epoch, 1]], [[2], [3]]])
    assert (list(feed), len(feed)) == ([[[0, 1]], [[2], [3]]], 2)
    feed.epoch = 1
    assert list(feed) == [[[1, 1]], [[2], [3]]]


WIDTHS = (90, 30, 25, 24, 10, 9, 9, 8)


@pytest.mark.parametrize(
    ("limit", "pass_cost", "expected"),
    [
        (1000, 0, ((0,), (1,), (2,), (3,), (4,), (5, 6), (7,))),
        (1000, 20, ((0,), (1, 2, 3), (4, 5, 6, 7))),
        (60, 20, ((0,), (1,), (2, 3), (4, 5, 6, 7))),
        (1000, 1000, ((0, 1, 2, 3, 4, 5, 6, 7),)),
    ],
)
def test_rows_by_length_are_cut_where_it_costs_the_least(
    limit: int, pass_cost: int, expected: tuple[tuple[int, ...], ...]
) -> None:
    assert cut_by_length(range(8), WIDTHS, limit=limit, pass_cost=pass_cost) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 200), st.integers(0, 60))
def test_no_other_way_to_cut_costs_less(widths: list[int], limit: int, pass_cost: int) -> None:
    widths.sort(reverse=True)

    def cost(parts: Sequence[Sequence[int]]) -> float:
        places = [len(part) * max(widths[row] for row in part) for part in parts]
        fits = all(own <= limit or len(part) == 1 for own, part in zip(places, parts, strict=True))
        return sum(places) + pass_cost * len(parts) if fits else math.inf

    rows = range(len(widths))
    ways = (
        [rows[first:after] for first, after in itertools.pairwise([0, *cuts, len(widths)])]
        for count in rows
        for cuts in itertools.combinations(range(1, len(widths)), count)
    )
    found = cut_by_length(rows, widths, limit=limit, pass_cost=pass_cost)
    assert [row for part in found for row in part] == list(rows)
    assert cost(found) == min(map(cost, ways))


def test_lines_are_filled_up_to_the_limit() -> None:
    assert filled(range(8), WIDTHS, limit=60) == ((0,), (1, 2), (3, 4, 5, 6, 7))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (150, 8, 15, 15)),
        ({"steps": 7, "warmup_steps": 9}, (7, 6, 1, 1)),
        ({"epochs": 0.01}, (1, 0, 1, 1)),
        ({"evaluate_every": 4, "checkpoint_every": 6}, (150, 8, 4, 6)),
    ],
)
def test_the_length_follows_from_settings_and_data(changes: dict[str, Any], expected: tuple[int, ...]) -> None:
    found = length_of(TrainingConfig(**changes), 50)
    assert (found.steps, found.warmup_steps, found.evaluate_every, found.checkpoint_every) == expected
    assert found == Length(
        steps=found.steps,
        steps_per_epoch=50,
        warmup_steps=found.warmup_steps,
        decay_steps=math.ceil(found.steps * 0.2),
        evaluate_every=found.evaluate_every,
        checkpoint_every=found.checkpoint_every,
    )


def kept(step: int) -> Checkpoint:
    """Return a checkpoint of nearly nothing."""
    ones = {"a": torch.ones(2)}
    numbers: dict[str, Any] = {"groups": [{"lr": 0.1}], "schedule": {"last_epoch": step}, "scaler": None}
    progress = Progress(settings={"data": "d"}, step=step, losses=[(1, 0.1)])
    return Checkpoint(progress=progress, factors=ones, best={}, optimizer=ones, trainer='{"global_step": 1}', **numbers)


def test_a_checkpoint_is_read_as_it_was_written_and_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write_checkpoint(tmp_path, kept(step))
    (tmp_path / ".step-00000011.abc.tmp").mkdir()
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000002", "step-00000010"]
    place = last_checkpoint(tmp_path)
    assert place == tmp_path / "step-00000010"
    found = read_checkpoint(place, {"data": "d"})
    assert (found.progress, found.groups, found.schedule) == (kept(10).progress, [{"lr": 0.1}], {"last_epoch": 10})
    assert torch.equal(found.factors["a"], torch.ones(2))
    with pytest.raises(FormatError) as caught:
        read_checkpoint(place, {"data": "e"})
    assert str(caught.value) == f"{place}: is a run with another data (there d, here e)"


@pytest.mark.parametrize("name", ["state.safetensors", "trainer_state.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"\x80\x04."])
def test_a_checkpoint_with_another_file_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    place = write_checkpoint(tmp_path, kept(3))
    (place / name).write_bytes(data)
    with pytest.raises(FormatError) as caught:
        read_checkpoint(place, {"data": "d"})
    assert str(caught.value) == f"{place}: is no checkpoint of a training run"


def test_there_is_no_checkpoint_where_there_is_no_folder(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None


def test_a_resumed_log_takes_back_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [f'{{"event": "step", "step": {step}}}' for step in (1, 2, 3)]
    path.write_text("\n".join([*lines, '{"event": "end", "step": 3}', '{"event": "st']))
    journal = Journal(path, steps=5)
    journal.begin(Progress(settings={}, step=2))
    journal.close()
    assert list(read_log(path)) == [
        {"event": "step", "step": 1},
        {"event": "step", "step": 2},
        {"event": "resumed", "step": 2},
    ]


@pytest.mark.parametrize(
    "line", ["[]", "7", '{"event": "step"}', '{"step": 1}', '{"event": 1, "step": "2"}', "[" * 2000, "\x80"]
)
def test_a_line_of_the_log_that_somebody_edited_is_left_out(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "step", "step": 1}\n' + line.encode("latin-1") + b'\n{"event": "step", "step": 2}\n')
    journal = Journal(path, steps=5)
    journal.begin(Progress(settings={}, step=2))
    journal.close()
    assert [own["step"] for own in read_log(path)] == [1, 2, 2]


def test_a_log_that_cannot_be_written_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Journal(tmp_path / "none" / "log.jsonl", steps=5).begin(Progress(settings={}))


def test_the_log_goes_to_tensorboard_too(llama: LoadedBase, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(llama, tmp_path / "run", sinks=("tensorboard",), steps=2)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = [line for line in read_log(tmp_path / "run" / "log.jsonl") if line["event"] == "step"]
    for name in ("loss", "learning_rate", "grad_norm"):
        found = [(own.step, own.value) for own in events.Scalars(f"step/{name}")]
        assert found == [(line["step"], pytest.approx(line[name])) for line in logged]
    assert [own.step for own in events.Scalars("held_out/loss")] == [0, 2]


def test_the_log_goes_to_mlflow_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def start_run(**named: Any) -> Any:
        told.append(("start", named))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    module = ModuleType("mlflow")
    module.__spec__ = ModuleSpec("mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(module, "start_run", start_run, raising=False)
    monkeypatch.setattr(module, "log_metric", lambda *own, **named: told.append((*own, named)), raising=False)
    monkeypatch.setattr(module, "end_run", lambda: told.append("end"), raising=False)
    (tmp_path / "toys.run").mkdir()
    journal = Journal(tmp_path / "toys.run" / "log.jsonl", steps=1, sinks=("mlflow",))
    progress = Progress(settings={})
    journal.begin(progress)
    progress.step, progress.tokens, progress.elapsed_s = 1, 30, 2.0
    progress.losses.append((1, 1.5))
    journal.step(progress, grad_norm=0.5)
    journal.close()
    at = {"step": 1, "run_id": "r1"}
    assert told == [
        ("start", {"run_name": "toys.run", "nested": True}),
        ("step/loss", 1.5, at),
        ("step/grad_norm", 0.5, at),
        ("step/tokens", 30, at),
        ("step/tokens_per_s", 15.0, at),
        "end",
    ]


def test_a_sink_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        Journal(tmp_path / "log.jsonl", steps=1, sinks=("tensorboard",))
    assert caught.value.hint == "pip install 'ual-registry[tensorboard]'"


def test_the_line_on_a_terminal_tells_loss_speed_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: True, raising=False)
    journal = Journal(tmp_path / "log.jsonl", steps=4)
    progress = Progress(settings={})
    journal.begin(progress)
    for step in (1, 2):
        progress.step, progress.tokens, progress.elapsed_s = step, 100 * step, 0.1 * step
        progress.losses.append((step, 2.0 / step))
        journal.step(progress)
    journal.close()
    shown = capsys.readouterr().err.split("\r")[-1]
    assert "2/4" in shown
    assert "loss 1.000, 1,000 tokens/s" in shown
    assert "<" in shown  # time gone < time left


def test_nothing_is_drawn_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "log.jsonl", steps=4)
    journal.begin(Progress(settings={}))
    journal.close()
    assert capsys.readouterr() == ("", "")


def test_sigterm_is_heard_and_then_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with hearing_signals() as wish:
        assert not wish.is_heard()
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish == Wish("SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_ctrl_c_is_heard_and_the_second_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with hearing_signals() as wish:
            os.kill(os.getpid(), signal.SIGINT)
            assert wish == Wish("SIGINT")
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_stays_without_meaning_in_the_background() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hearing_signals() as wish:
            os.kill(os.getpid(), signal.SIGINT)
            assert not wish.is_heard()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("has_bfloat16", "changes", "expected"),
    [
        (True, {}, Place(device="cuda", precision="bfloat16", index=1)),
        (False, {}, Place(device="cuda", precision="float16", index=1)),
        (False, {"precision": "float32"}, Place(device="cuda", precision="float32", index=1)),
        (True, {"device": "cpu"}, Place(device="cpu", precision="float32")),
    ],
)
def test_every_process_has_a_gpu_of_its_own_and_its_precision(
    has_bfloat16: bool, changes: dict[str, Any], expected: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bfloat16)
    monkeypatch.setenv("LOCAL_RANK", "1")
    found = place_of(TrainingConfig(**changes))
    assert found == expected
    assert found.own_device == ("cpu" if found.device == "cpu" else "cuda:1")


def test_the_record_names_processor_cores_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some Processor: 9000\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4_000_000}.__getitem__)
    found = hardware.environment("cpu")
    assert {name: found[name] for name in ("processor", "cores", "memory", "device", "threads")} == {
        "processor": "Some Processor: 9000",
        "cores": "3",
        "memory": "16.4 GB",
        "device": "Some Processor: 9000",
        "threads": str(torch.get_num_threads()),
    }
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "none")
    assert hardware.environment("cpu")["processor"] == f"{platform.machine()} CPU"


def test_the_record_names_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80_000_000_000))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = hardware.environment("cuda")
    assert {name: found[name] for name in ("device", "devices", "device_memory")} == {
        "device": "Some GPU",
        "devices": "2",
        "device_memory": "80.0 GB",
    }


def test_another_thread_hears_nothing() -> None:
    found: list[bool] = []

    def listen() -> None:
        with hearing_signals() as wish:
            found.append(wish.is_heard())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_every_way_to_run_out_of_memory_is_known(error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, memory_told(config(batch_size=1, gradient_checkpointing=True)):
        raise error
    assert (caught.value.problem_code, caught.value.hint) == ("out-of-memory", "lower one: max_length 512")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError) as caught, memory_told(config()):
        raise RuntimeError("shapes differ")
    assert str(caught.value) == "shapes differ"


def test_numbers_of_the_proof() -> None:
    assert (verdict_of(1.0, 0.9), verdict_of(1.0, 1.0), verdict_of(None, 1.0)) == (
        "better",
        "no better",
        "not measured",
    )
    assert bits_per_byte(math.log(2) * 3, 4, 6) == pytest.approx(2.0)
    assert (bits_per_byte(None, 4, 6), bits_per_byte(1.0, 4, 0)) == (None, None)
    assert [time_text(own) for own in (0.04, 59.9, 60, 3600 * 5 + 59)] == ["0.0 s", "59.9 s", "1 min 0 s", "5 h 0 min"]


def test_a_picture_has_the_curves_that_there_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from ual_registry.training.plots import draw_curves, figure

    curve = ({"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0})
    alone = Statement(type="training", builder={}, byproducts={"curve": curve})
    both = Statement(type="training", builder={}, byproducts={"curve": curve, "eval_curve": curve, "best_step": 2})
    for statement, names in ((alone, ["training"]), (both, ["training", "held out", "result"])):
        (axes,) = figure(statement, title="a").axes
        assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    draw_curves(both, tmp_path / "a.png", title="a")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(StorageError):
        draw_curves(both, tmp_path / "none" / "a.png", title="a")
