"""Write the table of ``docs/binders.md`` from what the proofs say when they are run.

python -m docs.binders
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from ual_registry.binders.load import binder_for, known_model_types

__all__ = ["BEGIN", "END", "INFERENCE", "PAGE", "rows_of"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "binders.md"
BEGIN, END = "<!-- begin: written by python -m docs.binders -->", "<!-- end -->"
INFERENCE = "test_an_inferred_binder_says_what_the_one_written_by_hand_says"


class Outcomes:
    """Counts the proofs of every model type that passed and that did not, and notes what inference said."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.inferred: dict[str, str] = {}

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Count one test, when it was called."""
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if call.when != "call" or case is None:
            return
        outcome = "failed" if call.excinfo else "passed"
        if item.originalname == INFERENCE:
            different = item.module.DIFFERENT.get(case.model_type, [])
            self.inferred[case.model_type] = "failed" if call.excinfo else ", ".join(different) or "the same"
        else:
            self.counts[case.model_type][outcome] += 1


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the table between the marks of a page."""
    lines = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| `")]


def _table(outcomes: Outcomes) -> str:
    lines = ["| model type | binder | proofs passed | inference says |", "|---|---|---|---|"]
    for name in known_model_types():
        counts = outcomes.counts[name]
        passed = f"{counts['passed']} of {counts.total()}"
        lines.append(
            f"| `{name}` | `{binder_for(name).architecture}` | {passed} | {outcomes.inferred.get(name, '-')} |"
        )
    same = sum(said == "the same" for said in outcomes.inferred.values())
    total = sum(counts.total() for counts in outcomes.counts.values())
    summary = (
        f"{len(known_model_types())} model types, {total} proofs; unaided, inference finds the same binder for {same}."
    )
    return "\n".join([*lines, "", summary])


def main() -> int:
    """Run every proof and write what came out."""
    outcomes = Outcomes()
    code = pytest.main(
        ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--no-cov", "tests/proof"], plugins=[outcomes]
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{_table(outcomes)}\n{END}{after}", encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
