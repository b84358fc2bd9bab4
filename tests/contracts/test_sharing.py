"""Tests that share what takes long to make are handed out together, all others alone."""

from __future__ import annotations

from tests.sharing import group_of

GROUPS = {
    "tests/proof/test_modules.py::test_a[phi3-Phi3Model]": "tests/proof/phi3",
    "tests/proof/test_rotary.py::test_b[phi3]": "tests/proof/phi3",
    "tests/proof/test_rotary.py::test_b[phi3+every_head]": "tests/proof/phi3+every_head",
    "tests/unit/test_remote.py::test_c[x]": "tests/unit/test_remote.py",
    "tests/unit/air/test_names.py::test_d[a-b]": "tests/unit/air/test_names.py::test_d[a-b]",
    "tests/unit/air/test_none.py::test_e": "tests/unit/air/test_none.py::test_e",
}


def test_a_case_of_the_proof_and_a_file_that_makes_something_once_are_groups() -> None:
    assert {name: group_of(name) for name in GROUPS} == GROUPS
