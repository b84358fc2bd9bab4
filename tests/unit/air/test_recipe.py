"""What is remembered of one file changes nothing that is said of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.handmade import small_adapter
from ual_registry.air import held_entries, plain_header, recipe
from ual_registry.air.canonical import canonical_bytes
from ual_registry.air.codec import encode
from ual_registry.air.document import decode_manifest, encode_manifest, seal
from ual_registry.air.held_entries import find_held, hold_entries
from ual_registry.air.model import Manifest
from ual_registry.air.recall import Memory, Same
from ual_registry.air.recipe import recipe_problems
from ual_registry.air.rules import rule_problems
from ual_registry.air.tensor import TensorShape
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.digest import Digest


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty memory, and leave the process's own as it is."""
    monkeypatch.setattr(held_entries, "_SHELF", held_entries._Shelf())
    monkeypatch.setattr(plain_header, "_TABLES", Memory(1 << 20))
    monkeypatch.setattr(recipe, "_PROBLEMS", Memory(1 << 20))
    monkeypatch.setattr(recipe, "_ROUTES", Memory(1 << 20))


def sealed(**changes: Any) -> Manifest:
    """Return the manifest of a small adapter as it is stored."""
    manifest = seal(replace(small_adapter().manifest, **changes), Digest.of_bytes(b"tensors"))
    assert isinstance(manifest, Manifest)
    return manifest


def held() -> int:
    return len(held_entries._SHELF.held)


def test_entries_that_were_read_before_are_the_same_objects() -> None:
    first, second = sealed(name="one"), sealed(name="two", description='with "entries" and \\"entries\\":[] inside')
    one, two = (decode_manifest(encode_manifest(each).decode()) for each in (first, second))
    assert (one.manifest, one.problems, two.manifest, two.problems) == (first, (), second, ())
    assert one.manifest is not None
    assert isinstance(two.manifest, Manifest)
    assert two.manifest.entries is one.manifest.entries  # type: ignore[union-attr]
    assert held() == 1


def broken() -> Iterator[tuple[str, bytes]]:
    """Yield manifests that differ from a legal one outside their entries, or have its entries at another place."""
    document = encode(sealed())
    entries = document["entries"]
    yield "another digest", canonical_bytes({**document, "tensor_digest": str(Digest.of_bytes(b"other"))})
    yield "an unknown field", canonical_bytes({**document, "unknown": 1})
    yield "another version", canonical_bytes({**document, "air_version": "2.0"})
    yield "a newer minor", canonical_bytes({**document, "air_version": "1.9"})
    yield "a router", canonical_bytes({**document, "kind": "router"})
    yield "an unknown feature", canonical_bytes({**document, "features": ["zz"]})
    inner = {**document, "annotations": {"org.example": {"entries": entries}}}
    yield "entries within", canonical_bytes(inner)
    yield "entries only within", canonical_bytes({key: value for key, value in inner.items() if key != "entries"})
    yield "a space", canonical_bytes(document).replace(b'"entries":', b'"entries": ')
    yield (
        "another order",
        canonical_bytes(document)
        .replace(b'"air_version":"1.0",', b"")
        .replace(b'"kind":"adapter"', b'"air_version":"1.0","kind":"adapter"'),
    )
    yield "entries twice", canonical_bytes(document).replace(b'"kind"', b'"entries":[],"kind"')
    yield "an empty list", canonical_bytes({**document, "entries": []})
    yield "more after it", canonical_bytes(document) + b" "
    yield "cut off", canonical_bytes(document)[:-1]
    yield "too deep", canonical_bytes({**document, "annotations": {"org.example": nested(70)}})


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in broken()])
def test_what_is_remembered_hides_no_fault(data: bytes) -> None:
    alone = decode_manifest(data.decode())
    held_entries._SHELF.held = ()
    decode_manifest(encode_manifest(sealed()).decode())
    assert held() == 1
    assert decode_manifest(data.decode()) == alone


