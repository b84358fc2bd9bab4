"""The server by itself: names as git gives them, and the command that runs it by hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server.git import blob_id, commit_id, folder_ids

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not here")
def test_names_are_those_that_git_gives(tmp_path: Path) -> None:
    who = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "me", f"GIT_{role}_EMAIL": "me@users.noreply.huggingface.co"}

    def git(*words: str) -> str:
        environment = {**os.environ, **who, "HOME": str(tmp_path)}
        return subprocess.run(
            ["git", *words], cwd=tmp_path / "work", env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    files = {"a/b/c.txt": b"1", "a/d.txt": b"2", "a.txt": b"", "a0": b"3"}
    for path, content in files.items():
        (tmp_path / "work" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / path).write_bytes(content)
    git("init", "--quiet")
    git("add", ".")
    tree = git("write-tree")
    blobs = {path: blob_id(content) for path, content in files.items()}
    folders = folder_ids(blobs)
    first = commit_id(tree=tree, parent=None, author="me", seconds=1_700_000_000, message="one\n")
    second = commit_id(tree=tree, parent=first, author="me", seconds=1_700_000_000, message="two\n\nmore\n")

    assert git("commit-tree", tree, "-m", "one") == first
    assert git("commit-tree", tree, "-p", first, "-m", "two", "-m", "more") == second
    assert folders == {
        "": tree,
        "a": git("rev-parse", f"{tree}:a"),
        "a/b": git("rev-parse", f"{tree}:a/b"),
    }
    assert {path: git("hash-object", path) for path in files} == blobs


def _started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hub_server", *words],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("words", [(), ("--no-xet",)])
def test_the_command_says_what_to_set_and_runs_until_it_is_interrupted(words: tuple[str, ...]) -> None:
    with _started("--port", "0", *words) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(8 if words else 7))
        endpoint, token = (match for match in re.findall(r"^export HF_(?:ENDPOINT|TOKEN)=(.*)$", told, re.MULTILINE))
        found = _whoami(endpoint, token)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    plain = "export HF_HUB_DISABLE_XET=1\n" if words else ""
    assert told + rest == (
        "A Hub runs on this machine. Where a client is to find it, set:\n\n"
        f"export HF_ENDPOINT={endpoint}\nexport HF_TOKEN=hf_loopbackWriteToken\n{plain}\n"
        "You are `tester` and may write to `tester/...` and `team/...`.\n"
        "Ctrl+C ends it; what was pushed is then gone.\n"
    )
    assert (found, process.returncode, errors) == ("tester", 0, "")


def _whoami(endpoint: str, token: str) -> str:
    """Ask who one is, in a process that is allowed to go out."""
    code = "from huggingface_hub import HfApi; print(HfApi().whoami()['name'])"
    told = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    environment = {**os.environ, **told}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def test_the_command_says_that_a_port_is_taken() -> None:
    with _started("--port", "0") as first:
        assert first.stdout is not None
        told = "".join(first.stdout.readline() for _ in range(3))
        port = told.strip().rpartition(":")[2]
        with _started("--port", port) as second:
            out, errors = second.communicate(timeout=30)
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    expected = f"cannot listen on port {port} (Address already in use); --port 0 takes any\n"
    assert (second.returncode, out, errors, first.returncode) == (1, "", expected, 0)
