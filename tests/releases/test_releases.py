"""Artifacts written by every release are kept as test inputs; each must be read for as long as its major is.

A release adds a folder of its own with a few tiny files that it wrote, and never touches an older one. ``digests.json``
holds the digest of each file, ``schemas.json`` that of each schema of the format: what was released does not change.
Where a test here fails, the change is wrong, never the list.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ual_registry.air.read import read, verify
from ual_registry.air.schema import schema_names
from ual_registry.air.validate import validate_file
from ual_registry.digest import Digest
from ual_registry.errors import RuleError

_HERE = Path(__file__).resolve().parent
_RELEASES = sorted(path.parent for path in _HERE.glob("*/digests.json"))
_FILES = [path for release in _RELEASES for path in sorted(release.glob("*.air"))]


def _digests(release: Path) -> dict[str, str]:
    document: dict[str, str] = json.loads((release / "digests.json").read_text(encoding="utf-8"))
    return document


def _name(path: Path) -> str:
    return path.relative_to(_HERE).as_posix()


def test_every_release_keeps_the_files_that_it_lists() -> None:
    assert [release.name for release in _RELEASES] == ["1.0"]
    for release in _RELEASES:
        kept = [*_digests(release), "digests.json", "schemas.json"]
        assert sorted(path.name for path in release.iterdir()) == sorted(kept)


@pytest.mark.parametrize("release", _RELEASES, ids=_name)
def test_the_schemas_of_a_release_never_change(release: Path) -> None:
    listed = json.loads((release / "schemas.json").read_text(encoding="utf-8"))
    folder = _HERE.parents[1] / "schemas"
    assert {name: str(Digest.of_file(folder / name)) for name in listed} == listed
    of_format = {name for name in schema_names() if name.count("/") == 1} - {"1.0/registry-export.json"}
    assert {name for name in of_format if name.startswith(f"{release.name}/")} == listed.keys()


@pytest.mark.parametrize("path", _FILES, ids=_name)
def test_a_file_of_a_release_has_its_digest_and_is_legal(path: Path) -> None:
    report = validate_file(path)
    assert (str(Digest.of_file(path)), report.problems) == (_digests(path.parent)[path.name], ())
    assert report.facts["air_version"] == path.parent.name


@pytest.mark.parametrize("path", [path for path in _FILES if path.name != "router.air"], ids=_name)
def test_an_adapter_of_a_release_is_read_with_every_tensor(path: Path) -> None:
    with read(path) as adapter:
        verify(adapter)
        named = {name for entry in adapter.entries for name in entry.tensor_names().values()}
        named |= {extra.tensor for extra in adapter.manifest.extra}
        assert {name: tensor.size_bytes for name, tensor in adapter.tensors.items()} == {
            name: len(adapter.tensors[name].to_bytes()) for name in named
        }


@pytest.mark.parametrize("path", [path for path in _FILES if path.name == "router.air"], ids=_name)
def test_a_router_of_a_release_is_told_from_an_adapter(path: Path) -> None:
    with pytest.raises(RuleError, match="is a router, expected an adapter"):
        read(path)
