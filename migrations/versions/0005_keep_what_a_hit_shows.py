"""keep in a revision what a hit shows of its artifact, and read indexes in the order of pages.

Revision ID: 0005
Revises: 0004

A page then reads one row for each hit; as that is longer now, PostgreSQL finds what sorts revisions in an index of
their row numbers. The index by domains holds the newest revisions of a name first, as the one by
names does. PostgreSQL's index of words is made of the texts themselves, so that their table is half as large.
Everything that is added is made from what is there, so that nothing is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FACETS = ("base_model_id", "license_folded", "method_folded", "rank_min", "rank_max", "recovered_gain")

_FILL = """
    UPDATE revisions SET
        targets = (SELECT a.targets FROM artifacts a WHERE a.id = artifact_id),
        shown = (
            SELECT {list}(
                a.digest, a.kind, a.title, a.method, a.domain, a.license, a.parameter_count, a.size_bytes,
                {measurements}, (SELECT b.label FROM base_models b WHERE b.id = a.base_model_id),
                (SELECT b.architecture FROM base_models b WHERE b.id = a.base_model_id)
            ){text}
            FROM artifacts a WHERE a.id = artifact_id
        )
"""
_FORMS = {
    "sqlite": {"list": "json_array", "measurements": "json(a.measurements)", "text": ""},
    "postgresql": {"list": "json_build_array", "measurements": "CAST(a.measurements AS json)", "text": "::text"},
}


def upgrade():
    op.add_column("revisions", sa.Column("targets", sa.Text(), comment="Its artifact's rows of artifact_roles."))
    comment = "What else a hit shows of its artifact, as one JSON text."
    op.add_column("revisions", sa.Column("shown", sa.Text(), comment=comment))
    op.execute(_FILL.format(**_FORMS[op.get_bind().dialect.name]))
    _index_domains(sa.text("number DESC"))
    op.create_index("ix_revisions_id", "revisions", ["id"], postgresql_include=["adapter_name", "number", "yanked_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX ix_revision_texts_words")
        op.execute("ALTER TABLE revision_texts DROP COLUMN words")
        op.execute("CREATE INDEX ix_revision_texts_words ON revision_texts USING gin (to_tsvector('simple', body))")


def downgrade():
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX ix_revision_texts_words")
        op.execute(
            "ALTER TABLE revision_texts "
            "ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED"
        )
        op.execute("CREATE INDEX ix_revision_texts_words ON revision_texts USING gin (words)")
    _index_domains("number")
    op.drop_index("ix_revisions_id", "revisions")
    for name in ("shown", "targets"):
        op.drop_column("revisions", name)


def _index_domains(number):
    """Make the index anew; ``number`` says how it holds the numbers of a name."""
    op.drop_index("ix_revisions_domain_folded", "revisions")
    columns = ["domain_folded", "adapter_name", number, "artifact_id", "yanked_at", *_FACETS]
    op.create_index("ix_revisions_domain_folded", "revisions", columns, postgresql_include=["id"])
