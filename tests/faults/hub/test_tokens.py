"""The token goes to the Hub alone: not to where bytes are kept, not into a log, not into a file, not into a message."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hub.scene import REPOSITORY, Scene
from tests.hub_server.server import READ_TOKEN, TOKEN

SIGNED = re.compile(r"(?:Signature|X-Amz-[A-Za-z]+|sig)=")


def assert_only_the_hub_saw_it(scene: Scene) -> None:
    """The Hub got the token with every request, and no other origin got it."""
    for exchange in scene.site.log:
        sent = exchange.headers.get("authorization", "")
        if exchange.origin == "hub":
            assert sent in (f"Bearer {TOKEN}", ""), str(exchange)
        else:
            assert TOKEN not in sent, str(exchange)
        assert TOKEN not in exchange.path
    assert {exchange.origin for exchange in scene.site.log} > {"hub"}
    changes = scene.site.log.of("commit", "create-repo", "preupload", "model-info", "lfs-batch", "xet-write-token")
    assert {exchange.headers["authorization"] for exchange in changes} == {f"Bearer {TOKEN}"}


def holding(token: str, *folders: Path) -> list[str]:
    """Name the files that hold a token."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if token.encode() in path.read_bytes()]


@pytest.mark.parametrize("fault", ["none", "cut", "503", "flip"])
def test_no_token_leaves_the_way_to_the_hub(
    scene: Scene, home: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, fault: str
) -> None:
    caplog.set_level(logging.DEBUG)
    scene.register()
    faults: dict[str, dict[str, Any]] = {"cut": {"cut": True}, "503": {"status": 503}, "flip": {"flip": 100}}
    for endpoint in (scene.site.upload_endpoint, scene.site.body_endpoint) if fault != "none" else ():
        if fault != "flip" or endpoint == scene.site.body_endpoint:
            scene.site.faults.add(endpoint, **faults[fault])
    said = [scene.run("push", "t", REPOSITORY, "--tag", "v1", "-v")]
    assert_only_the_hub_saw_it(scene)
    scene.site.clear_log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UAL_HOME", str(tmp_path / "other home"))
        said.append(scene.run("pull", REPOSITORY, "-v"))
        said.append(scene.run("show", f"hf:{REPOSITORY}", "-v"))
    assert_only_the_hub_saw_it(scene)
    assert [result.code for result in said] == [0, 0, 0]
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert TOKEN not in logged
    assert holding(TOKEN, home, tmp_path / "other home", scene.scratch, scene.env.home) == []


def test_no_token_is_in_what_an_error_says(scene: Scene, home: Path) -> None:
    """A server may put the token, and addresses with signatures, into its words; they are taken out."""
    scene.fill()
    words = f"no access for Bearer {TOKEN} at https://cdn.example/x?Signature=secret&token={TOKEN}"
    scene.site.faults.add("model-info", status=403, times=None, headers={"X-Error-Message": words})
    result = scene.run("pull", REPOSITORY)  # looks for tokens itself
    assert (result.code, result.error["code"]) == (9, "hub-access")
    assert "secret" not in result.out + result.err
    assert holding(TOKEN, home) == []


def test_a_process_with_debug_logs_does_not_tell_the_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_VERBOSITY", "debug")
    scene.fill()
    scene.site.faults.add("model-info", status=503)
    result = scene.end(scene.start("pull", REPOSITORY, "-v"))
    assert result.code == 0, result.err
    assert not SIGNED.search(result.err)
    assert holding(TOKEN, Path(os.environ["UAL_HOME"])) == []


def test_the_token_of_a_stored_login_is_used_and_not_copied(
    scene: Scene, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (scene.env.home / "token").write_text(READ_TOKEN)
    commit = scene.site.put(REPOSITORY, {"adapter.air": scene.material.air}, private=True)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, result.document["commit"]) == (0, commit)
    assert holding(READ_TOKEN, home, scene.scratch) == []
    (scene.env.home / "token").unlink()
    assert scene.here().left == ()
