"""The document of an exported registry: read, checked, and turned into records before anything is written."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.air.schema import schema_problems
from ual_registry.digest import Digest
from ual_registry.errors import FormatError
from ual_registry.registry.reference import check_alias, check_tag, check_text, quoted

__all__ = ["EXPORT_SCHEMA", "AdapterPart", "AliasPart", "ArtifactPart", "Contents", "RevisionPart", "parse_contents"]

EXPORT_SCHEMA = "1.0/registry-export.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPart:
    """An artifact of the document.

    Attributes:
        digest: Its digest.
        size_bytes: Its size.
        media_type: Format and major version.
        added_at: When it came to the registry that was exported.
        deleted_at: When its bytes were deleted; ``None`` where they are here.
        tombstone: What was known of it, where its bytes are deleted.
        hub_links: Where it was published.
        attestations: Signed statements about it.
    """

    digest: Digest
    size_bytes: int
    media_type: str
    added_at: datetime.datetime | None
    deleted_at: datetime.datetime | None
    tombstone: Mapping[str, Any] | None
    hub_links: Sequence[Mapping[str, Any]]
    attestations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPart:
    """A revision of the document."""

    number: int
    digest: str
    created_at: datetime.datetime
    tags: Mapping[str, str]
    yanked_at: datetime.datetime | None
    yank_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasPart:
    """An alias of the document."""

    name: str
    number: int
    is_protected: bool
    moved_at: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPart:
    """An adapter of the document."""

    name: str
    owner: str | None
    description: str | None
    created_at: datetime.datetime | None
    revisions: tuple[RevisionPart, ...]
    aliases: tuple[AliasPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an exported registry holds.

    Attributes:
        artifacts: By digest.
        adapters: By name.
    """

    artifacts: dict[str, ArtifactPart]
    adapters: dict[str, AdapterPart]


def parse_contents(data: bytes) -> Contents:
    """Read the document.

    Raises:
        FormatError: It does not follow its schema, or contradicts itself.
        RegistryError: A name or a text is not allowed.
    """
    document = parse_json(data, what="registry document")
    problems = list(schema_problems(EXPORT_SCHEMA, document, root="registry"))
    if problems:
        raise problems[0].to_error()
    if b"\\u0000" in data:
        for item in document["artifacts"]:
            _check_texts(f"artifacts.{item['digest']}", item)
    artifacts = [_artifact(item) for item in document["artifacts"]]
    adapters = [_adapter(item) for item in document["adapters"]]
    contents = Contents(
        artifacts={str(item.digest): item for item in artifacts}, adapters={item.name: item for item in adapters}
    )
    _check_once("artifacts", [item["digest"] for item in document["artifacts"]])
    _check_once("adapters", [item["name"] for item in document["adapters"]])
    for adapter in adapters:
        _check_adapter(adapter, contents.artifacts)
    return contents


def _fault(place: str, message: str) -> FormatError:
    return FormatError(f"registry.{place}: {message}", code="layout", context={"place": f"registry.{place}"})


def _check_once(place: str, values: Sequence[Any]) -> None:
    repeated = next(
        (value for value, other in zip(sorted(values)[1:], sorted(values), strict=False) if value == other), None
    )
    if repeated is not None:
        raise _fault(place, f"{repeated} stands there twice")


def _check_texts(place: str, item: Any) -> None:
    """Refuse a text with a NUL, which not every database keeps; an envelope is kept as it came."""
    if isinstance(item, str) and "\0" in item:
        raise _fault(place, f"{quoted(item)}: no text holds the character {chr(0)!r}")
    if isinstance(item, dict):
        for name, part in item.items():
            if name != "envelope":
                _check_texts(place, part)
    elif isinstance(item, list):
        for part in item:
            _check_texts(place, part)


def _check_adapter(adapter: AdapterPart, artifacts: Mapping[str, ArtifactPart]) -> None:
    place = f"adapters.{adapter.name}"
    numbers = [revision.number for revision in adapter.revisions]
    _check_once(f"{place}.revisions", numbers)
    _check_once(f"{place}.revisions", [revision.digest for revision in adapter.revisions])
    _check_once(f"{place}.aliases", [alias.name for alias in adapter.aliases])
    for revision in adapter.revisions:
        if revision.digest not in artifacts:
            raise _fault(f"{place}@{revision.number}", f"{revision.digest} is none of the artifacts")
    for alias in adapter.aliases:
        if alias.number not in numbers:
            raise _fault(f"{place}@{alias.name}", f"revision {alias.number} is none of the adapter's")


def _artifact(item: Mapping[str, Any]) -> ArtifactPart:
    place = f"artifacts.{item['digest']}"
    if ("deleted_at" in item) != ("tombstone" in item):
        raise _fault(place, "deleted_at and tombstone belong together")
    return ArtifactPart(
        digest=Digest.parse(item["digest"]),
        size_bytes=item["size_bytes"],
        media_type=item["media_type"],
        added_at=_time(item.get("added_at"), place),
        deleted_at=_time(item.get("deleted_at"), place),
        tombstone=item.get("tombstone"),
        hub_links=[{**link, "at": _moment(link["at"], place)} for link in item.get("hub_links", ())],
        attestations=[
            {"signer": None, **one, "added_at": _moment(one["added_at"], place)} for one in item.get("attestations", ())
        ],
    )


def _adapter(item: Mapping[str, Any]) -> AdapterPart:
    place = f"adapters.{item['name']}"
    return AdapterPart(
        name=item["name"],
        owner=check_text("owner", item.get("owner")),
        description=check_text("description", item.get("description")),
        created_at=_time(item.get("created_at"), place),
        revisions=tuple(
            sorted((_revision(one, place) for one in item["revisions"]), key=lambda revision: revision.number)
        ),
        aliases=tuple(_alias(one, place) for one in item["aliases"]),
    )


def _revision(item: Mapping[str, Any], place: str) -> RevisionPart:
    yank = item.get("yanked", {})
    return RevisionPart(
        number=item["number"],
        digest=item["digest"],
        created_at=_moment(item["created_at"], place),
        tags=dict(check_tag(key, value) for key, value in item.get("tags", {}).items()),
        yanked_at=_time(yank.get("at"), place),
        yank_reason=check_text("reason", yank.get("reason")),
    )


def _alias(item: Mapping[str, Any], place: str) -> AliasPart:
    return AliasPart(
        name=check_alias(item["name"]),
        number=item["number"],
        is_protected=item.get("is_protected", False),
        moved_at=_time(item.get("moved_at"), place),
    )


def _time(text: str | None, place: str) -> datetime.datetime | None:
    return None if text is None else _moment(text, place)


def _moment(text: str, place: str) -> datetime.datetime:
    """Read a time; the schema checks its form and not whether there is such a day."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise _fault(place, f"{text[:40]!r} is no time") from error
