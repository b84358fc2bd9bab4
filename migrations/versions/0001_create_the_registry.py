"""create the registry.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "adapters",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("name", sa.String(length=128), nullable=False, comment="Its name."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="First revision, UTC."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adapters")),
        sa.UniqueConstraint("name", name=op.f("uq_adapters_name")),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number; the order of events."),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="When, UTC."),
        sa.Column("action", sa.String(length=32), nullable=False, comment="add or alias."),
        sa.Column("adapter_name", sa.String(length=128), nullable=False, comment="The adapter."),
        sa.Column("detail", sa.JSON(), nullable=False, comment="What exactly."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_log_adapter_name"), ["adapter_name"], unique=False)

    op.create_table(
        "base_models",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("label", sa.String(length=4096), nullable=False, comment="Hub id or folder name."),
        sa.Column("revision", sa.String(length=4096), nullable=False, comment="Commit; empty where unpinned."),
        sa.Column("architecture", sa.String(length=128), nullable=False, comment="Binder."),
        sa.Column("model_type", sa.String(length=128), nullable=False, comment="model_type of the config."),
        sa.Column("config_digest", sa.String(length=71), nullable=False, comment="Digest of config.json."),
        sa.Column("hidden_size", sa.Integer(), nullable=False, comment="Width of the (first) residual stream."),
        sa.Column("num_layers", sa.Integer(), nullable=False, comment="Blocks of the (first) stack."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint(
            "config_digest", "label", "revision", "architecture", "model_type", name="uq_base_models_identity"
        ),
    )
    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_base_models_architecture"), ["architecture"], unique=False)
        batch_op.create_index(batch_op.f("ix_base_models_config_digest"), ["config_digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_base_models_label"), ["label"], unique=False)
        batch_op.create_index(batch_op.f("ix_base_models_model_type"), ["model_type"], unique=False)

    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(length=71), nullable=False, comment="sha256 of the stored bytes."),
        sa.Column("tensor_digest", sa.String(length=71), nullable=False, comment="Digest of the tensors alone."),
        sa.Column("kind", sa.String(length=32), nullable=False, comment="What it is: adapter."),
        sa.Column("media_type", sa.String(length=128), nullable=False, comment="Format and major version."),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="Size of the stored bytes."),
        sa.Column("base_model_id", sa.Integer(), nullable=False, comment="Its base model."),
        sa.Column("method", sa.String(length=64), nullable=False, comment="lora, or the projection that made it."),
        sa.Column("task_type", sa.String(length=128), nullable=True, comment="Task type in PEFT's words."),
        sa.Column("domain", sa.String(length=4096), nullable=True, comment="The field that it serves."),
        sa.Column("license", sa.String(length=4096), nullable=True, comment="SPDX expression."),
        sa.Column("parameter_count", sa.BigInteger(), nullable=False, comment="Numbers held by the factors."),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, comment="When it came here, UTC."),
        sa.ForeignKeyConstraint(
            ["base_model_id"], ["base_models.id"], name=op.f("fk_artifacts_base_model_id_base_models")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifacts_base_model_id"), ["base_model_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifacts_domain"), ["domain"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifacts_tensor_digest"), ["tensor_digest"], unique=False)

    op.create_table(
        "entries",
        sa.Column("artifact_digest", sa.String(length=71), nullable=False, comment="Its artifact."),
        sa.Column("position", sa.Integer(), nullable=False, comment="Place in the manifest, from 0."),
        sa.Column("stack", sa.String(length=16), nullable=True, comment="encoder, decoder or none."),
        sa.Column("layer", sa.Integer(), nullable=True, comment="Index of the block, from 0; none outside the blocks."),
        sa.Column("role", sa.String(length=64), nullable=False, comment="What the target module does."),
        sa.Column("rank", sa.Integer(), nullable=False, comment="Rank of the factors."),
        sa.Column("in_features", sa.Integer(), nullable=False, comment="Columns of lora_A."),
        sa.Column("out_features", sa.Integer(), nullable=False, comment="Rows of lora_B."),
        sa.Column("scaling", sa.Double(), nullable=False, comment="The number that multiplies the product."),
        sa.ForeignKeyConstraint(
            ["artifact_digest"],
            ["artifacts.digest"],
            name=op.f("fk_entries_artifact_digest_artifacts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("artifact_digest", "position", name=op.f("pk_entries")),
    )
    with op.batch_alter_table("entries", schema=None) as batch_op:
        batch_op.create_index("ix_entries_role_rank", ["role", "rank"], unique=False)

    op.create_table(
        "lineage_edges",
        sa.Column("child_digest", sa.String(length=71), nullable=False, comment="What was made."),
        sa.Column("parent_digest", sa.String(length=71), nullable=False, comment="What it was made from."),
        sa.Column("relation", sa.String(length=32), nullable=False, comment="How, such as projected_from."),
        sa.ForeignKeyConstraint(
            ["child_digest"],
            ["artifacts.digest"],
            name=op.f("fk_lineage_edges_child_digest_artifacts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("child_digest", "parent_digest", "relation", name=op.f("pk_lineage_edges")),
    )
    with op.batch_alter_table("lineage_edges", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lineage_edges_parent_digest"), ["parent_digest"], unique=False)

    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("adapter_id", sa.Integer(), nullable=False, comment="Its adapter."),
        sa.Column("number", sa.Integer(), nullable=False, comment="1, 2, 3, ... in its adapter."),
        sa.Column("digest", sa.String(length=71), nullable=False, comment="Its bytes."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was added, UTC."),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_revisions_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name=op.f("fk_revisions_digest_artifacts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sa.UniqueConstraint("adapter_id", "digest", name=op.f("uq_revisions_adapter_id_digest")),
        sa.UniqueConstraint("adapter_id", "number", name=op.f("uq_revisions_adapter_id_number")),
    )
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_revisions_digest"), ["digest"], unique=False)

    op.create_table(
        "aliases",
        sa.Column("adapter_id", sa.Integer(), nullable=False, comment="Its adapter."),
        sa.Column("name", sa.String(length=128), nullable=False, comment="Its name."),
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Where it points."),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_aliases_adapter_id_adapters")),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name=op.f("fk_aliases_revision_id_revisions")),
        sa.PrimaryKeyConstraint("adapter_id", "name", name=op.f("pk_aliases")),
    )
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_aliases_revision_id"), ["revision_id"], unique=False)


def downgrade():
    with op.batch_alter_table("aliases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_aliases_revision_id"))

    op.drop_table("aliases")
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_revisions_digest"))

    op.drop_table("revisions")
    with op.batch_alter_table("lineage_edges", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lineage_edges_parent_digest"))

    op.drop_table("lineage_edges")
    with op.batch_alter_table("entries", schema=None) as batch_op:
        batch_op.drop_index("ix_entries_role_rank")

    op.drop_table("entries")
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_artifacts_tensor_digest"))
        batch_op.drop_index(batch_op.f("ix_artifacts_domain"))
        batch_op.drop_index(batch_op.f("ix_artifacts_base_model_id"))

    op.drop_table("artifacts")
    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_base_models_model_type"))
        batch_op.drop_index(batch_op.f("ix_base_models_label"))
        batch_op.drop_index(batch_op.f("ix_base_models_config_digest"))
        batch_op.drop_index(batch_op.f("ix_base_models_architecture"))

    op.drop_table("base_models")
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_log_adapter_name"))

    op.drop_table("audit_log")
    op.drop_table("adapters")
