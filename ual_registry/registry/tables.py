"""The tables. Every attribute that people search by is a typed, indexed column; blobs are never opened for a query.

Artifacts are immutable; so are revisions, but for the mark that hides them. What is kept twice is kept so that a
question reads one index or one row: the roles of an artifact in short beside its entries, what a hit shows of both as
one text, and in each revision the name of its adapter and what most searches ask of its artifact; none of it changes.
What may change, owner, aliases and tags, is kept in the revision, too, and written there whenever it does.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = [
    "DIGEST",
    "LABEL",
    "NAME",
    "TIME",
    "WORD",
    "AdapterRow",
    "AliasRow",
    "ArtifactRow",
    "AttestationRow",
    "AuditRow",
    "BaseModelRow",
    "BlobRow",
    "EntryRow",
    "HubLinkRow",
    "LineageRow",
    "RevisionRow",
    "RevisionTextRow",
    "RoleRow",
    "Table",
    "TagRow",
    "artifact_key",
]


def text_type(length: int) -> String:
    """Text in the order of its code points on both engines, whatever the server's locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


DIGEST = text_type(71)
NAME = text_type(128)
WORD = text_type(64)
LABEL = text_type(4096)
TIME = DateTime(timezone=True)


def _folded_index(table: str, column: str, **options: Any) -> Index:
    """Index a text without regard to the case of A to Z, which is how both engines compare it."""
    return Index(f"ix_{table}_{column}_folded", text(f"lower({column})"), **options)


def artifact_key(comment: str = "Its artifact.", **options: Any) -> Any:
    """Make the column that says which artifact a row belongs to; the row goes with it."""
    return mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), comment=comment, **options)


class Table(DeclarativeBase):
    """The base of every table; constraints get stable names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class BlobRow(Table):
    """Bytes in the blob store; the row is written after the bytes have their place."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True, comment="sha256 of the bytes.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="Their size.")
    stored_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When they came here, UTC.")
    verified_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When fsck last re-hashed them, UTC.")


