"""A crew does every job once, tells what went wrong, and stops when it is told."""

from __future__ import annotations

import threading

import pytest

from ual_registry.workflows.mirror_crew import Crew


@pytest.mark.parametrize("size", [1, 3, 20])
def test_every_job_is_done_once(size: int) -> None:
    ended: list[int] = []
    crew: Crew[int, int] = Crew(lambda job: job * job, size=size, end=lambda: ended.append(1))
    assert sorted(result for result in crew.run(range(10)) if result is not None) == [job * job for job in range(10)]
    assert ended == [1]


def test_never_more_work_at_once_than_was_told() -> None:
    lock, at_once, most = threading.Lock(), [0], [0]

    def work(_: int) -> bool:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.005)
        with lock:
            at_once[0] -= 1
        return True

    crew = Crew(work, size=3, end=lambda: None)
    assert sum(result or False for result in crew.run(range(30))) == 30
    assert most == [3]


def test_an_exception_ends_it_and_is_told() -> None:
    def work(job: int) -> int:
        if job == 2:
            raise ValueError("a bug")
        return job

    found = []
    crew = Crew(work, size=1, end=lambda: None)
    with pytest.raises(ValueError, match="a bug"):
        found += list(crew.run(range(1000)))


def test_stopped_it_begins_no_further_job_and_lets_go_of_those_that_wait() -> None:
    go_on = threading.Event()
    begun: list[int] = []

    def work(job: int) -> int:
        begun.append(job)
        if job:
            go_on.wait(10)
        return job

    crew = Crew(work, size=1, end=go_on.set)
    found = []
    for result in crew.run(range(9)):
        if result is not None:
            found.append(result)
            crew.stop()
    assert found in ([0], [0, 1])  # the second may have been begun
    assert begun == [*range(len(found))]


def test_an_interrupt_stops_it_and_what_is_done_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    crew: Crew[int, int] = Crew(lambda job: job, size=1, end=lambda: None)
    calls = []
    original = crew._next

    def interrupted_once() -> int | None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original()

    monkeypatch.setattr(crew, "_next", interrupted_once)
    found = [result for result in crew.run(range(5)) if result is not None]
    assert crew.is_interrupted
    assert found == [*range(len(found))]


def test_a_second_interrupt_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    crew: Crew[int, bool] = Crew(lambda _: threading.Event().wait(0.2), size=1, end=lambda: None)

    def interrupted() -> bool | None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(crew.run(range(3)))
