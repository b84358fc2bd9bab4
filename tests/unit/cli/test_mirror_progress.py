"""On a terminal a mirror shows how many are done, how fast, how long it will take, and what the Hub asks for."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
import tqdm

from ual_registry.cli.main import run
from ual_registry.workflows.mirror import MirrorOptions, MirrorState
from ual_registry.workflows.mirror_report import MirrorReport

STATES = {
    100.0: MirrorState(done=10, total=50, received_bytes=0, wait_s=0),  # 10 were settled before
    110.0: MirrorState(done=20, total=50, received_bytes=3_000_000, wait_s=0),
    120.0: MirrorState(done=30, total=50, received_bytes=6_000_000, wait_s=7),
    130.0: MirrorState(done=50, total=50, received_bytes=9_000_000, wait_s=0),
}
REPORT = MirrorReport(
    direction="pull",
    endpoint="https://hub.example",
    source="hf:team",
    target="registry",
    settled=(),
    left=0,
    is_interrupted=False,
    notes=(),
)


class Terminal(io.StringIO):
    """What looks like a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the bar sees, and a Hub that answers at the times of ``STATES``."""
    times = [100.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: times[0])
    monkeypatch.setattr(tqdm.std.tqdm, "monitor_interval", 0)
    monkeypatch.setenv("COLUMNS", "200")

    def mirror(_: str, *, into: str | None, options: MirrorOptions) -> MirrorReport:
        assert into is None
        for times[0], state in STATES.items():
            options.progress(state)
        return REPORT

    monkeypatch.setattr("ual_registry.cli.mirror.mirror_here", mirror)


@pytest.mark.usefixtures("clock")
def test_count_rate_time_left_and_waits_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(["mirror", "hf:team"]) == 0
    shown = [re.sub(r"\|.*?\|", "|", text.rstrip()) for text in terminal.getvalue().split("\r") if text.strip()]
    assert list(dict.fromkeys(shown)) == [
        "mirroring: 0 repositories [00:00, ? repositories/s]",
        "mirroring:  20%| 10/50 [00:00<?, ? repositories/s]",
        "mirroring:  40%| 20/50 [00:10<00:30,  1.00 repositories/s, 3 MB]",
        "mirroring:  60%| 30/50 [00:20<00:20,  1.00 repositories/s, 6 MB, waiting 7 s, as the Hub asks]",
        "mirroring: 100%| 50/50 [00:30<00:00,  1.33 repositories/s, 9 MB]",
    ]
    assert capsys.readouterr().out == "hf:team -> registry: 0 new, 0 unchanged, 0 refused\n"


@pytest.mark.usefixtures("clock")
def test_nothing_is_shown_where_nobody_looks(capsys: Any) -> None:
    assert run(["mirror", "hf:team"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("clock")
def test_nothing_is_shown_to_those_who_want_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(["mirror", "hf:team", "--quiet"]) == 0
    assert terminal.getvalue() == ""
