"""name artifacts by number, describe them in full, and keep what is said about revisions.

Revision ID: 0002
Revises: 0001

The tables of 0001 are moved aside without their constraints, whose names the new ones take, and copied over by the
database itself. Going down keeps what 0001 could hold and loses the rest: tags, yanks, records, tombstones.
"""

import re
import unicodedata

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD = ("aliases", "revisions", "lineage_edges", "entries", "artifacts", "base_models", "audit_log", "adapters")
_NEW = (
    "tags",
    "revision_texts",
    "aliases",
    "training_records",
    "router_records",
    "revisions",
    "projection_records",
    "hub_links",
    "evaluations",
    "entries",
    "domain_records",
    "attestations",
    "artifact_roles",
    "artifacts",
    "lineage_edges",
    "blobs",
    "base_models",
    "audit_log",
    "adapters",
)


def upgrade():
    _set_aside(_OLD)
    _create_new()
    for statement in _COPY_UP:
        op.execute(statement)
    _write_texts()
    _finish(_OLD, ("adapters", "artifacts", "base_models", "revisions", "audit_log"))
    for statement in _FULL_TEXT[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade():
    for statement in _NO_FULL_TEXT[op.get_bind().dialect.name]:
        op.execute(statement)
    _set_aside(_NEW)
    context.script.get_revision("0001").module.upgrade()
    for statement in _COPY_DOWN:
        op.execute(statement)
    _finish(_NEW, ("adapters", "base_models", "revisions", "audit_log"))


def _write_texts():
    """Write the words of every revision: runs of letters and digits, without accents and in lower case."""
    texts = sa.table("revision_texts", sa.column("revision_id"), sa.column("body"))
    named = "SELECT r.id, r.adapter_name, a.domain FROM revisions r JOIN artifacts a ON a.id = r.artifact_id"
    found = op.get_bind().execute(sa.text(named)).all()
    rows = [{"revision_id": row[0], "body": " ".join(_words(f"{row[1]} {row[2] or ''}"))} for row in found]
    if rows:
        op.get_bind().execute(texts.insert(), rows)


def _words(text):
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [word[:64] for word in re.findall(r"[^\W_]+", plain.casefold())]


def _set_aside(tables):
    """Copy every table to one without constraints, and drop it; children come before their parents."""
    for name in tables:
        op.execute(f"CREATE TABLE aside_{name} AS SELECT * FROM {name}")
        op.drop_table(name)


def _finish(tables, numbered):
    """Drop the copies, and let the counters of PostgreSQL go on after the rows that came with their numbers."""
    for name in tables:
        op.drop_table(f"aside_{name}")
    if op.get_bind().dialect.name == "postgresql":
        for name in numbered:
            op.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "
                f"coalesce((SELECT max(id) FROM {name}), 0) + 1, false)"
            )


