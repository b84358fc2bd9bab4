"""keep on PostgreSQL every word of every revision in the order of a page.

Revision ID: 0007
Revises: 0006

A page of a search by one word is then read from one index as far as it goes. A trigger keeps the words where the texts
are written. SQLite, whose index of words leads to row numbers without reading texts, is as it was. Everything that is
added is made from what is there, so that nothing is lost on the way down.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WORDS = """
    INSERT INTO revision_words (revision_id, number, word, adapter_name)
    SELECT r.id, r.number, w.word, r.adapter_name
    FROM revision_texts t JOIN revisions r ON r.id = t.revision_id CROSS JOIN LATERAL (
        SELECT DISTINCT left(part, 64) COLLATE "C" AS word
        FROM unnest(string_to_array(replace(t.body, E'\\n', ' '), ' ')) AS part WHERE part <> ''
    ) w
"""

_KEEP = f"""
    CREATE FUNCTION keep_revision_words() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            DELETE FROM revision_words WHERE revision_id = OLD.revision_id;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            {_WORDS} WHERE t.revision_id = NEW.revision_id;
        END IF;
        RETURN NULL;
    END $$
"""

_TRIGGER = """
    CREATE TRIGGER revision_texts_kept AFTER INSERT OR UPDATE OR DELETE ON revision_texts
    FOR EACH ROW EXECUTE FUNCTION keep_revision_words()
"""


def upgrade():
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "revision_words",
        sa.Column("revision_id", sa.Integer(), nullable=False, comment="Its revision."),
        sa.Column("number", sa.Integer(), nullable=False, comment="The revision's number."),
        sa.Column("word", sa.String(64, collation="C"), nullable=False, comment="The word."),
        sa.Column("adapter_name", sa.String(128, collation="C"), nullable=False, comment="The adapter's name."),
    )
    op.execute(_WORDS)
    op.create_index(
        "ix_revision_words_word",
        "revision_words",
        ["word", "adapter_name", sa.text("number DESC")],
        unique=True,
        postgresql_include=["revision_id"],
    )
    op.create_index("ix_revision_words_revision_id", "revision_words", ["revision_id"])
    op.execute("ALTER TABLE revision_words ALTER COLUMN word SET STATISTICS 1000")
    op.execute("ANALYZE revision_words")
    op.execute(_KEEP)
    op.execute(_TRIGGER)


def downgrade():
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("DROP TRIGGER revision_texts_kept ON revision_texts")
    op.execute("DROP FUNCTION keep_revision_words()")
    op.drop_table("revision_words")
