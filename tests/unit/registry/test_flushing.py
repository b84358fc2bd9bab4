"""Bytes that the disk gets while more of them come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ual_registry.registry.flushing import EarlyFlush

PARTS: list[bytes | memoryview] = [b"one", memoryview(b"two and three"), b"", bytes(3_000_000), b"end"]


def test_each_part_is_handed_to_the_disk_when_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, int, int]] = []

    def note(number: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        asked.append((os.pread(number, length, start), start, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    path = tmp_path / "file"
    with path.open("w+b") as stream:
        counts = [EarlyFlush(stream).write(part) for part in PARTS]
    starts = [0, 3, 16, 16, 3_000_016]
    assert counts == [3, 13, 0, 3_000_000, 3]
    assert asked == [(bytes(part), start, len(part)) for part, start in zip(PARTS, starts, strict=True) if part]
    assert path.read_bytes() == b"".join(PARTS)


@pytest.mark.parametrize("is_asked", [True, False])
def test_the_bytes_are_those_that_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_asked: bool
) -> None:
    if not is_asked:
        monkeypatch.delattr(os, "posix_fadvise", raising=False)
    path = tmp_path / "file"
    with path.open("xb") as stream:
        writer = EarlyFlush(stream)
        for part in PARTS:
            writer.write(part)
    assert path.read_bytes() == b"".join(PARTS)
