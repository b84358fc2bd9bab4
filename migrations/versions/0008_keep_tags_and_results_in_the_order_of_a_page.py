"""keep tags and results of revisions in the order of a page, so that a page of either is read from one index.

Revision ID: 0008
Revises: 0007

Everything that is added is made from what is there, so that nothing is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TAGS = """
    INSERT INTO tags (revision_id, key, value, adapter_name, number)
    SELECT t.revision_id, t.key, t.value, r.adapter_name, r.number
    FROM old_tags t JOIN revisions r ON r.id = t.revision_id
"""

_RESULTS = """
    INSERT INTO revision_metrics (revision_id, metric, lowest, highest, adapter_name, number)
    SELECT r.id, e.metric, min(e.value), max(e.value), r.adapter_name, r.number
    FROM revisions r JOIN evaluations e ON e.artifact_id = r.artifact_id
    WHERE e.arm = 'adapter' OR e.arm IS NULL GROUP BY r.id, e.metric, r.adapter_name, r.number
"""


def upgrade():
    _remake_tags()
    columns = ["key", "value", "adapter_name", sa.text("number DESC"), "revision_id"]
    op.create_index("ix_tags_key_value", "tags", columns)
    _index_names(postgresql_include=["name"])
    name = _text_type(128)
    op.create_table(
        "revision_metrics",
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Its revision."),
        sa.Column("metric", name, nullable=False, comment="What was measured."),
        sa.Column("lowest", sa.Double(), nullable=False, comment="The least result of the adapter itself."),
        sa.Column("highest", sa.Double(), nullable=False, comment="The greatest one."),
        sa.Column("adapter_name", name, nullable=False, comment="The adapter's name."),
        sa.Column("number", sa.Integer(), nullable=False, comment="The revision's number."),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name="fk_revision_metrics_revision_id_revisions", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision_id", "metric", name="pk_revision_metrics"),
    )
    op.execute(_RESULTS)
    columns = ["metric", "adapter_name", sa.text("number DESC"), "highest", "lowest", "revision_id"]
    op.create_index("ix_revision_metrics_metric", "revision_metrics", columns)


def _remake_tags():
    """Make the table anew: SQLite adds no column that must have a value."""
    op.execute("CREATE TABLE old_tags AS SELECT * FROM tags")
    op.drop_table("tags")
    op.create_table(
        "tags",
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Its revision."),
        sa.Column("key", _text_type(128), nullable=False, comment="The key."),
        sa.Column("value", _text_type(1024), nullable=False, comment="The value; empty where there is none."),
        sa.Column("adapter_name", _text_type(128), nullable=False, comment="The adapter's name."),
        sa.Column("number", sa.Integer(), nullable=False, comment="The revision's number."),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revisions.id"], name="fk_tags_revision_id_revisions", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("revision_id", "key", name="pk_tags"),
    )
    op.execute(_TAGS)
    op.drop_table("old_tags")


def downgrade():
    op.drop_table("revision_metrics")
    _index_names()
    op.drop_index("ix_tags_key_value", "tags")
    op.drop_column("tags", "number")
    op.drop_column("tags", "adapter_name")
    op.create_index("ix_tags_key_value", "tags", ["key", "value", "revision_id"])


def _index_names(**options):
    """Find adapters by name or owner; PostgreSQL then reads their names from the index, too."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for name in ("name", "owner"):
        op.drop_index(f"ix_adapters_{name}_folded", "adapters")
        op.create_index(f"ix_adapters_{name}_folded", "adapters", [sa.text(f"lower({name})")], **options)


def _text_type(length):
    """Text in the order of its code points, whatever the server's locale."""
    return sa.String(length, collation="C" if op.get_bind().dialect.name == "postgresql" else None)