class BaseModelRow(Table):
    """A base model that some artifact belongs to; what the manifest says of it. Dimensions are of the first stack."""

    __tablename__ = "base_models"
    __table_args__ = (
        UniqueConstraint(
            "config_digest", "label", "revision", "architecture", "model_type", name="uq_base_models_identity"
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    label: Mapped[str] = mapped_column(LABEL, index=True, comment="Hub id or folder name.")
    revision: Mapped[str] = mapped_column(LABEL, comment="Commit; empty where unpinned.")
    architecture: Mapped[str] = mapped_column(NAME, index=True, comment="Binder.")
    model_type: Mapped[str] = mapped_column(NAME, index=True, comment="model_type of the config.")
    config_digest: Mapped[str] = mapped_column(DIGEST, index=True, comment="Digest of config.json.")
    weights_digest: Mapped[str | None] = mapped_column(DIGEST, comment="Digest of the weights, where known.")
    vocab_size: Mapped[int | None] = mapped_column(comment="Rows of the token embedding.")
    hidden_size: Mapped[int] = mapped_column(comment="Width of the residual stream, in features.")
    num_layers: Mapped[int] = mapped_column(comment="Blocks.")
    num_attention_heads: Mapped[int | None] = mapped_column(comment="Query heads.")
    num_key_value_heads: Mapped[int | None] = mapped_column(comment="Key and value heads.")
    head_dim: Mapped[int | None] = mapped_column(comment="Width of one head, in features.")
    intermediate_size: Mapped[int | None] = mapped_column(comment="Width of the MLP, in features.")


class ArtifactRow(Table):
    """A stored object, named by its digest. After its deletion a tombstone stays: the row without its bytes."""

    __tablename__ = "artifacts"
    __table_args__ = (
        *(_folded_index("artifacts", name) for name in ("title", "method", "domain", "license")),
        Index("ix_artifacts_rank", "rank_max", "rank_min"),
        Index("ix_artifacts_parameter_count", "parameter_count"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    digest: Mapped[str] = mapped_column(DIGEST, unique=True, comment="sha256 of the stored bytes.")
    tensor_digest: Mapped[str] = mapped_column(DIGEST, index=True, comment="Digest of the tensors alone.")
    kind: Mapped[str] = mapped_column(text_type(32), comment="What it is: adapter or router.")
    media_type: Mapped[str] = mapped_column(NAME, comment="Format and major version.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, index=True, comment="Size of the stored bytes.")
    base_model_id: Mapped[int | None] = mapped_column(
        ForeignKey("base_models.id"), index=True, comment="Its base model; none for a router."
    )
    title: Mapped[str | None] = mapped_column(LABEL, comment="The name that the manifest gives it.")
    description: Mapped[str | None] = mapped_column(Text, comment="The description of the manifest.")
    method: Mapped[str] = mapped_column(WORD, comment="lora, or the projection that made it.")
    task_type: Mapped[str | None] = mapped_column(NAME, comment="Task type in PEFT's words.")
    domain: Mapped[str | None] = mapped_column(LABEL, comment="The field that it serves.")
    license: Mapped[str | None] = mapped_column(LABEL, comment="SPDX expression.")
    parameter_count: Mapped[int] = mapped_column(BigInteger, comment="Numbers held by the factors.")
    entry_count: Mapped[int] = mapped_column(comment="How many entries it has.")
    rank_min: Mapped[int | None] = mapped_column(comment="The smallest rank of an entry.")
    rank_max: Mapped[int | None] = mapped_column(comment="The largest rank of an entry.")
    recovered_gain: Mapped[float | None] = mapped_column(
        index=True, comment="Share of the source's gain that a transfer kept, where measured."
    )
    added_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When it came here, UTC.")
    deleted_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When its bytes were deleted, UTC.")
    targets: Mapped[str | None] = mapped_column(Text, comment="Its rows of artifact_roles, as one JSON text.")
    measurements: Mapped[str | None] = mapped_column(Text, comment="Its rows of evaluations, as one JSON text.")

    base_model: Mapped[BaseModelRow | None] = relationship(lazy="raise")


class EntryRow(Table):
    """One (stack, layer, role, expert) of an artifact."""

    __tablename__ = "entries"

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place in the manifest, from 0.")
    stack: Mapped[str | None] = mapped_column(text_type(16), comment="encoder, decoder or none.")
    layer: Mapped[int | None] = mapped_column(comment="Index of the block, from 0; none outside the blocks.")
    role: Mapped[str] = mapped_column(WORD, comment="What the target module does.")
    expert: Mapped[int | None] = mapped_column(comment="Index of the expert; none outside a mixture of experts.")
    rank: Mapped[int] = mapped_column(comment="Rank of the factors.")
    in_features: Mapped[int] = mapped_column(comment="Columns of lora_A.")
    out_features: Mapped[int] = mapped_column(comment="Rows of lora_B.")
    scaling: Mapped[float] = mapped_column(comment="The number that multiplies the product.")


class RoleRow(Table):
    """The entries of an artifact in short: one row for each (stack, role, rank)."""

    __tablename__ = "artifact_roles"
    __table_args__ = (Index("ix_artifact_roles_role", "role", "artifact_id"),)

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    stack: Mapped[str] = mapped_column(text_type(16), primary_key=True, comment="encoder, decoder or empty.")
    role: Mapped[str] = mapped_column(WORD, primary_key=True, comment="What the target modules do.")
    rank: Mapped[int] = mapped_column(primary_key=True, comment="Rank of the factors.")
    entry_count: Mapped[int] = mapped_column(comment="How many entries.")
    layer_min: Mapped[int | None] = mapped_column(comment="The first block; none outside the blocks.")
    layer_max: Mapped[int | None] = mapped_column(comment="The last block; none outside the blocks.")


class LineageRow(Table):
    """An edge: the child was made from the parent. The parent need not be here, and never is its own child."""

    __tablename__ = "lineage_edges"
    __table_args__ = (
        CheckConstraint("child_digest <> parent_digest", name="not_itself"),
        Index("ix_lineage_edges_parent_digest", "parent_digest", "child_digest", "relation"),
    )

    child_digest: Mapped[str] = mapped_column(DIGEST, primary_key=True, comment="What was made.")
    parent_digest: Mapped[str] = mapped_column(DIGEST, primary_key=True, comment="What it was made from.")
    relation: Mapped[str] = mapped_column(text_type(32), primary_key=True, comment="How, such as projected_from.")


class AdapterRow(Table):
    """A name under which revisions are kept."""

    __tablename__ = "adapters"
    __table_args__ = tuple(_folded_index("adapters", name, postgresql_include=["name"]) for name in ("name", "owner"))

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    name: Mapped[str] = mapped_column(NAME, unique=True, comment="Its name, which never changes.")
    owner: Mapped[str | None] = mapped_column(LABEL, comment="Who answers for it.")
    description: Mapped[str | None] = mapped_column(Text, comment="What it is for.")
    newest: Mapped[int] = mapped_column(comment="Number of its newest revision; 0 before the first.")
    created_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="First revision, UTC.")


_FACETS = (
    "base_model_id",
    "domain_folded",
    "license_folded",
    "method_folded",
    "rank_min",
    "rank_max",
    "recovered_gain",
)
"""What most searches ask for, kept in the revision too, so that one index answers them."""


def _without(name: str) -> Iterator[str]:
    """Yield what an index holds beside a facet: the order of a page, and what else may be asked for."""
    yield from ("adapter_name", "number", "artifact_id", "yanked_at")
    yield from (facet for facet in _FACETS if facet != name)


_WITH_ID: dict[str, Any] = {"postgresql_include": ["id"]}
"""So that a search reads indexes alone; every index of SQLite has the row number."""


class RevisionRow(Table):
    """A numbered state of an adapter."""

    __tablename__ = "revisions"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number"),
        UniqueConstraint("adapter_id", "artifact_id"),
        Index("ix_revisions_artifact_id", "artifact_id", "yanked_at", "adapter_name", "number", *_FACETS, **_WITH_ID),
        Index("ix_revisions_base_model_id", "base_model_id", *_without("base_model_id"), **_WITH_ID),
        Index("ix_revisions_created_at", "created_at", "id"),
        Index("ix_revisions_id", "id", postgresql_include=["adapter_name", "number", "yanked_at"]),
    )

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), comment="Its adapter.")
    adapter_name: Mapped[str] = mapped_column(NAME, comment="The adapter's name.")
    number: Mapped[int] = mapped_column(comment="1, 2, 3, ... in its adapter.")
    artifact_id: Mapped[int] = mapped_column(ForeignKey("artifacts.id"), comment="Its bytes.")
    created_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When it was added, UTC.")
    yanked_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When it was hidden, UTC.")
    yank_reason: Mapped[str | None] = mapped_column(LABEL, comment="Why it was hidden.")
    base_model_id: Mapped[int | None] = mapped_column(comment="Its artifact's base model; none for a router.")
    domain_folded: Mapped[str | None] = mapped_column(LABEL, comment="Its artifact's domain, A to Z in lower case.")
    license_folded: Mapped[str | None] = mapped_column(LABEL, comment="Its artifact's license, A to Z in lower case.")
    method_folded: Mapped[str | None] = mapped_column(WORD, comment="Its artifact's method, A to Z in lower case.")
    rank_min: Mapped[int | None] = mapped_column(comment="Its artifact's smallest rank.")
    rank_max: Mapped[int | None] = mapped_column(comment="Its artifact's largest rank.")
    recovered_gain: Mapped[float | None] = mapped_column(comment="Its artifact's share of the source's gain.")
    targets: Mapped[str | None] = mapped_column(Text, comment="Its artifact's rows of artifact_roles.")
    shown: Mapped[str | None] = mapped_column(Text, comment="What else a hit shows of its artifact, as one JSON text.")
    labels: Mapped[str | None] = mapped_column(Text, comment="Its owner, aliases and tags, as one JSON text.")

    adapter: Mapped[AdapterRow] = relationship(lazy="raise")
    artifact: Mapped[ArtifactRow] = relationship(lazy="raise")


def _index_in_order(name: str, *first: str, **options: Any) -> None:
    """Index in the order of a page: some names have thousands of revisions, which would have to be sorted first."""
    rest = ("artifact_id", "yanked_at", *(facet for facet in _FACETS if facet not in first))
    columns = [getattr(RevisionRow, column) for column in (*first, "adapter_name", *rest)]
    columns.insert(len(first) + 1, RevisionRow.number.desc())
    Index(f"ix_revisions_{name}", *columns, **_WITH_ID, **options)


_index_in_order("name")
_index_in_order("domain_folded", "domain_folded")
_MEASURED = RevisionRow.recovered_gain.is_not(None)
_index_in_order("recovered_gain", "recovered_gain", postgresql_where=_MEASURED, sqlite_where=_MEASURED)


class RevisionTextRow(Table):
    """The words of a revision for full-text search: names, titles, descriptions, domain."""

    __tablename__ = "revision_texts"

    revision_id: Mapped[int] = mapped_column(
        ForeignKey("revisions.id", ondelete="CASCADE"), primary_key=True, comment="Its revision."
    )
    body: Mapped[str] = mapped_column(Text, comment="The words.")


class AliasRow(Table):
    """A movable name for one revision of an adapter."""

    __tablename__ = "aliases"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True, comment="Its adapter.")
    name: Mapped[str] = mapped_column(NAME, primary_key=True, comment="Its name.")
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), index=True, comment="Where it points.")
    is_protected: Mapped[bool] = mapped_column(comment="Whether it only moves by force and with a reason.")
    moved_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When it last moved, UTC.")


