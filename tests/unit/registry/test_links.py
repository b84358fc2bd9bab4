"""Hub links and attestations are kept once, read back, and logged."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import RegistryError, RegistryNotFoundError
from ual_registry.registry import links
from ual_registry.registry.records import Attestation, HubLink
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
    transact(
        registry.database,
        lambda session: links.record_hub_link(session, digest, name="medical", **{**fields, **changes}),
    )


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
    with registry.database.session() as session:
        found = links.hub_links(session, digest)
    first = HubLink(
        digest=digest, repository="org/medical", commit=COMMIT, path="medical.air", direction="push", at=EPOCH
    )
    assert [dataclasses.replace(item, at=EPOCH) for item in found] == [
        first,
        dataclasses.replace(first, direction="pull"),
    ]
    assert all(item.at.tzinfo is datetime.UTC for item in found)
    newest = registry.log("medical")[0]
    assert (newest.action, newest.digest, newest.detail) == (
        "pull",
        digest,
        {"repository": "org/medical", "commit": COMMIT, "path": "medical.air"},
    )


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
    with registry.database.session() as session:
        assert (links.hub_links(session, unknown), links.attestations(session, unknown)) == ((), ())


def test_a_text_that_no_index_holds_is_refused(registry: Registry, digest: str) -> None:
    with pytest.raises(RegistryError) as caught:
        link(registry, digest, repository="o" * 257)
    assert caught.value.problem_code == "text"
