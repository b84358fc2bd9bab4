"""The tables. Every attribute that people search by is a typed, indexed column; blobs are never opened for a query.

Rows of artifacts and revisions never change after they are written; only aliases move, and every move is logged.
"""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = [
    "AdapterRow",
    "AliasRow",
    "ArtifactRow",
    "AuditRow",
    "BaseModelRow",
    "EntryRow",
    "LineageRow",
    "RevisionRow",
    "Table",
]

_DIGEST = String(71)
_NAME = String(128)
_LABEL = String(4096)


class Table(DeclarativeBase):
    """The base of every table; constraints get stable names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class BaseModelRow(Table):
    """A base model that some artifact belongs to; what the manifest says of it."""

    __tablename__ = "base_models"
    __table_args__ = (
        UniqueConstraint(
            "config_digest", "label", "revision", "architecture", "model_type", name="uq_base_models_identity"
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    label: Mapped[str] = mapped_column(_LABEL, index=True, comment="Hub id or folder name.")
    revision: Mapped[str] = mapped_column(_LABEL, comment="Commit; empty where unpinned.")
    architecture: Mapped[str] = mapped_column(_NAME, index=True, comment="Binder.")
    model_type: Mapped[str] = mapped_column(_NAME, index=True, comment="model_type of the config.")
    config_digest: Mapped[str] = mapped_column(_DIGEST, index=True, comment="Digest of config.json.")
    hidden_size: Mapped[int] = mapped_column(comment="Width of the (first) residual stream.")
    num_layers: Mapped[int] = mapped_column(comment="Blocks of the (first) stack.")


class ArtifactRow(Table):
    """Stored bytes, named by their digest."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True, comment="sha256 of the stored bytes.")
    tensor_digest: Mapped[str] = mapped_column(_DIGEST, index=True, comment="Digest of the tensors alone.")
    kind: Mapped[str] = mapped_column(String(32), comment="What it is: adapter.")
    media_type: Mapped[str] = mapped_column(String(128), comment="Format and major version.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="Size of the stored bytes.")
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_models.id"), index=True, comment="Its base model.")
    method: Mapped[str] = mapped_column(String(64), comment="lora, or the projection that made it.")
    task_type: Mapped[str | None] = mapped_column(_NAME, comment="Task type in PEFT's words.")
    domain: Mapped[str | None] = mapped_column(_LABEL, index=True, comment="The field that it serves.")
    license: Mapped[str | None] = mapped_column(_LABEL, comment="SPDX expression.")
    parameter_count: Mapped[int] = mapped_column(BigInteger, comment="Numbers held by the factors.")
    added_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), comment="When it came here, UTC.")

    base_model: Mapped[BaseModelRow] = relationship(lazy="raise")
    entries: Mapped[list[EntryRow]] = relationship(lazy="raise", cascade="all, delete-orphan")


class EntryRow(Table):
    """One (stack, layer, role) of an artifact."""

    __tablename__ = "entries"
    __table_args__ = (Index("ix_entries_role_rank", "role", "rank"),)

    artifact_digest: Mapped[str] = mapped_column(
        ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True, comment="Its artifact."
    )
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place in the manifest, from 0.")
    stack: Mapped[str | None] = mapped_column(String(16), comment="encoder, decoder or none.")
    layer: Mapped[int | None] = mapped_column(comment="Index of the block, from 0; none outside the blocks.")
    role: Mapped[str] = mapped_column(String(64), comment="What the target module does.")
    rank: Mapped[int] = mapped_column(comment="Rank of the factors.")
    in_features: Mapped[int] = mapped_column(comment="Columns of lora_A.")
    out_features: Mapped[int] = mapped_column(comment="Rows of lora_B.")
    scaling: Mapped[float] = mapped_column(comment="The number that multiplies the product.")


class LineageRow(Table):
    """An edge: the child was made from the parent. The parent need not be here."""

    __tablename__ = "lineage_edges"

    child_digest: Mapped[str] = mapped_column(
        ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True, comment="What was made."
    )
    parent_digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True, index=True, comment="What it was made from.")
    relation: Mapped[str] = mapped_column(String(32), primary_key=True, comment="How, such as projected_from.")


class AdapterRow(Table):
    """A name under which revisions are kept."""

    __tablename__ = "adapters"

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    name: Mapped[str] = mapped_column(_NAME, unique=True, comment="Its name.")
    created_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), comment="First revision, UTC.")


class RevisionRow(Table):
    """An immutable, numbered state of an adapter."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("adapter_id", "number"), UniqueConstraint("adapter_id", "digest"))

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number.")
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), comment="Its adapter.")
    number: Mapped[int] = mapped_column(comment="1, 2, 3, ... in its adapter.")
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True, comment="Its bytes.")
    created_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), comment="When it was added, UTC.")

    adapter: Mapped[AdapterRow] = relationship(lazy="raise")
    artifact: Mapped[ArtifactRow] = relationship(lazy="raise")


class AliasRow(Table):
    """A movable name for one revision of an adapter."""

    __tablename__ = "aliases"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True, comment="Its adapter.")
    name: Mapped[str] = mapped_column(_NAME, primary_key=True, comment="Its name.")
    revision_id: Mapped[int] = mapped_column(ForeignKey("revisions.id"), index=True, comment="Where it points.")


class AuditRow(Table):
    """What was done, in the same transaction as the doing."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True, comment="Row number; the order of events.")
    at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), comment="When, UTC.")
    action: Mapped[str] = mapped_column(String(32), comment="add or alias.")
    adapter_name: Mapped[str] = mapped_column(_NAME, index=True, comment="The adapter.")
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, comment="What exactly.")
