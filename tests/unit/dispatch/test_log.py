from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.dispatch.clouds import AXES, cloud, fitted
from ual_registry.dispatch.change import remove_domain
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.dispatch.log import DecisionLog, LoggedDecision, measure_drift, read_log, replay
from ual_registry.errors import RouteError, StorageError


def test_a_log_is_replayed_against_another_router(tmp_path: Path) -> None:
    router = fitted().router
    queries = cloud(AXES["banking"] + AXES["travel"], 20, 4)
    log = DecisionLog(tmp_path / "log.jsonl")
    for place, decision in enumerate(router.route(queries)):
        log.write(f"q{place}", decision, at="2026-01-01T00:00:00Z")
    logged = read_log(tmp_path / "log.jsonl")
    assert [row.query for row in logged] == [f"q{place}" for place in range(20)]
    assert replay(logged, router.route(queries)) == []
    changed = replay(logged, remove_domain(router, "travel").route(queries))
    assert {change.before.domain for change in changed} == {"travel"}
    assert {change.after.domain for change in changed} <= {"banking", "work"}


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    router = fitted().router
    (decision,) = router.route(cloud(AXES["work"], 1, 4))
    log = DecisionLog(tmp_path / "log.jsonl")
    threads = [
        threading.Thread(target=lambda own=own: [log.write(f"{own}-{place}", decision) for place in range(50)])
        for own in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(row.query for row in read_log(tmp_path / "log.jsonl"))
    assert found == sorted(f"{own}-{place}" for own in range(8) for place in range(50))


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "a", "domain": null, "adapter": "x", "reason": "forced"}\n{"query": "b", "dom')
    assert read_log(path) == [
        LoggedDecision(query="a", domain=None, adapter="x", reason="forced", probability=None, distance=None)
    ]


LINE = '{"query": "a", "domain": null, "adapter": "x", "reason": "forced"}'
LOGGED = LoggedDecision(query="a", domain=None, adapter="x", reason="forced", probability=None, distance=None)


@pytest.mark.parametrize("text", [LINE, f"{LINE}\r\n", f"\ufeff{LINE}\n", f"\n{LINE}\n  \n"])
def test_a_log_that_an_editor_saved_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text, newline="")
    assert read_log(path) == [LOGGED]
    DecisionLog(path).write("z", Decision(reason=Reason.FORCED, domain=None, adapter="x"))
    assert [row.query for row in read_log(path)] == ["a", "z"]


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        '{"query": "b", "dom',
        '{"query": "b", "domain": {"a": 1}, "adapter": "x", "reason": "ok"}',
        '{"query": "b", "domain": "a", "adapter": 5, "reason": "ok"}',
        '{"query": 3, "domain": "a", "adapter": "x", "reason": "ok"}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": null}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": "ok", "nearest": [1]}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": "ok", "nearest": {"distance": "far"}}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": "ok", "nearest": {"distance": NaN}}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": "ok", "probability": true}',
        '{"query": "b", "domain": "a", "adapter": "x", "reason": "ok", "probability": 1' + "0" * 400 + "}",
    ],
)
def test_a_line_that_is_no_decision_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f"{LINE}\n{line}\n{LINE}\n")
    with pytest.raises(RouteError) as caught:
        read_log(path)
    assert caught.value.message == f"{path}: line 2: is no decision"
    assert caught.value.hint == "a log is what 'ual route --log' writes; remove a line that was cut off"


@pytest.mark.parametrize("content", [b"\x80\x00\x00 a router", b'{"text": "where", "domain": "banking"}\n'])
def test_nothing_is_appended_to_a_file_that_is_no_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(RouteError) as caught:
        DecisionLog(path)
    assert caught.value.message == f"{path}: line 1: is no decision"
    assert path.read_bytes() == content


@pytest.mark.parametrize("text", [LINE, f'{LINE}\n{{"query": "lost", "dom', f'{LINE}\n{{"query": "lost", "dom\u00e4'])
def test_a_log_that_was_cut_off_goes_on_with_a_line_of_its_own(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(text.encode()[: -1 if text.endswith("\u00e4") else None])
    forced = Decision(reason=Reason.FORCED, domain=None, adapter="x")
    DecisionLog(path).write("b", forced)
    DecisionLog(path).write("c", forced)
    assert [row.query for row in read_log(path)] == ["a", "b", "c"]


def test_a_log_that_cannot_be_written_is_told_before_there_is_a_decision(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        DecisionLog(tmp_path / "none" / "log.jsonl")
    assert caught.value.message == f"cannot write {tmp_path / 'none' / 'log.jsonl'}: No such file or directory"


def rows(count: int, distance: float, domain: str, adapter: str | None) -> list[LoggedDecision]:
    return [
        LoggedDecision(
            query=str(place),
            domain=domain,
            adapter=adapter,
            reason="ok" if adapter else "out_of_scope",
            probability=0.9,
            distance=distance + place / 1000,
        )
        for place in range(count)
    ]


def test_drift_of_traffic_is_measured() -> None:
    before = rows(30, 0.2, "a", "x") + rows(10, 0.2, "b", None)
    same = measure_drift(before, before)
    assert (same.distance_p, same.domains_p, same.has_drifted) == (1.0, 1.0, False)
    moved = measure_drift(before, rows(40, 0.6, "b", None))
    assert moved.has_drifted
    assert (moved.before, moved.after) == (40, 40)
    assert moved.domains == {"a": (0.75, 0.0), "b": (0.25, 1.0)}
    assert moved.abstained == (0.25, 1.0)


def test_traffic_that_asks_of_other_domains_has_drifted_though_none_is_far_away() -> None:
    before, after = rows(40, 0.2, "a", "x"), rows(40, 0.2, "b", "x")
    moved = measure_drift(before, after)
    assert (moved.distance_p, moved.has_drifted) == (1.0, True)
    # Chi-squared with Yates' correction of 40 and 0 beside 0 and 40: 80 * (40 * 40 - 40) ** 2 / 40 ** 4 = 76.05.
    assert moved.domains_p == pytest.approx(2.77e-18, rel=0.01)


def test_domains_that_are_seldom_asked_for_are_taken_together() -> None:
    often = rows(40, 0.2, "a", "x")
    before = often + [rows(1, 0.2, f"b{place}", "x")[0] for place in range(5)]
    after = often + [rows(1, 0.2, f"c{place}", "x")[0] for place in range(5)]
    found = measure_drift(before, after)
    assert (found.domains_p, found.has_drifted) == (1.0, False)
    assert measure_drift(often, often).domains_p == 1.0


def test_a_domain_that_the_base_model_answers_is_no_abstention() -> None:
    own = [replace(row, reason="no_adapter") for row in rows(30, 0.2, "a", None)]
    assert measure_drift(own, [replace(row, reason="ambiguous") for row in own]).abstained == (0.0, 1.0)


def test_little_traffic_says_nothing_about_drift() -> None:
    with pytest.raises(RouteError, match="40 older and 3 newer decisions, expected at least 20 of each"):
        measure_drift(rows(40, 0.2, "a", "x"), rows(3, 0.2, "a", "x"))
