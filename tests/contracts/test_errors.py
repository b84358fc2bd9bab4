"""The error tree as a contract: stable codes, documented classes, one exit code per branch."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from ual_registry import errors
from ual_registry.air.problem import Problem
from ual_registry.errors import MissingExtraError, StorageError, UALError, error_classes

CLASSES = list(error_classes())
BRANCHES = {
    "UALError": 3,
    "FormatError": 3,
    "BinderError": 4,
    "TransferError": 5,
    "TrainingError": 6,
    "RouteError": 7,
    "RegistryError": 8,
    "HubError": 9,
    "MissingExtraError": 10,
    "StorageError": 11,
}
PACKAGE = Path(errors.__file__).parent


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []
    assert [kind.__name__ for kind in CLASSES if "code" not in vars(kind)] == []


def test_every_error_is_documented_and_public() -> None:
    assert [kind.__name__ for kind in CLASSES if not (kind.__doc__ or "").strip()] == []
    assert sorted({kind.__name__ for kind in CLASSES} | {"error_classes"}) == sorted(errors.__all__)


def test_an_error_is_said_in_other_words() -> None:
    error = UALError("it is wrong", context={"path": "here"}, hint="mend it", code="finer")
    error.reword(f"{error.message} there")
    assert (error.message, str(error), error.args) == ("it is wrong there",) * 2 + (("it is wrong there",),)
    assert (error.context, error.hint, error.problem_code) == ({"path": "here"}, "mend it", "finer")


def test_every_branch_has_its_exit_code() -> None:
    branches = {kind.__name__: kind.exit_code for kind in [UALError, *UALError.__subclasses__()]}
    assert branches == BRANCHES
    for branch in UALError.__subclasses__():
        assert {kind.exit_code for kind in error_classes(branch)} == {branch.exit_code}


def test_classes_come_in_the_order_of_the_file() -> None:
    source = Path(errors.__file__).read_text()
    positions = [source.index(f"class {kind.__name__}(") for kind in CLASSES]
    assert positions == sorted(positions)


def test_every_finer_code_in_the_package_is_kebab_case() -> None:
    rooms = [
        *PACKAGE.glob("*.py"),
        *(file for room in ("air", "binders", "interop") for file in (PACKAGE / room).glob("*.py")),
    ]
    codes = {code for file in rooms for code in re.findall(r'code="([^"]*)"', file.read_text())}
    assert {"not-json", "peft-pickle", "peft-pattern", "tensor-digest"} <= codes
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_an_error_carries_message_place_hint_and_finer_code() -> None:
    error = UALError("broken", context={"tensor": "a"}, hint="mend it", code="finer")
    assert (str(error), error.message, error.context, error.hint) == ("broken", "broken", {"tensor": "a"}, "mend it")
    assert (error.code, error.problem_code, UALError("x").problem_code) == ("error", "finer", "error")


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtraError("torch", needed_for="transfer")
    assert str(error) == "transfer needs the extra 'torch', which is not installed"
    assert error.hint == "pip install 'ual-registry[torch]'"
    assert error.context == {"extra": "torch"}


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory", "check the path"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "Permission denied",
            "check the permissions of the file and its folder",
        ),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "Is a directory", "give a file, not a folder"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", None),
        (OSError("odd"), "odd", None),
    ],
)
def test_a_refusal_of_the_file_system_is_translated(error: OSError, text: str, hint: str | None) -> None:
    found = StorageError.of("write", "/a/b", error)
    assert (found.message, found.hint) == (f"cannot write /a/b: {text}", hint)


@pytest.mark.parametrize(
    ("branch", "kind"),
    [
        ("container", errors.ContainerError),
        ("schema", errors.SchemaError),
        ("rule", errors.RuleError),
        ("version", errors.UnsupportedVersionError),
        ("digest", errors.DigestMismatchError),
    ],
)
def test_a_problem_becomes_the_error_of_its_branch(branch: str, kind: type[UALError]) -> None:
    error = Problem(code="c", place="p", message="m", hint="h", branch=branch).to_error()
    assert type(error) is kind
    assert (error.message, error.problem_code, error.hint, error.context) == ("p: m", "c", "h", {"place": "p"})