_COPY_UP = (
    """
    INSERT INTO base_models
        (id, label, revision, architecture, model_type, config_digest, hidden_size, num_layers)
    SELECT id, label, revision, architecture, model_type, config_digest, hidden_size, num_layers
    FROM aside_base_models
    """,
    """
    INSERT INTO blobs (digest, size_bytes, stored_at) SELECT digest, size_bytes, added_at FROM aside_artifacts
    """,
    """
    INSERT INTO artifacts
        (id, digest, tensor_digest, kind, media_type, size_bytes, base_model_id, method, task_type, domain, license,
         parameter_count, entry_count, rank_min, rank_max, added_at)
    SELECT row_number() OVER (ORDER BY a.added_at, a.digest), a.digest, a.tensor_digest, a.kind, a.media_type,
        a.size_bytes, a.base_model_id, a.method, a.task_type, a.domain, a.license, a.parameter_count,
        coalesce(e.entry_count, 0), e.rank_min, e.rank_max, a.added_at
    FROM aside_artifacts a
    LEFT JOIN (
        SELECT artifact_digest, count(*) AS entry_count, min(rank) AS rank_min, max(rank) AS rank_max
        FROM aside_entries GROUP BY artifact_digest
    ) e ON e.artifact_digest = a.digest
    """,
    """
    INSERT INTO entries
        (artifact_id, position, stack, layer, role, rank, in_features, out_features, scaling)
    SELECT a.id, e.position, e.stack, e.layer, e.role, e.rank, e.in_features, e.out_features, e.scaling
    FROM aside_entries e JOIN artifacts a ON a.digest = e.artifact_digest
    """,
    """
    INSERT INTO artifact_roles (artifact_id, stack, role, rank, entry_count, layer_min, layer_max)
    SELECT artifact_id, coalesce(stack, ''), role, rank, count(*), min(layer), max(layer)
    FROM entries GROUP BY artifact_id, coalesce(stack, ''), role, rank
    """,
    """
    INSERT INTO lineage_edges (child_digest, parent_digest, relation)
    SELECT child_digest, parent_digest, relation FROM aside_lineage_edges WHERE child_digest <> parent_digest
    """,
    """
    INSERT INTO adapters (id, name, newest, created_at)
    SELECT d.id, d.name,
        coalesce((SELECT max(number) FROM aside_revisions r WHERE r.adapter_id = d.id), 0), d.created_at
    FROM aside_adapters d
    """,
    """
    INSERT INTO revisions (id, adapter_id, adapter_name, number, artifact_id, created_at)
    SELECT r.id, r.adapter_id, d.name, r.number, a.id, r.created_at
    FROM aside_revisions r JOIN adapters d ON d.id = r.adapter_id JOIN artifacts a ON a.digest = r.digest
    """,
    """
    INSERT INTO aliases (adapter_id, name, revision_id, is_protected, moved_at)
    SELECT l.adapter_id, l.name, l.revision_id, false, r.created_at
    FROM aside_aliases l JOIN revisions r ON r.id = l.revision_id
    """,
    """
    INSERT INTO audit_log (id, at, actor, action, adapter_name, detail)
    SELECT id, at, '', action, adapter_name, detail FROM aside_audit_log
    """,
)

_COPY_DOWN = (
    """
    INSERT INTO base_models
        (id, label, revision, architecture, model_type, config_digest, hidden_size, num_layers)
    SELECT id, label, revision, architecture, model_type, config_digest, hidden_size, num_layers
    FROM aside_base_models
    """,
    """
    INSERT INTO artifacts
        (digest, tensor_digest, kind, media_type, size_bytes, base_model_id, method, task_type, domain, license,
         parameter_count, added_at)
    SELECT digest, tensor_digest, kind, media_type, size_bytes, base_model_id, method, task_type, domain, license,
        parameter_count, added_at
    FROM aside_artifacts WHERE base_model_id IS NOT NULL AND deleted_at IS NULL
    """,
    """
    INSERT INTO entries
        (artifact_digest, position, stack, layer, role, rank, in_features, out_features, scaling)
    SELECT a.digest, e.position, e.stack, e.layer, e.role, e.rank, e.in_features, e.out_features, e.scaling
    FROM aside_entries e JOIN aside_artifacts a ON a.id = e.artifact_id JOIN artifacts k ON k.digest = a.digest
    """,
    """
    INSERT INTO lineage_edges (child_digest, parent_digest, relation)
    SELECT l.child_digest, l.parent_digest, l.relation
    FROM aside_lineage_edges l JOIN artifacts a ON a.digest = l.child_digest
    """,
    """
    INSERT INTO adapters (id, name, created_at) SELECT id, name, created_at FROM aside_adapters
    """,
    """
    INSERT INTO revisions (id, adapter_id, number, digest, created_at)
    SELECT r.id, r.adapter_id, r.number, a.digest, r.created_at
    FROM aside_revisions r JOIN aside_artifacts a ON a.id = r.artifact_id JOIN artifacts k ON k.digest = a.digest
    """,
    """
    INSERT INTO aliases (adapter_id, name, revision_id)
    SELECT l.adapter_id, l.name, l.revision_id FROM aside_aliases l JOIN revisions r ON r.id = l.revision_id
    """,
    """
    INSERT INTO audit_log (id, at, action, adapter_name, detail)
    SELECT id, at, action, adapter_name, detail FROM aside_audit_log
    """,
)

