"""Hub links and attestations are kept once, read back, and logged."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry import links
from ual_registry.registry.adding import AddOrder
from ual_registry.registry.records import Attestation, HubLink, HubPlace
from ual_registry.registry.registry import Registry
from ual_registry.registry.transaction import transact

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
COMMIT = "c" * 40
ENVELOPE = {"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": [{"sig": "AA=="}]}
STATEMENT = str(Digest.of_bytes(b"statement"))


@pytest.fixture
def digest(registry: Registry, files: Files) -> str:
    """An artifact."""
    return registry.add(files.make(), name="medical").digest


def link(registry: Registry, digest: str, **changes: str) -> None:
    fields = {"repository": "org/medical", "commit": COMMIT, "path": "medical.air", "direction": "push"}
    registry.link(digest, name="medical", **{**fields, **changes})


def undated(found: tuple[HubLink, ...]) -> list[HubLink]:
    assert all(item.at.tzinfo is datetime.UTC for item in found)
    return [dataclasses.replace(item, at=EPOCH) for item in found]


def pushed(digest: str, **changes: str) -> HubLink:
    fields = {"repository": "org/medical", "commit": COMMIT, "path": "medical.air", "direction": "push"}
    return HubLink(digest=digest, at=EPOCH, **{**fields, **changes})


def attest(registry: Registry, digest: str, **changes: str) -> None:
    fields = {"predicate_type": "https://slsa.dev/provenance/v1", "signer": "ada", "statement_digest": STATEMENT}
    transact(
        registry.database,
        lambda session: links.record_attestation(session, digest, envelope=ENVELOPE, **{**fields, **changes}),
    )


def test_links_are_read_back_oldest_first_and_kept_once(registry: Registry, digest: str) -> None:
    link(registry, digest)
    link(registry, digest)
    link(registry, digest, direction="pull")
    assert undated(registry.links("medical")) == [pushed(digest), pushed(digest, direction="pull")]
    assert registry.links(digest) == registry.links("medical@1")


def test_what_is_linked_is_logged_once(registry: Registry, digest: str) -> None:
    link(registry, digest)
    link(registry, digest)
    link(registry, digest, direction="pull")
    place = {"repository": "org/medical", "commit": COMMIT, "path": "medical.air"}
    assert [(entry.action, entry.digest, entry.detail) for entry in registry.log("medical")][:-1] == [
        ("pull", digest, place),
        ("push", digest, place),
    ]


def test_links_are_found_by_repository_commit_path_and_direction(registry: Registry, files: Files, digest: str) -> None:
    other = registry.add(files.make(), name="other").digest
    link(registry, digest)
    link(registry, digest, direction="pull")
    link(registry, other, commit="d" * 40, path="sub/other.air", direction="pull")
    link(registry, other, repository="org/other", direction="pull")
    first, second = pushed(digest), pushed(digest, direction="pull")
    third = pushed(other, commit="d" * 40, path="sub/other.air", direction="pull")

    assert undated(registry.linked("org/medical")) == [first, second, third]
    assert undated(registry.linked("org/medical", commit=COMMIT)) == [first, second]
    assert undated(registry.linked("org/medical", direction="pull")) == [second, third]
    assert undated(registry.linked("org/medical", path="sub/other.air")) == [third]
    assert undated(registry.linked("org/medical", commit=COMMIT, direction="pull")) == [second]
    assert registry.linked("org/nothing") == ()


def test_the_link_of_an_artifact_whose_bytes_were_deleted_is_none_of_what_is_here(
    registry: Registry, files: Files
) -> None:
    path = files.make()
    digest = registry.add(path, name="medical").digest
    link(registry, digest)
    registry.yank("medical@1", why="wrong")
    registry.gc(grace=datetime.timedelta(0), yanked=True, apply=True)
    assert registry.linked("org/medical") == ()
    registry.add(path, name="medical")
    assert undated(registry.linked("org/medical")) == [pushed(digest)]


def test_a_file_is_added_with_the_place_that_it_was_pulled_from(registry: Registry, files: Files) -> None:
    place = HubPlace(repository="org/medical", commit=COMMIT, path="medical.air")
    path = files.make()
    added = registry.add(path, name="medical", pulled_from=place)
    assert registry.add(path, name="medical", pulled_from=place) == dataclasses.replace(added, is_new=False)
    assert undated(registry.links("medical")) == [pushed(added.digest, direction="pull")]
    assert [entry.action for entry in registry.log("medical")] == ["pull", "add"]


def test_many_files_are_added_with_their_places(registry: Registry, files: Files) -> None:
    places = [HubPlace(repository="org/medical", commit=COMMIT, path=f"{number}.air") for number in range(2)]
    jobs = [(files.make(), AddOrder(name="medical", pulled_from=place)) for place in places]
    digests = [outcome.result.digest for outcome in registry.add_many(jobs) if outcome.result]
    assert undated(registry.linked("org/medical")) == [
        pushed(digest, path=place.path, direction="pull") for digest, place in zip(digests, places, strict=True)
    ]


def test_nothing_is_added_from_a_place_that_cannot_be_kept(registry: Registry, files: Files) -> None:
    place = HubPlace(repository="org/medical", commit=COMMIT, path="p" * 257)
    with pytest.raises(RegistryError) as caught:
        registry.add(files.make(), name="medical", pulled_from=place)
    assert caught.value.problem_code == "text"
    assert (registry.list().items, list(registry.blobs.walk()), list(registry.blobs.walk_staging())) == ((), [], [])


def test_attestations_are_read_back_as_they_came(registry: Registry, digest: str) -> None:
    attest(registry, digest)
    attest(registry, digest)
    with registry.database.session() as session:
        (found,) = links.attestations(session, digest)
    assert dataclasses.replace(found, added_at=EPOCH) == Attestation(
        digest=digest,
        predicate_type="https://slsa.dev/provenance/v1",
        signer="ada",
        statement_digest=STATEMENT,
        envelope=ENVELOPE,
        added_at=EPOCH,
    )
    assert registry.log(digest)[0].action == "attest"


def test_an_artifact_that_is_not_there_has_neither(registry: Registry) -> None:
    unknown = str(Digest.of_bytes(b"unknown"))
    for record in (link, attest):
        with pytest.raises(RegistryNotFoundError) as caught:
            record(registry, unknown)
        assert caught.value.message == f"{unknown}: no such artifact in this registry"
    with pytest.raises(RegistryNotFoundError) as caught:
        registry.links(unknown)
    assert caught.value.message == f"{unknown}: no such artifact in this registry"
    with registry.database.session() as session:
        assert links.attestations(session, unknown) == ()


def test_a_text_that_no_index_holds_is_refused(registry: Registry, digest: str) -> None:
    with pytest.raises(RegistryError) as caught:
        link(registry, digest, repository="o" * 257)
    assert caught.value.problem_code == "text"


def test_a_direction_that_is_none_is_refused(registry: Registry, digest: str) -> None:
    with pytest.raises(RegistryError) as caught:
        link(registry, digest, direction="sideways")
    assert caught.value.message == "direction 'sideways': expected push or pull"
    assert registry.links(digest) == ()
