"""The parts that pipelines use, for real: the pre-commit hook, the action's script, a terminal, an interrupt."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.handmade import base_model, small_adapter
from tests.unit.reports.test_reports import check_sarif
from ual_registry.air.adapter import Adapter
from ual_registry.air.model import Extra
from ual_registry.air.tensor import Tensor
from ual_registry.air.write import write

ROOT = Path(__file__).parents[2]
SHIPPED = ("ual_registry", "schemas", "migrations")
UNREACHABLE = ("No matching distribution", "Could not find a version", "NewConnectionError", "Temporary failure")


def git(folder: Path, *words: str) -> str:
    plain = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *plain, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path) -> str:
    """Commit everything in a folder and return the commit."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "all")
    return git(folder, "rev-parse", "HEAD")


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "COVERAGE_", "COV_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"), "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.skipif(importlib.util.find_spec("pre_commit") is None, reason="needs pre-commit")
def test_the_hook_lets_legal_files_pass_and_stops_others(tmp_path: Path) -> None:
    hooks, work = tmp_path / "hooks", tmp_path / "work"
    hooks.mkdir()
    for name in (".pre-commit-hooks.yaml", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, hooks)
    for name in SHIPPED:
        shutil.copytree(ROOT / name, hooks / name, ignore=shutil.ignore_patterns("__pycache__"))
    revision = repository(hooks)
    work.mkdir()
    (work / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {hooks}\n  rev: {revision}\n  hooks:\n  - id: ual-validate\n    args: [--strict]\n"
    )
    write(small_adapter(), work / "good.air")
    (work / "bad.txt").write_text("no adapter")
    repository(work)

    def run() -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in environment(tmp_path).items() if key != "PYTHONPATH"}
        command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"]
        return subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False, timeout=300)

    first = run()
    if any(word in first.stdout + first.stderr for word in UNREACHABLE):
        pytest.skip("the hook's environment needs the package index, which cannot be reached")
    assert (first.returncode, first.stderr) == (0, "[INFO] Initializing environment for " + f"{hooks}.\n") or (
        first.returncode,
        first.stdout.splitlines()[-1],
    ) == (0, "validate AIR adapters....................................................Passed")

    write(small_adapter(base_model=base_model(revision=None)), work / "loose.air")
    git(work, "add", "loose.air")
    second = run()
    assert second.returncode == 1
    assert second.stdout.splitlines()[:3] == [
        "validate AIR adapters....................................................Failed",
        "- hook id: ual-validate",
        "- exit code: 3",
    ]
    assert "loose.air: 1 warning\n  warning [unpinned-base] manifest.base_model.revision:" in second.stdout
    assert "bad.txt" not in second.stdout


def test_the_hook_is_declared_whole() -> None:
    assert yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()) == [
        {
            "id": "ual-validate",
            "name": "validate AIR adapters",
            "description": "Check that every AIR file is legal, and what a policy asks of it.",
            "entry": "ual validate",
            "language": "python",
            "files": r"\.air$",
            "types": ["file"],
            "require_serial": True,
        }
    ]


ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())


