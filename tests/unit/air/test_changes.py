"""Two manifests, field by field."""

from __future__ import annotations

from dataclasses import replace

from tests.handmade import base_model, method, small_adapter, small_entries
from ual_registry.air.changes import Change, ChangeKind, changes_of, only_entries
from ual_registry.air.model import Extra, Manifest


def manifest(**changes: object) -> Manifest:
    return small_adapter(**changes).manifest


def test_a_manifest_has_no_changes_to_itself_whatever_its_digests() -> None:
    sealed = replace(manifest(), tensor_digest="sha256:" + "1" * 64, manifest_digest="sha256:" + "2" * 64)
    assert changes_of(manifest(), sealed) == ()


def test_fields_are_added_removed_and_changed() -> None:
    first = manifest(name="a", domain="law", tags=("x", "y", "z"), method=method(alpha=4.0))
    second = manifest(
        domain="medicine", description="d", tags=("x", "w"), method=method(alpha=4), base_model=base_model(id="other")
    )
    assert changes_of(first, second) == (
        Change(kind=ChangeKind.CHANGED, path="manifest.base_model.id", before="tiny", after="other"),
        Change(kind=ChangeKind.REMOVED, path="manifest.name", before="a"),
        Change(kind=ChangeKind.CHANGED, path="manifest.domain", before="law", after="medicine"),
        Change(kind=ChangeKind.CHANGED, path="manifest.tags[1]", before="y", after="w"),
        Change(kind=ChangeKind.REMOVED, path="manifest.tags[2]", before="z"),
        Change(kind=ChangeKind.ADDED, path="manifest.description", after="d"),
    )
    assert changes_of(second, first)[3:5] == (
        Change(kind=ChangeKind.CHANGED, path="manifest.tags[1]", before="w", after="y"),
        Change(kind=ChangeKind.ADDED, path="manifest.tags[2]", after="z"),
    )


def test_a_key_that_is_no_plain_word_stands_in_brackets() -> None:
    first, second = (manifest(annotations={"org.example": {"a b": value}}) for value in (1, True))
    assert changes_of(first, second) == (
        Change(kind=ChangeKind.CHANGED, path="manifest.annotations['org.example']['a b']", before=1, after=True),
    )


def test_a_value_of_another_kind_is_changed_as_a_whole() -> None:
    first, second = (manifest(annotations={"org.example": value}) for value in ((1,), "1"))
    assert changes_of(first, second) == (
        Change(kind=ChangeKind.CHANGED, path="manifest.annotations['org.example']", before=[1], after="1"),
    )


def test_entries_are_paired_by_their_place_and_not_by_their_index() -> None:
    key, query, up = small_entries()
    first, second = manifest(), manifest(entries=(query, replace(up, scaling=3.0)))
    assert changes_of(first, second) == (
        Change(kind=ChangeKind.CHANGED, path="manifest.entries[2].scaling", before=2.0, after=3.0),
    )
    assert only_entries(first, second) == (key,)
    assert only_entries(second, first) == ()


def test_extra_tensors_are_paired_by_their_names() -> None:
    first = manifest()
    second = manifest(extra=(Extra(tensor="extra.a", name="a"), *first.extra))
    assert changes_of(first, second) == (Change(kind=ChangeKind.ADDED, path="manifest.extra.a", after="extra.a"),)
