"""The part of the benchmark that sets a dry run beside the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training_estimate import dry, real
from tests.unit.training.tiny import save_base, texts
from ual_registry.training.examples import write_examples


@pytest.mark.filterwarnings("ignore")
def test_a_dry_run_and_the_run_go_through_as_many_steps(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama")
    write_examples(tmp_path / "data.jsonl", texts(40))
    found = [way(tmp_path / "data.jsonl", base) for way in (dry, real)]
    assert [own["steps"] for own in found] == [3, 3]
    assert all(own["seconds"] > 0 for own in found)
    assert found[0]["memory"] > 0
