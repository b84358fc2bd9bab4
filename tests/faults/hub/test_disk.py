"""A disk that is full while an adapter comes: it is told, nothing is left, and with room the same command works."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Scene

FULL = "No space left on device"


def fill_while_fetching(patch: pytest.MonkeyPatch) -> None:
    """Let half of what comes be written, by either transport, and no more."""

    def take(self: Any, parts: list[bytes]) -> None:
        data = b"".join(parts)
        self._stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, FULL)

    def fetch(_: Any, __: Any, file: Any, path: Path, **___: Any) -> None:
        path.write_bytes(b"x" * (file.size_bytes // 2))
        raise RuntimeError(f"I/O error: {FULL} (os error {errno.ENOSPC})")  # as its library says it

    patch.setattr("ual_registry.hub.incoming.Incoming._take", take)
    patch.setattr("ual_registry.hub.xet.XetStore.fetch", fetch)


def fill_while_storing(patch: pytest.MonkeyPatch) -> None:
    """Let the registry's store run full when what it took in is to lie on the disk."""

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, FULL)

    patch.setattr("ual_registry.registry.blobs.os", _Os(fsync))


class _Os:
    """The module ``os`` but for ``fsync``."""

    def __init__(self, fsync: Any) -> None:
        self.fsync = fsync

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@pytest.mark.parametrize("fill", [fill_while_fetching, fill_while_storing])
@pytest.mark.parametrize("is_pair", [False, True], ids=["air", "pair"])
def test_a_full_disk_leaves_nothing_and_the_same_command_works_with_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fill: Any, is_pair: bool
) -> None:
    commit = scene.fill_pair() if is_pair else scene.fill()
    before = scene.there()
    with monkeypatch.context() as patch:
        fill(patch)
        result = scene.run("pull", REPOSITORY)
    assert (result.code, result.error["code"]) == (11, "storage")
    if fill is fill_while_fetching:
        path = "adapter_model.safetensors" if is_pair else "adapter.air"
        address = f"hf:{REPOSITORY}@{commit}:{path}"
        assert result.error["message"] == f"cannot read {address}: no space left on the disk"
    else:
        assert result.error["message"].startswith("cannot write ")
        assert result.error["message"].endswith(f": {FULL}")
    assert (scene.here(), scene.there()) == (NOTHING, before)
    assert scene.run("pull", REPOSITORY).code == 0
    here = scene.here()
    assert here == Here(revisions=here.revisions, links=here.links, blobs=here.blobs)
    assert [(name, number) for name, number, _ in here.revisions] == [("medical", 1)]
    assert [link[1:] for link in here.links] == [
        (commit, "adapter_model.safetensors" if is_pair else "adapter.air", "pull")
    ]