def test_only_legal_entries_in_canonical_form_are_kept() -> None:
    document = encode(sealed())
    for data in (
        canonical_bytes(document).replace(b'"entries":', b'"entries": '),
        canonical_bytes({**document, "air_version": "1.1"}),
        canonical_bytes({**document, "entries": [{**document["entries"][0], "rank": 0}]}),
    ):
        decode_manifest(data.decode())
    assert held() == 0


def test_long_entries_and_those_at_an_unsure_place_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = sealed()
    data, document = encode_manifest(manifest), encode(manifest)
    monkeypatch.setattr(held_entries, "_LIMIT_BYTES", 10)
    hold_entries(data, document, manifest.entries)
    hold_entries(data.replace(b'"kind"', b'"entries":[],"kind"'), document, manifest.entries)
    assert (held(), find_held(data)) == (0, None)


def test_the_last_ones_are_kept_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = [
        sealed(entries=(replace(small_adapter().manifest.entries[0], scaling=float(n)),)) for n in range(1, 10)
    ]
    size = len(canonical_bytes(encode(manifests[0])["entries"]))
    monkeypatch.setattr(held_entries, "_MOST_BYTES", 4 * size)
    for manifest in manifests:
        assert decode_manifest(encode_manifest(manifest).decode()).manifest == manifest
    assert [each.entries for each in held_entries._SHELF.held] == [
        manifest.entries for manifest in reversed(manifests[-4:])
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ("dora",)},
        {"extra": ()},
        {"base_model": replace(small_adapter().manifest.base_model, revision=None)},
        {"base_model": replace(small_adapter().manifest.base_model, vocab_size=7)},
        {"name": "another", "tags": ("x",)},
    ],
)
def test_rules_are_asked_again_where_anything_that_they_read_differs(changes: dict[str, Any]) -> None:
    adapter = small_adapter()
    shapes = {name: TensorShape(tensor.dtype, tensor.shape) for name, tensor in adapter.tensors.items()}
    first = recipe_problems(adapter.manifest, shapes)
    other = replace(adapter.manifest, **changes)
    assert first == tuple(rule_problems(adapter.manifest, shapes))
    assert recipe_problems(other, shapes) == tuple(rule_problems(other, shapes))
    fewer = dict(list(shapes.items())[1:])
    assert recipe_problems(adapter.manifest, fewer) == tuple(rule_problems(adapter.manifest, fewer))


def test_of_a_large_manifest_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_MOST_ENTRIES", 0)
    write(small_adapter(), tmp_path / "x.air")
    assert validate_file(tmp_path / "x.air", threads=1).ok
    assert (recipe._PROBLEMS._held, recipe._ROUTES._held) == ({}, {})


def test_a_file_that_is_like_one_before_is_checked_like_it(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "a.air")
    data = bytearray((tmp_path / "a.air").read_bytes())
    data[-1] ^= 1
    (tmp_path / "b.air").write_bytes(data)
    first, damaged, again = (validate_file(tmp_path / name) for name in ("a.air", "b.air", "a.air"))
    assert (first.problems, [problem.code for problem in damaged.problems]) == ((), ["tensor-digest"])
    assert again == first


def test_a_memory_forgets_the_oldest_and_makes_what_it_does_not_hold() -> None:
    memory, made = Memory[None](6), []
    for number, weight in ((0, 2), (1, 2), (2, 2), (0, 2), (3, 1), (1, 2), (0, 2), (9, 7), (3, 1)):
        memory.get(number, lambda number=number: made.append(number), weight=weight)  # type: ignore[misc]
    assert made == [0, 1, 2, 3, 0, 9, 3]


def test_the_same_object_alone_is_the_same_key() -> None:
    one, other = [1], [1]
    assert (Same(one) == Same(one), Same(one) == Same(other), Same(one) == one) == (True, False, False)
    assert hash(Same(one)) == hash(Same(one))
