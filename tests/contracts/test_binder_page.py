"""The page about binders lists what there is, and what the proofs said."""

from __future__ import annotations

import json
import re

import pytest

from docs.binders import PAGE, rows_of
from ual_registry.binders.load import INDEX, binder_for, known_model_types


def test_the_table_lists_every_model_type_with_its_binder() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    names = known_model_types()
    assert [row[:2] for row in rows] == [[f"`{name}`", f"`{binder_for(name).architecture}`"] for name in names]


def test_every_proof_of_the_table_passed() -> None:
    for name, _, proofs, _ in rows_of(PAGE.read_text(encoding="utf-8")):
        passed, total = re.fullmatch(r"(\d+) of (\d+)", proofs).groups()
        assert (name, passed) == (name, total)
        assert int(total) > 10


@pytest.mark.filterwarnings("ignore")
def test_what_the_table_says_of_inference_is_what_its_test_expects() -> None:
    from tests.proof.test_inference import DIFFERENT, PLAIN

    said = {row[0].strip("`"): row[3] for row in rows_of(PAGE.read_text(encoding="utf-8"))}
    assert said == {case.model_type: ", ".join(DIFFERENT.get(case.model_type, [])) or "the same" for case in PLAIN}


def test_the_worked_example_of_the_guide_is_the_shipped_one() -> None:
    guide = (PAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (example,) = re.findall(r'^```text\n("mistral".*?)^```', guide, re.MULTILINE | re.DOTALL)
    shipped = json.loads((INDEX.parent / "data" / "llama.json").read_text(encoding="utf-8"))
    assert json.loads(f"{{{example}}}") == {"mistral": shipped["model_types"]["mistral"]}
