"""The tables of what a manifest tells of an artifact beside its entries: how it was made, and how good it is."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from ual_registry.registry.tables import DIGEST, LABEL, NAME, TIME, WORD, Table, artifact_key

__all__ = ["DomainRow", "EvaluationRow", "MeasuredRow", "ProjectionRow", "RouterRow", "TrainingRow"]


class ProjectionRow(Table):
    """How an artifact was carried to another base model."""

    __tablename__ = "projection_records"
    __table_args__ = (Index("ix_projection_records_method", "method", "artifact_id"),)

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place in the provenance, from 0.")
    method: Mapped[str] = mapped_column(WORD, comment="The projection's name.")
    source_digest: Mapped[str | None] = mapped_column(DIGEST, index=True, comment="The adapter that was projected.")
    source_base: Mapped[str | None] = mapped_column(LABEL, comment="Its base model's label.")
    source_config_digest: Mapped[str | None] = mapped_column(DIGEST, comment="Its base model's config.")
    target_config_digest: Mapped[str | None] = mapped_column(DIGEST, comment="The new base model's config.")
    energy_kept: Mapped[float | None] = mapped_column(comment="Mean share of the update's energy kept, 0 to 1.")
    rank_in: Mapped[int | None] = mapped_column(comment="Largest rank before.")
    rank_out: Mapped[int | None] = mapped_column(comment="Largest rank after.")
    recovered_gain: Mapped[float | None] = mapped_column(comment="Share of the source's gain kept, where measured.")
    created_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When it was made, UTC.")
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON, comment="What it was asked for.")


class TrainingRow(Table):
    """How an artifact was trained."""

    __tablename__ = "training_records"

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place in the provenance, from 0.")
    builder: Mapped[str] = mapped_column(LABEL, comment="Tool and version.")
    data_digest: Mapped[str | None] = mapped_column(DIGEST, index=True, comment="The training data.")
    seed: Mapped[int | None] = mapped_column(BigInteger, comment="Seed of the random numbers.")
    steps: Mapped[int | None] = mapped_column(BigInteger, comment="Optimiser steps.")
    final_loss: Mapped[float | None] = mapped_column(comment="Held-out loss at the end, in nats a token.")
    created_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When it was made, UTC.")
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON, comment="What it was asked for.")
    byproducts: Mapped[dict[str, Any]] = mapped_column(JSON, comment="What was measured on the way.")


class EvaluationRow(Table):
    """One measured number of an artifact."""

    __tablename__ = "evaluations"
    __table_args__ = (Index("ix_evaluations_metric_value", "metric", "value", "artifact_id", "arm"),)

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place among the results, from 0.")
    metric: Mapped[str] = mapped_column(NAME, comment="What was measured.")
    value: Mapped[float] = mapped_column(comment="The result.")
    low: Mapped[float | None] = mapped_column(comment="Lower end of its interval.")
    high: Mapped[float | None] = mapped_column(comment="Upper end of its interval.")
    sample_count: Mapped[int | None] = mapped_column(BigInteger, comment="Examples.")
    data_digest: Mapped[str | None] = mapped_column(DIGEST, index=True, comment="The data.")
    arm: Mapped[str | None] = mapped_column(NAME, comment="Which model was measured, such as base.")
    created_at: Mapped[datetime.datetime | None] = mapped_column(TIME, comment="When it was measured, UTC.")


class MeasuredRow(Table):
    """The least and the greatest result of a metric of a revision, with what its revisions are sorted by on a page."""

    __tablename__ = "revision_metrics"

    revision_id: Mapped[int] = mapped_column(
        ForeignKey("revisions.id", ondelete="CASCADE"), primary_key=True, comment="Its revision."
    )
    metric: Mapped[str] = mapped_column(NAME, primary_key=True, comment="What was measured.")
    lowest: Mapped[float] = mapped_column(comment="The least result of the adapter itself.")
    highest: Mapped[float] = mapped_column(comment="The greatest one.")
    adapter_name: Mapped[str] = mapped_column(NAME, comment="The adapter's name.")
    number: Mapped[int] = mapped_column(comment="The revision's number.")


_RESULTS = (MeasuredRow.highest, MeasuredRow.lowest, MeasuredRow.revision_id)
Index("ix_revision_metrics_metric", MeasuredRow.metric, MeasuredRow.adapter_name, MeasuredRow.number.desc(), *_RESULTS)


class RouterRow(Table):
    """What a router artifact is made of."""

    __tablename__ = "router_records"

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    encoder: Mapped[str] = mapped_column(LABEL, comment="Label of the sentence encoder.")
    encoder_digest: Mapped[str | None] = mapped_column(DIGEST, comment="Its weights, where known.")
    embedding_size: Mapped[int] = mapped_column(comment="Width of an embedding, in features.")


class DomainRow(Table):
    """A domain that a router sends queries to."""

    __tablename__ = "domain_records"
    __table_args__ = (Index("ix_domain_records_name", "name", "artifact_id"),)

    artifact_id: Mapped[int] = artifact_key(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place in the router, from 0.")
    name: Mapped[str] = mapped_column(LABEL, comment="Its name.")
    adapter: Mapped[str | None] = mapped_column(LABEL, comment="The adapter that serves it, as the router names it.")
    adapter_digest: Mapped[str | None] = mapped_column(DIGEST, index=True, comment="That adapter, where pinned.")
