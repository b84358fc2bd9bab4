"""README and docs say what happens: their commands are run, their output is compared, their JSON is validated."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.schema import schema_problems
from ual_registry.digest import Digest

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md")), *sorted((_ROOT / "spec").rglob("*.md"))]
_PAGES += [_ROOT / "CONTRIBUTING.md", _ROOT / "CHANGELOG.md"]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _steps(block: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what they print."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(_ROOT), "UAL_HOME": str(home / "registry"), "COLUMNS": "200"}


def _matches(expected: str, got: str) -> bool:
    """Compare text in which ``...`` stands for anything within a line."""
    pattern = r"[^\n]*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got) is not None


@pytest.mark.parametrize("page", [page for page in _PAGES if _blocks(page, "console")], ids=lambda page: page.name)
def test_every_command_of_a_page_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    steps = [step for block in _blocks(page, "console") for step in _steps(block)]
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (command, done.returncode, done.stderr) == (command, 0, "")
        assert _matches(expected, done.stdout), f"$ {command}\n{done.stdout}"


def test_the_python_page_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _ROOT / "docs" / "python.md"
    (code,), (expected,) = _blocks(page, "python"), _blocks(page, "text")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(_ROOT))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), {})  # the page's own code
    assert printed.getvalue() == expected


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    code = "from docs.generate import cli_reference; print(cli_reference(), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)
    assert (_ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == done.stdout


def test_every_manifest_of_the_specification_is_legal_and_sealed() -> None:
    documents = [json.loads(block) for page in _PAGES for block in _blocks(page, "json air-manifest")]
    assert len(documents) == 1
    for document in documents:
        assert list(schema_problems("1.0/manifest.json", document, root="manifest")) == []
        sealed = document.pop("manifest_digest")
        assert sealed == str(Digest.of_bytes(canonical_bytes(document)))


def test_every_json_block_of_the_specification_is_of_a_known_kind() -> None:
    kinds = [
        info for page in _PAGES for info in re.findall(r"^```(json.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert kinds == ["json air-manifest"]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if link and not (page.parent / link).exists()] == []
