"""``docs/errors.md`` lists every error class and every finer code that the package raises, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ual_registry.errors import error_classes

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = (_ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def _section(title: str) -> list[list[str]]:
    text = _PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows[2:] if not row[0].startswith("**")]


def _codes(path: Path) -> Iterator[str]:
    """Yield every text in a source file that is given as a code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name == "_fault":  # a helper of more than one module; the code comes first
            given.append(node.args[0])
        if name == "_check_ref" and path.name == "target.py":
            given.append(node.args[2])
        if name == "_refusal" and path.name == "to_peft.py":
            given.append(node.args[1])
        yield from (item.value for item in given if isinstance(item, ast.Constant) and isinstance(item.value, str))


def test_the_page_lists_every_class_with_its_code_and_exit_code() -> None:
    assert _section("Classes") == [[kind.__name__, kind.code, str(kind.exit_code)] for kind in error_classes()]


def test_the_page_lists_every_finer_code_and_no_other() -> None:
    raised = {code for path in (_ROOT / "ual_registry").rglob("*.py") for code in _codes(path)}
    own = {kind.code for kind in error_classes()}
    assert sorted(row[0] for row in _section("Finer codes")) == sorted(raised - own)


def test_every_exit_code_of_the_tree_is_explained() -> None:
    explained = {int(row[0]) for row in _section("Exit codes")}
    assert explained == {0, 1, 2, 130, 143} | {kind.exit_code for kind in error_classes()}
