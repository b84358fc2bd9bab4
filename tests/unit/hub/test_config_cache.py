"""Configs of base models that are kept: by place and commit, believed only while they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from ual_registry.hub.config_cache import ConfigCache

HUB, COMMIT = "https://hub.example", "a" * 40


def test_what_was_kept_is_found_again_by_hub_repository_and_commit(tmp_path: Path) -> None:
    cache = ConfigCache(folder=tmp_path / "made" / "here")
    cache.put(HUB, "org/base", COMMIT, b'{"a":1}\n')
    assert cache.get(HUB, "org/base", COMMIT) == b'{"a":1}\n'
    others = [("https://other", "org/base", COMMIT), (HUB, "org/other", COMMIT), (HUB, "org/base", "b" * 40)]
    assert [cache.get(*place) for place in others] == [None, None, None]
    assert [path.suffix for path in cache.folder.iterdir()] == [".config"]


@pytest.mark.parametrize("damage", [b"", b"\n", b"x", b'0\n{"a":2}'])
def test_what_was_damaged_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    cache = ConfigCache(folder=tmp_path)
    cache.put(HUB, "org/base", COMMIT, b"{}")
    next(tmp_path.iterdir()).write_bytes(damage)
    assert cache.get(HUB, "org/base", COMMIT) is None


def test_one_flipped_byte_is_damage(tmp_path: Path) -> None:
    cache = ConfigCache(folder=tmp_path)
    cache.put(HUB, "org/base", COMMIT, b'{"a":1}')
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes().replace(b"1}", b"2}"))
    assert cache.get(HUB, "org/base", COMMIT) is None


def test_a_very_large_config_is_not_kept(tmp_path: Path) -> None:
    cache = ConfigCache(folder=tmp_path)
    cache.put(HUB, "org/base", COMMIT, b" " * ((1 << 20) + 1))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ConfigCache(folder=tmp_path / "file")
    cache.put(HUB, "org/base", COMMIT, b"{}")
    assert cache.get(HUB, "org/base", COMMIT) is None


def test_by_default_it_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: f"/caches/{name}")
    assert ConfigCache().folder == Path("/caches/ual-registry/configs")
