"""keep in a revision its owner, aliases and tags as a hit shows them, and find it by its recovered gain.

Revision ID: 0006
Revises: 0005

A page then reads one row for each hit and nothing else. Everything that is added is made from what is there, so that
nothing is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FACETS = ("base_model_id", "domain_folded", "license_folded", "method_folded", "rank_min", "rank_max")

_FILL = """
    UPDATE revisions SET labels = {list}(
        (SELECT owner FROM adapters WHERE adapters.id = adapter_id),
        {json}((
            SELECT {all}(name)
            FROM (SELECT name FROM aliases WHERE revision_id = revisions.id ORDER BY name) AS own_aliases
        ){no_list}),
        {json}((
            SELECT {pairs}(key, value)
            FROM (SELECT key, value FROM tags WHERE revision_id = revisions.id ORDER BY key) AS own_tags
        ){no_pairs})
    ){text}
"""
_FORMS = {
    "sqlite": {
        "list": "json_array",
        "all": "json_group_array",
        "pairs": "json_group_object",
        "json": "json",
        "no_list": "",
        "no_pairs": "",
        "text": "",
    },
    "postgresql": {
        "list": "json_build_array",
        "all": "json_agg",
        "pairs": "json_object_agg",
        "json": "coalesce",
        "no_list": ", '[]'::json",
        "no_pairs": ", '{}'::json",
        "text": "::text",
    },
}


def upgrade():
    comment = "Its owner, aliases and tags, as one JSON text."
    op.add_column("revisions", sa.Column("labels", sa.Text(), comment=comment))
    op.execute(_FILL.format(**_FORMS[op.get_bind().dialect.name]))
    has_gain = sa.text("recovered_gain IS NOT NULL")
    op.create_index(
        "ix_revisions_recovered_gain",
        "revisions",
        ["recovered_gain", "adapter_name", sa.text("number DESC"), "artifact_id", "yanked_at", *_FACETS],
        postgresql_include=["id"],
        postgresql_where=has_gain,
        sqlite_where=has_gain,
    )


def downgrade():
    op.drop_index("ix_revisions_recovered_gain", "revisions")
    op.drop_column("revisions", "labels")
