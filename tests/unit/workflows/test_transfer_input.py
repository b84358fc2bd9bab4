"""Budgets and calibration texts: what can be read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ual_registry.errors import FormatError, TransferError
from ual_registry.workflows.transfer_order import TransferOrder, seconds_of
from ual_registry.workflows.transfer_text import read_texts


@pytest.mark.parametrize("seconds", [1 / 3, 1e-5, 600.12345, 1e10, 7])
def test_a_budget_that_is_a_number_is_seconds(seconds: float) -> None:
    assert seconds_of(seconds) == seconds


@pytest.mark.parametrize("budget", [0, -1, float("inf"), float("nan"), "1e-5", ""])
def test_a_budget_is_above_nothing(budget: str | float) -> None:
    with pytest.raises(TransferError) as caught:
        seconds_of(budget)
    assert caught.value.message == f"budget {str(budget)!r}: expected a number above 0 and s, m or h"


def test_only_known_baselines_are_opened() -> None:
    order = TransferOrder(target="new", data="items.jsonl", baselines={"native": "a.air", "best": "b.air"})
    with pytest.raises(TransferError) as caught:
        order.check()
    assert caught.value.message == "baseline 'best': expected one of native, wrong-task"


def test_half_a_surrogate_pair_is_no_calibration_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n{"text": "\\ud800"}\n', encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        read_texts(path)
    assert caught.value.message == (
        f"{path}, line 2: text: expected a text, got half a surrogate pair, which has no bytes"
    )
