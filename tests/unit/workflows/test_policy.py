"""Policy files: what they may hold, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ual_registry.air.policy import Policy
from ual_registry.errors import FormatError, StorageError
from ual_registry.workflows.policy import load_policy

WHOLE = """
require = ["pinned-base", "license", "lineage", "evaluation"]
strict = true
allowed_licenses = ["MIT", "Apache-2.0"]
allowed_base_models = ["meta-llama/*"]
max_size_bytes = 200_000_000
"""


def test_a_whole_file_becomes_a_policy(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(WHOLE)
    assert load_policy(tmp_path / "policy.toml") == Policy(
        require=("pinned-base", "license", "lineage", "evaluation"),
        strict=True,
        allowed_licenses=("MIT", "Apache-2.0"),
        allowed_base_models=("meta-llama/*",),
        max_size_bytes=200_000_000,
    )


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").touch()
    assert load_policy(str(tmp_path / "policy.toml")) == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML in UTF-8: Expected '=' after a key in a key/value pair (at end of document)"),
        ("licence = 1", "unknown key 'licence'"),
        ("require = 1", "require: expected a list of pinned-base, license, lineage, evaluation, got 1"),
        ("require = ['x']", "require: expected a list of pinned-base, license, lineage, evaluation, got ['x']"),
        ("strict = 1", "strict: expected true or false, got 1"),
        ("allowed_licenses = 'MIT'", "allowed_licenses: expected a list of SPDX identifiers, got 'MIT'"),
        ("allowed_licenses = ['']", "allowed_licenses: expected a list of SPDX identifiers, got ['']"),
        ("allowed_base_models = [1]", "allowed_base_models: expected a list of ids or config digests, got [1]"),
        ("max_size_bytes = -1", "max_size_bytes: expected a whole number of bytes, got -1"),
        ("max_size_bytes = true", "max_size_bytes: expected a whole number of bytes, got True"),
        ("max_size_bytes = 1.5", "max_size_bytes: expected a whole number of bytes, got 1.5"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_known(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        load_policy(path)
    error = caught.value
    assert (error.message, error.problem_code, error.context) == (
        f"{path}: {message}",
        "policy-file",
        {"path": str(path)},
    )
    assert error.hint == "known: require, strict, allowed_licenses, allowed_base_models, max_size_bytes"


def test_zero_bytes_are_a_limit(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("max_size_bytes = 0")
    assert load_policy(tmp_path / "policy.toml") == Policy(max_size_bytes=0)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="not TOML in UTF-8: 'utf-8' codec can't decode"):
        load_policy(tmp_path / "policy.toml")


def test_a_file_that_is_missing_or_far_too_large_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "policy.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(StorageError, match="over the limit of 1000000 bytes"):
        load_policy(tmp_path / "policy.toml")