def act(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's last step as a runner does: each input as the variable that the step names for it."""
    last = ACTION["runs"]["steps"][-1]
    values = {name: about["default"] for name, about in ACTION["inputs"].items()} | inputs
    variables = {key: values[text.removeprefix("${{ inputs.").removesuffix(" }}")] for key, text in last["env"].items()}
    return step(last, folder, variables)


def step(chosen: dict[str, Any], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script of a step as a runner does."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", chosen["run"]],
        cwd=folder,
        env={**environment(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_action_takes_paths_format_and_policy_and_installs_first() -> None:
    assert list(ACTION["inputs"]) == ["paths", "format", "policy", "output"]
    assert ACTION["runs"]["using"] == "composite"
    install, validate = ACTION["runs"]["steps"]
    assert (install.keys(), install["name"], install["shell"]) == ({"name", "shell", "run"}, "Install", "bash")
    assert "${{" not in install["run"] + validate["run"]
    assert set(validate["env"].values()) == {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]}


STAND_IN = {
    "stand_in.py": "def main(): print('installed')",
    "stand_in-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n",
    "stand_in-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "stand_in-1.0.dist-info/entry_points.txt": "[console_scripts]\nual = stand_in:main\n",
    "stand_in-1.0.dist-info/RECORD": "",
}
"""A wheel with the command ``ual``, which pip can install without building or fetching anything."""


def test_the_action_installs_into_an_environment_of_its_own(tmp_path: Path) -> None:
    wheel, runner, paths = tmp_path / "stand_in-1.0-py3-none-any.whl", tmp_path / "runner temp", tmp_path / "paths"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in STAND_IN.items():
            archive.writestr(name, text)
    for folder in (runner, tmp_path / "bin"):
        folder.mkdir()
    # A new environment unpacks its pip for seconds; this one gets that of the tests, by the path.
    (tmp_path / "bin/python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$1" "$2" --without-pip "$3"\n')
    (tmp_path / "bin/python3").chmod(0o755)
    given = {
        "RUNNER_TEMP": str(runner),
        "GITHUB_ACTION_PATH": str(wheel),
        "GITHUB_PATH": str(paths),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PIP_NO_INDEX": "1",
    }
    done = step(ACTION["runs"]["steps"][0], tmp_path, given)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert paths.read_text() == f"{runner}/ual/bin\n"
    command = subprocess.run([runner / "ual/bin/ual"], capture_output=True, text=True, check=True)
    assert command.stdout == "installed\n"


def test_the_action_writes_a_report_and_fails_where_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    write(small_adapter(), tmp_path / "a b" / "x.air")
    done = act(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (run,) = check_sarif(json.loads((tmp_path / "ual-report.sarif").read_text()))["runs"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == ["a%20b/x.air"]

    (tmp_path / "policy.toml").write_text('require = ["license"]')
    (tmp_path / "-x.air").write_bytes(b"x")
    done = act(tmp_path, paths="a b\n-x.air\n", format="text", policy="policy.toml", output="out.txt")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert (tmp_path / "out.txt").read_text() == (
        "a b/x.air: 1 error\n"
        "  error [policy-license] manifest.license: the policy requires a license\n"
        "      hint: convert again with --license SPDX-EXPRESSION\n"
        "-x.air: 1 error\n"
        "  error [truncated] file has 1 bytes, fewer than the 8 that hold the header's length\n"
    )


def test_no_input_of_the_action_is_a_command(tmp_path: Path) -> None:
    done = act(tmp_path, paths="$(touch made)\n`touch made`\n; touch made", policy="$(touch made)")
    assert done.returncode == 11
    assert not (tmp_path / "made").exists()


def test_colours_are_for_a_terminal(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "x.air")
    ours, theirs = pty.openpty()
    env = {key: value for key, value in environment(tmp_path).items() if key != "NO_COLOR"}
    command = [sys.executable, "-m", "ual_registry", "validate", "x.air"]
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=theirs, check=False, timeout=60)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert done.returncode == 0
    assert shown.startswith(b"x.air: \x1b[32mok\x1b[0m (AIR 1.0")
    piped = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True, timeout=60)
    assert b"\x1b" not in piped.stdout


def test_an_interrupt_ends_all_processes_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    made = small_adapter()
    large = Adapter(
        dataclasses.replace(made.manifest, extra=(*made.manifest.extra, Extra(tensor="extra.zz", name="zz"))),
        {**made.tensors, "extra.zz": Tensor.of_bytes("U8", (2**26,), bytes(2**26))},
    )
    write(large, tmp_path / "many" / "0.air")
    for number in range(1, 600):
        os.link(tmp_path / "many" / "0.air", tmp_path / "many" / f"{number}.air")  # 40 GB to hash
    command = [sys.executable, "-m", "ual_registry", "validate", "many", "--jobs", "2"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    if not children.exists():
        running.kill()
        pytest.skip("needs Linux to see when the processes run")
    limit_s = time.monotonic() + 30
    while len(children.read_text().split()) < 2 and time.monotonic() < limit_s:
        time.sleep(0.02)
    time.sleep(0.2)  # until they have taken their first files
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err.strip()) == (130, "", "interrupted")


def test_a_list_of_paths_comes_from_another_command(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "a b.air")
    line = f"find . -name '*.air' -print0 | '{sys.executable}' -m ual_registry validate - --format json"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert [file["path"] for file in json.loads(done.stdout)["files"]] == ["./a b.air"]