class TagRow(Table):
    """A free label of a revision: a key, or a key and a value, with what its revisions are sorted by on a page."""

    __tablename__ = "tags"

    revision_id: Mapped[int] = mapped_column(
        ForeignKey("revisions.id", ondelete="CASCADE"), primary_key=True, comment="Its revision."
    )
    key: Mapped[str] = mapped_column(NAME, primary_key=True, comment="The key.")
    value: Mapped[str] = mapped_column(text_type(1024), comment="The value; empty where there is none.")
    adapter_name: Mapped[str] = mapped_column(NAME, comment="The adapter's name.")
    number: Mapped[int] = mapped_column(comment="The revision's number.")


_OF_PAGE = (TagRow.adapter_name, TagRow.number.desc(), TagRow.revision_id)
Index("ix_tags_key_value", TagRow.key, TagRow.value, *_OF_PAGE)


class HubLinkRow(Table):
    """Where an artifact was published, or where it came from."""

    __tablename__ = "hub_links"
    __table_args__ = (UniqueConstraint("artifact_id", "repository", "commit", "path", "direction"),)

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    artifact_id: Mapped[int] = artifact_key()
    repository: Mapped[str] = mapped_column(LABEL, index=True, comment="Hub repository.")
    commit: Mapped[str] = mapped_column(text_type(64), comment="Commit of the repository.")
    path: Mapped[str] = mapped_column(LABEL, comment="File in the repository.")
    direction: Mapped[str] = mapped_column(text_type(8), comment="push or pull.")
    at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When, UTC.")


