"""keep in a revision what most searches ask of its artifact, and in an artifact what a hit shows of it.

Revision ID: 0003
Revises: 0002

Everything that is added is made from what is there, so that nothing is lost on the way down.
"""

import itertools
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
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
_ORDER = ("adapter_name", "number", "artifact_id", "yanked_at")
_BATCH = 5_000

_FILL = """
    UPDATE revisions SET
        base_model_id = (SELECT base_model_id FROM artifacts a WHERE a.id = artifact_id),
        domain_folded = (SELECT lower(domain) FROM artifacts a WHERE a.id = artifact_id),
        license_folded = (SELECT lower(license) FROM artifacts a WHERE a.id = artifact_id),
        method_folded = (SELECT lower(method) FROM artifacts a WHERE a.id = artifact_id),
        rank_min = (SELECT a.rank_min FROM artifacts a WHERE a.id = artifact_id),
        rank_max = (SELECT a.rank_max FROM artifacts a WHERE a.id = artifact_id),
        recovered_gain = (SELECT a.recovered_gain FROM artifacts a WHERE a.id = artifact_id)
"""

_TARGETS = """
    SELECT artifact_id, stack, role, rank, entry_count, layer_min, layer_max FROM artifact_roles
    WHERE artifact_id BETWEEN :first AND :last ORDER BY artifact_id, stack, role, rank
"""
_MEASUREMENTS = """
    SELECT artifact_id, metric, value, low, high, sample_count, arm FROM evaluations
    WHERE artifact_id BETWEEN :first AND :last ORDER BY artifact_id, position
"""


def upgrade():
    for column in _columns():
        op.add_column("revisions", column)
    for name, comment in (("targets", "artifact_roles"), ("measurements", "evaluations")):
        op.add_column("artifacts", sa.Column(name, sa.Text(), comment=f"Its rows of {comment}, as one JSON text."))
    for name in ("ix_revisions_name", "ix_revisions_artifact_id"):
        op.drop_index(name, "revisions")
    op.execute(_FILL)
    _write_texts("targets", _TARGETS)
    _write_texts("measurements", _MEASUREMENTS)
    op.create_index("ix_revisions_name", "revisions", [*_ORDER, *_FACETS])
    op.create_index(
        "ix_revisions_artifact_id", "revisions", ["artifact_id", "yanked_at", "adapter_name", "number", *_FACETS]
    )
    for name in ("base_model_id", "domain_folded"):
        others = [facet for facet in _FACETS if facet != name]
        op.create_index(f"ix_revisions_{name}", "revisions", [name, *_ORDER, *others])
    _index("lineage_edges", "parent_digest", "child_digest", "relation")
    _index("evaluations", "metric", "value", "artifact_id", "arm")


def downgrade():
    _index("evaluations", "metric", "value", "artifact_id")
    _index("lineage_edges", "parent_digest", "child_digest")
    for name in ("name", "artifact_id", "base_model_id", "domain_folded"):
        op.drop_index(f"ix_revisions_{name}", "revisions")
    for name in reversed(_FACETS):
        op.drop_column("revisions", name)
    for name in ("measurements", "targets"):
        op.drop_column("artifacts", name)
    op.create_index("ix_revisions_name", "revisions", list(_ORDER))
    op.create_index("ix_revisions_artifact_id", "revisions", ["artifact_id", "yanked_at", "adapter_name", "number"])


def _index(table, *columns):
    """Make an index anew, of more columns or fewer."""
    name = {"lineage_edges": "ix_lineage_edges_parent_digest", "evaluations": "ix_evaluations_metric_value"}[table]
    op.drop_index(name, table)
    op.create_index(name, table, list(columns))


def _columns():
    folded = {"domain": 4096, "license": 4096, "method": 64}
    yield sa.Column("base_model_id", sa.Integer(), comment="Its artifact's base model; none for a router.")
    for name, length in folded.items():
        comment = f"Its artifact's {name}, A to Z in lower case."
        yield sa.Column(f"{name}_folded", _text_type(length), comment=comment)
    yield sa.Column("rank_min", sa.Integer(), comment="Its artifact's smallest rank.")
    yield sa.Column("rank_max", sa.Integer(), comment="Its artifact's largest rank.")
    yield sa.Column("recovered_gain", sa.Double(), comment="Its artifact's share of the source's gain.")


def _text_type(length):
    """Text in the order of its code points, whatever the server's locale."""
    return sa.String(length, collation="C" if op.get_bind().dialect.name == "postgresql" else None)


def _write_texts(name, query):
    """Write the rows that belong to each artifact as one text, some thousand artifacts at once."""
    connection = op.get_bind()
    change = sa.text(f"UPDATE artifacts SET {name} = :text WHERE id = :id")
    last = connection.execute(sa.text("SELECT max(id) FROM artifacts")).scalar() or 0
    for first in range(1, last + 1, _BATCH):
        found = connection.execute(sa.text(query), {"first": first, "last": first + _BATCH - 1}).all()
        rows = [
            {"id": key, "text": json.dumps([list(row[1:]) for row in group], separators=(",", ":"))}
            for key, group in itertools.groupby(found, key=lambda row: row[0])
        ]
        if rows:
            connection.execute(change, rows)