_FULL_TEXT = {
    "sqlite": (
        """
        CREATE VIRTUAL TABLE revision_texts_fts
        USING fts5(body, content='revision_texts', content_rowid='revision_id')
        """,
        "INSERT INTO revision_texts_fts (rowid, body) SELECT revision_id, body FROM revision_texts",
        """
        CREATE TRIGGER revision_texts_added AFTER INSERT ON revision_texts BEGIN
            INSERT INTO revision_texts_fts (rowid, body) VALUES (new.revision_id, new.body);
        END
        """,
        """
        CREATE TRIGGER revision_texts_removed AFTER DELETE ON revision_texts BEGIN
            INSERT INTO revision_texts_fts (revision_texts_fts, rowid, body)
            VALUES ('delete', old.revision_id, old.body);
        END
        """,
        """
        CREATE TRIGGER revision_texts_changed AFTER UPDATE ON revision_texts BEGIN
            INSERT INTO revision_texts_fts (revision_texts_fts, rowid, body)
            VALUES ('delete', old.revision_id, old.body);
            INSERT INTO revision_texts_fts (rowid, body) VALUES (new.revision_id, new.body);
        END
        """,
    ),
    "postgresql": (
        """
        ALTER TABLE revision_texts
        ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED
        """,
        "CREATE INDEX ix_revision_texts_words ON revision_texts USING gin (words)",
    ),
}
_NO_FULL_TEXT = {
    "sqlite": (
        "DROP TRIGGER revision_texts_added",
        "DROP TRIGGER revision_texts_removed",
        "DROP TRIGGER revision_texts_changed",
        "DROP TABLE revision_texts_fts",
    ),
    "postgresql": ("DROP INDEX ix_revision_texts_words",),
}


def _text_type(length):
    """Text in the order of its code points, whatever the server's locale."""
    return sa.String(length, collation="C" if op.get_bind().dialect.name == "postgresql" else None)


