"""Bytes that the disk gets while more of them come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ual_registry.registry.flushing import EarlyFlush

PARTS: list[bytes | memoryview] = [b"one", memoryview(b"two and three"), b"", bytes(3_000_000), b"end", bytes(1 << 20)]


def test_parts_of_a_megabyte_are_handed_to_the_disk_when_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bytes, int]] = []

    def note(number: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        asked.append((os.pread(number, length, start), start))

    monkeypatch.setattr(os, "posix_fadvise", note)
    path = tmp_path / "file"
    with path.open("w+b") as stream:
        writer = EarlyFlush(stream)
        counts = [writer.write(part) for part in PARTS]
    assert counts == [3, 13, 0, 3_000_000, 3, 1 << 20]
    assert asked == [(b"".join(PARTS[:4]), 0), (b"".join(PARTS[4:]), 3_000_016)]
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