class AttestationRow(Table):
    """A signed statement about an artifact, kept as it came."""

    __tablename__ = "attestations"
    __table_args__ = (UniqueConstraint("artifact_id", "statement_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    artifact_id: Mapped[int] = artifact_key()
    predicate_type: Mapped[str] = mapped_column(LABEL, comment="What the statement says something about.")
    signer: Mapped[str | None] = mapped_column(LABEL, comment="Who signed it.")
    statement_digest: Mapped[str] = mapped_column(DIGEST, comment="Digest of the envelope.")
    envelope: Mapped[dict[str, Any]] = mapped_column(JSON, comment="The envelope.")
    added_at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When it came here, UTC.")


class AuditRow(Table):
    """What was done, in the same transaction as the doing."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_adapter_name", "adapter_name", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number; the order of events.")
    at: Mapped[datetime.datetime] = mapped_column(TIME, comment="When, UTC.")
    actor: Mapped[str] = mapped_column(LABEL, comment="Who, as the system names the user.")
    action: Mapped[str] = mapped_column(text_type(32), comment="add, alias, tag, yank, gc, ...")
    adapter_name: Mapped[str] = mapped_column(NAME, comment="The adapter; empty where there is none.")
    digest: Mapped[str | None] = mapped_column(DIGEST, index=True, comment="The artifact, where there is one.")
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, comment="What exactly.")