def _create_new():
    op.create_table(
        "adapters",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("name", _text_type(128), nullable=False, comment="Its name, which never changes."),
        sa.Column("owner", _text_type(4096), nullable=True, comment="Who answers for it."),
        sa.Column("description", sa.Text(), nullable=True, comment="What it is for."),
        sa.Column("newest", sa.Integer(), nullable=False, comment="Number of its newest revision; 0 before the first."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="First revision, UTC."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("name", name=op.f("uq_adapters_name")),
    )
    op.create_index("ix_adapters_name_folded", "adapters", [sa.text("lower(name)")], unique=False)
    op.create_index("ix_adapters_owner_folded", "adapters", [sa.text("lower(owner)")], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number; the order of events."),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="When, UTC."),
        sa.Column("actor", _text_type(4096), nullable=False, comment="Who, as the system names the user."),
        sa.Column("action", _text_type(32), nullable=False, comment="add, alias, tag, yank, gc, ..."),
        sa.Column("adapter_name", _text_type(128), nullable=False, comment="The adapter; empty where there is none."),
        sa.Column("digest", _text_type(71), nullable=True, comment="The artifact, where there is one."),
        sa.Column("detail", sa.JSON(), nullable=False, comment="What exactly."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_adapter_name", "audit_log", ["adapter_name", "id"], unique=False)
    op.create_index(op.f("ix_audit_log_digest"), "audit_log", ["digest"], unique=False)
    op.create_table(
        "base_models",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("label", _text_type(4096), nullable=False, comment="Hub id or folder name."),
        sa.Column("revision", _text_type(4096), nullable=False, comment="Commit; empty where unpinned."),
        sa.Column("architecture", _text_type(128), nullable=False, comment="Binder."),
        sa.Column("model_type", _text_type(128), nullable=False, comment="model_type of the config."),
        sa.Column("config_digest", _text_type(71), nullable=False, comment="Digest of config.json."),
        sa.Column("weights_digest", _text_type(71), nullable=True, comment="Digest of the weights, where known."),
        sa.Column("vocab_size", sa.Integer(), nullable=True, comment="Rows of the token embedding."),
        sa.Column("hidden_size", sa.Integer(), nullable=False, comment="Width of the residual stream, in features."),
        sa.Column("num_layers", sa.Integer(), nullable=False, comment="Blocks."),
        sa.Column("num_attention_heads", sa.Integer(), nullable=True, comment="Query heads."),
        sa.Column("num_key_value_heads", sa.Integer(), nullable=True, comment="Key and value heads."),
        sa.Column("head_dim", sa.Integer(), nullable=True, comment="Width of one head, in features."),
        sa.Column("intermediate_size", sa.Integer(), nullable=True, comment="Width of the MLP, in features."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint(
            "config_digest", "label", "revision", "architecture", "model_type", name="uq_base_models_identity"
        ),
    )
    op.create_index(op.f("ix_base_models_architecture"), "base_models", ["architecture"], unique=False)
    op.create_index(op.f("ix_base_models_config_digest"), "base_models", ["config_digest"], unique=False)
    op.create_index(op.f("ix_base_models_label"), "base_models", ["label"], unique=False)
    op.create_index(op.f("ix_base_models_model_type"), "base_models", ["model_type"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("digest", _text_type(71), nullable=False, comment="sha256 of the bytes."),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="Their size."),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False, comment="When they came here, UTC."),
        sa.Column(
            "verified_at", sa.DateTime(timezone=True), nullable=True, comment="When fsck last re-hashed them, UTC."
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_blobs")),
    )
    op.create_table(
        "lineage_edges",
        sa.Column("child_digest", _text_type(71), nullable=False, comment="What was made."),
        sa.Column("parent_digest", _text_type(71), nullable=False, comment="What it was made from."),
        sa.Column("relation", _text_type(32), nullable=False, comment="How, such as projected_from."),
        sa.CheckConstraint("child_digest <> parent_digest", name=op.f("ck_lineage_edges_not_itself")),
        sa.PrimaryKeyConstraint("child_digest", "parent_digest", "relation", name=op.f("pk_lineage_edges")),
    )
    op.create_index("ix_lineage_edges_parent_digest", "lineage_edges", ["parent_digest", "child_digest"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("digest", _text_type(71), nullable=False, comment="sha256 of the stored bytes."),
        sa.Column("tensor_digest", _text_type(71), nullable=False, comment="Digest of the tensors alone."),
        sa.Column("kind", _text_type(32), nullable=False, comment="What it is: adapter or router."),
        sa.Column("media_type", _text_type(128), nullable=False, comment="Format and major version."),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="Size of the stored bytes."),
        sa.Column("base_model_id", sa.Integer(), nullable=True, comment="Its base model; none for a router."),
        sa.Column("title", _text_type(4096), nullable=True, comment="The name that the manifest gives it."),
        sa.Column("description", sa.Text(), nullable=True, comment="The description of the manifest."),
        sa.Column("method", _text_type(64), nullable=False, comment="lora, or the projection that made it."),
        sa.Column("task_type", _text_type(128), nullable=True, comment="Task type in PEFT's words."),
        sa.Column("domain", _text_type(4096), nullable=True, comment="The field that it serves."),
        sa.Column("license", _text_type(4096), nullable=True, comment="SPDX expression."),
        sa.Column("parameter_count", sa.BigInteger(), nullable=False, comment="Numbers held by the factors."),
        sa.Column("entry_count", sa.Integer(), nullable=False, comment="How many entries it has."),
        sa.Column("rank_min", sa.Integer(), nullable=True, comment="The smallest rank of an entry."),
        sa.Column("rank_max", sa.Integer(), nullable=True, comment="The largest rank of an entry."),
        sa.Column(
            "recovered_gain",
            sa.Double(),
            nullable=True,
            comment="Share of the source's gain that a transfer kept, where measured.",
        ),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, comment="When it came here, UTC."),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True, comment="When its bytes were deleted, UTC."),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_artifacts_base_model_id_base_models")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("digest", name=op.f("uq_artifacts_digest")),
    )
    op.create_index(op.f("ix_artifacts_base_model_id"), "artifacts", ["base_model_id"], unique=False)
    op.create_index("ix_artifacts_domain_folded", "artifacts", [sa.text("lower(domain)")], unique=False)
    op.create_index("ix_artifacts_license_folded", "artifacts", [sa.text("lower(license)")], unique=False)
    op.create_index("ix_artifacts_title_folded", "artifacts", [sa.text("lower(title)")], unique=False)
    op.create_index("ix_artifacts_method_folded", "artifacts", [sa.text("lower(method)")], unique=False)
    op.create_index("ix_artifacts_parameter_count", "artifacts", ["parameter_count"], unique=False)
    op.create_index("ix_artifacts_rank", "artifacts", ["rank_max", "rank_min"], unique=False)
    op.create_index(op.f("ix_artifacts_recovered_gain"), "artifacts", ["recovered_gain"], unique=False)
    op.create_index(op.f("ix_artifacts_size_bytes"), "artifacts", ["size_bytes"], unique=False)
    op.create_index(op.f("ix_artifacts_tensor_digest"), "artifacts", ["tensor_digest"], unique=False)
    op.create_table(
        "artifact_roles",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("stack", _text_type(16), nullable=False, comment="encoder, decoder or empty."),
        sa.Column("role", _text_type(64), nullable=False, comment="What the target modules do."),
        sa.Column("rank", sa.Integer(), nullable=False, comment="Rank of the factors."),
        sa.Column("entry_count", sa.Integer(), nullable=False, comment="How many entries."),
        sa.Column("layer_min", sa.Integer(), nullable=True, comment="The first block; none outside the blocks."),
        sa.Column("layer_max", sa.Integer(), nullable=True, comment="The last block; none outside the blocks."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_artifact_roles_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", "stack", "role", "rank", name=op.f("pk_artifact_roles")),
    )
    op.create_index("ix_artifact_roles_role", "artifact_roles", ["role", "artifact_id"], unique=False)
    op.create_table(
        "attestations",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column(
            "predicate_type", _text_type(4096), nullable=False, comment="What the statement says something about."
        ),
        sa.Column("signer", _text_type(4096), nullable=True, comment="Who signed it."),
        sa.Column("statement_digest", _text_type(71), nullable=False, comment="Digest of the envelope."),
        sa.Column("envelope", sa.JSON(), nullable=False, comment="The envelope."),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, comment="When it came here, UTC."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_attestations_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attestations")),
        sa.UniqueConstraint(
            "artifact_id", "statement_digest", name=op.f("uq_attestations_artifact_id_statement_digest")
        ),
    )
    op.create_table(
        "domain_records",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the router, from 0."),
        sa.Column("name", _text_type(4096), nullable=False, comment="Its name."),
        sa.Column(
            "adapter",
            _text_type(4096),
            nullable=True,
            comment="The adapter that serves it, as the router names it.",
        ),
        sa.Column("adapter_digest", _text_type(71), nullable=True, comment="That adapter, where pinned."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_domain_records_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_domain_records")),
    )
    op.create_index(op.f("ix_domain_records_adapter_digest"), "domain_records", ["adapter_digest"], unique=False)
    op.create_index("ix_domain_records_name", "domain_records", ["name", "artifact_id"], unique=False)
    op.create_table(
        "entries",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the manifest, from 0."),
        sa.Column("stack", _text_type(16), nullable=True, comment="encoder, decoder or none."),
        sa.Column("layer", sa.Integer(), nullable=True, comment="Index of the block, from 0; none outside the blocks."),
        sa.Column("role", _text_type(64), nullable=False, comment="What the target module does."),
        sa.Column(
            "expert", sa.Integer(), nullable=True, comment="Index of the expert; none outside a mixture of experts."
        ),
        sa.Column("rank", sa.Integer(), nullable=False, comment="Rank of the factors."),
        sa.Column("in_features", sa.Integer(), nullable=False, comment="Columns of lora_A."),
        sa.Column("out_features", sa.Integer(), nullable=False, comment="Rows of lora_B."),
        sa.Column("scaling", sa.Double(), nullable=False, comment="The number that multiplies the product."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_entries_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_entries")),
    )
    op.create_table(
        "evaluations",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place among the results, from 0."),
        sa.Column("metric", _text_type(128), nullable=False, comment="What was measured."),
        sa.Column("value", sa.Double(), nullable=False, comment="The result."),
        sa.Column("low", sa.Double(), nullable=True, comment="Lower end of its interval."),
        sa.Column("high", sa.Double(), nullable=True, comment="Upper end of its interval."),
        sa.Column("sample_count", sa.BigInteger(), nullable=True, comment="Examples."),
        sa.Column("data_digest", _text_type(71), nullable=True, comment="The data."),
        sa.Column("arm", _text_type(128), nullable=True, comment="Which model was measured, such as base."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True, comment="When it was measured, UTC."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_evaluations_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_evaluations")),
    )
    op.create_index(op.f("ix_evaluations_data_digest"), "evaluations", ["data_digest"], unique=False)
    op.create_index("ix_evaluations_metric_value", "evaluations", ["metric", "value", "artifact_id"], unique=False)
    op.create_table(
        "hub_links",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("repository", _text_type(4096), nullable=False, comment="Hub repository."),
        sa.Column("commit", _text_type(64), nullable=False, comment="Commit of the repository."),
        sa.Column("path", _text_type(4096), nullable=False, comment="File in the repository."),
        sa.Column("direction", _text_type(8), nullable=False, comment="push or pull."),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="When, UTC."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_hub_links_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_links")),
        sa.UniqueConstraint(
            "artifact_id",
            "repository",
            "commit",
            "path",
            "direction",
            name=op.f("uq_hub_links_artifact_id_repository_commit_path_direction"),
        ),
    )
    op.create_index(op.f("ix_hub_links_repository"), "hub_links", ["repository"], unique=False)
    op.create_table(
        "projection_records",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the provenance, from 0."),
        sa.Column("method", _text_type(64), nullable=False, comment="The projection's name."),
        sa.Column("source_digest", _text_type(71), nullable=True, comment="The adapter that was projected."),
        sa.Column("source_base", _text_type(4096), nullable=True, comment="Its base model's label."),
        sa.Column("source_config_digest", _text_type(71), nullable=True, comment="Its base model's config."),
        sa.Column("target_config_digest", _text_type(71), nullable=True, comment="The new base model's config."),
        sa.Column("energy_kept", sa.Double(), nullable=True, comment="Mean share of the update's energy kept, 0 to 1."),
        sa.Column("rank_in", sa.Integer(), nullable=True, comment="Largest rank before."),
        sa.Column("rank_out", sa.Integer(), nullable=True, comment="Largest rank after."),
        sa.Column(
            "recovered_gain", sa.Double(), nullable=True, comment="Share of the source's gain kept, where measured."
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True, comment="When it was made, UTC."),
        sa.Column("parameters", sa.JSON(), nullable=False, comment="What it was asked for."),
        sa.ForeignKeyConstraint(
            ["artifact_id"],
            ["artifacts.id"],
            name=op.f("fk_projection_records_artifact_id_artifacts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_projection_records")),
    )
    op.create_index("ix_projection_records_method", "projection_records", ["method", "artifact_id"], unique=False)
    op.create_index(op.f("ix_projection_records_source_digest"), "projection_records", ["source_digest"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("adapter_id", sa.Integer(), nullable=False, comment="Its adapter."),
        sa.Column("adapter_name", _text_type(128), nullable=False, comment="The adapter's name."),
        sa.Column("number", sa.Integer(), nullable=False, comment="1, 2, 3, ... in its adapter."),
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its bytes."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was added, UTC."),
        sa.Column("yanked_at", sa.DateTime(timezone=True), nullable=True, comment="When it was hidden, UTC."),
        sa.Column("yank_reason", _text_type(4096), nullable=True, comment="Why it was hidden."),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_revisions_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_revisions_artifact_id_artifacts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("adapter_id", "artifact_id", name=op.f("uq_revisions_adapter_id_artifact_id")),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_revisions_adapter_id_number")),
    )
    op.create_index(
        "ix_revisions_artifact_id", "revisions", ["artifact_id", "yanked_at", "adapter_name", "number"], unique=False
    )
    op.create_index("ix_revisions_created_at", "revisions", ["created_at", "id"], unique=False)
    op.create_index(
        "ix_revisions_name", "revisions", ["adapter_name", "number", "artifact_id", "yanked_at"], unique=False
    )
    op.create_table(
        "router_records",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("encoder", _text_type(4096), nullable=False, comment="Label of the sentence encoder."),
        sa.Column("encoder_digest", _text_type(71), nullable=True, comment="Its weights, where known."),
        sa.Column("embedding_size", sa.Integer(), nullable=False, comment="Width of an embedding, in features."),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifacts.id"], name=op.f("fk_router_records_artifact_id_artifacts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", name=op.f("pk_router_records")),
    )
    op.create_table(
        "training_records",
        sa.Column("artifact_id", sa.Integer(), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the provenance, from 0."),
        sa.Column("builder", _text_type(4096), nullable=False, comment="Tool and version."),
        sa.Column("data_digest", _text_type(71), nullable=True, comment="The training data."),
        sa.Column("seed", sa.BigInteger(), nullable=True, comment="Seed of the random numbers."),
        sa.Column("steps", sa.BigInteger(), nullable=True, comment="Optimiser steps."),
        sa.Column("final_loss", sa.Double(), nullable=True, comment="Held-out loss at the end, in nats a token."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True, comment="When it was made, UTC."),
        sa.Column("parameters", sa.JSON(), nullable=False, comment="What it was asked for."),
        sa.Column("byproducts", sa.JSON(), nullable=False, comment="What was measured on the way."),
        sa.ForeignKeyConstraint(
            ["artifact_id"],
            ["artifacts.id"],
            name=op.f("fk_training_records_artifact_id_artifacts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("artifact_id", "position", name=op.f("pk_training_records")),
    )
    op.create_index(op.f("ix_training_records_data_digest"), "training_records", ["data_digest"], unique=False)
    op.create_table(
        "aliases",
        sa.Column("adapter_id", sa.Integer(), nullable=False, comment="Its adapter."),
        sa.Column("name", _text_type(128), nullable=False, comment="Its name."),
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Where it points."),
        sa.Column(
            "is_protected", sa.Boolean(), nullable=False, comment="Whether it only moves by force and with a reason."
        ),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, comment="When it last moved, UTC."),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_aliases_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_aliases_revision_id_revisions")),
        sa.PrimaryKeyConstraint("adapter_id", "name", name=op.f("pk_aliases")),
    )
    op.create_index(op.f("ix_aliases_revision_id"), "aliases", ["revision_id"], unique=False)
    op.create_table(
        "revision_texts",
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Its revision."),
        sa.Column("body", sa.Text(), nullable=False, comment="The words."),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_revision_texts_revision_id_revisions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision_id", name=op.f("pk_revision_texts")),
    )
    op.create_table(
        "tags",
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Its revision."),
        sa.Column("key", _text_type(128), nullable=False, comment="The key."),
        sa.Column("value", _text_type(1024), nullable=False, comment="The value; empty where there is none."),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name=op.f("fk_tags_revision_id_revisions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision_id", "key", name=op.f("pk_tags")),
    )
    op.create_index("ix_tags_key_value", "tags", ["key", "value", "revision_id"], unique=False)
