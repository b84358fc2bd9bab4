"""keep the revisions of a name newest first, as a page has them, and their row numbers in the indexes of searches.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FACETS = (
    "base_model_id",
    "domain_folded",
    "license_folded",
    "method_folded",
    "rank_min",
    "rank_max",
    "recovered_gain",
)


def upgrade():
    _index_all(sa.text("number DESC"), postgresql_include=["id"])


def downgrade():
    _index_all("number")


def _index_all(number, **options):
    """Make the indexes of revisions anew.

    Args:
        number: How the index by names holds the numbers.
        options: Of every index.
    """
    _index("name", "adapter_name", number, "artifact_id", "yanked_at", *_FACETS, **options)
    _index("artifact_id", "artifact_id", "yanked_at", "adapter_name", "number", *_FACETS, **options)
    for name in ("base_model_id", "domain_folded"):
        others = [facet for facet in _FACETS if facet != name]
        _index(name, name, "adapter_name", "number", "artifact_id", "yanked_at", *others, **options)


def _index(name, *columns, **options):
    op.drop_index(f"ix_revisions_{name}", "revisions")
    op.create_index(f"ix_revisions_{name}", "revisions", list(columns), **options)
