"""Migrations, with data, up and down on both engines; and the tables that they leave are those of the models."""

from __future__ import annotations

import datetime
import json
import os
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, insert, inspect, select, text

from tests.engines.databases import parameters
from ual_registry.registry.facets import SHOWN
from ual_registry.registry.schema import SCHEMA_REVISION, alembic_config
from ual_registry.registry.session import Database
from ual_registry.registry.summaries import targets_text
from ual_registry.registry.tables import Table
from ual_registry.registry.word_list import ServerTable
from ual_registry.registry.words import words
from ual_registry.resources import resource_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*expression-based index"),  # SQLite's, of expressions
    pytest.mark.usefixtures("real_migrations"),
]

REVISIONS = int(os.environ.get("UAL_MIGRATIONS_REVISIONS", "1000"))
"""``make faults`` takes ten thousand."""

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
Rows = dict[str, list[dict[str, Any]]]


def migrate(database: Database, how: Callable[..., None], to: str) -> None:
    with database.engine.execution_options(ual_writes=True).begin() as connection:
        how(alembic_config(connection), to)


@pytest.fixture
def empty(engine: str, tmp_path: Any, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database without tables, on each engine."""
    given = f"sqlite:///{tmp_path}/r.db" if engine == "sqlite" else request.getfixturevalue("empty_postgresql")
    database = Database(given)
    yield database
    database.engine.dispose()


def tables_of(database: Database) -> MetaData:
    """Return the tables as the database has them, those of the full-text index left out."""
    found = MetaData()
    found.reflect(database.engine, only=lambda name, _: not name.startswith("revision_texts_fts"))
    return found


def rows_of(database: Database) -> Rows:
    """Return every row of every table, in one order and one form on both engines."""
    tables = tables_of(database).tables
    with database.engine.connect() as connection:
        return {
            name: in_order(
                {key: json.loads(value) if key in {"shown", "labels"} else plain(value) for key, value in row.items()}
                for row in connection.execute(select(table)).mappings()
            )
            for name, table in sorted(tables.items())
        }


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat() if value.tzinfo else f"{value.isoformat()}+00:00"
    return value


def digest(*parts: object) -> str:
    return f"sha256:{random.Random(repr(parts)).getrandbits(256):064x}"


def first_form() -> Rows:
    """Make the rows of 10,000 revisions in the form of 0001: few adapters have most of them, few are large."""
    chance = random.Random(7)
    rows: Rows = defaultdict(list)
    for index in range(40):
        rows["base_models"].append({
            "id": index + 1, "label": f"org/modèle-{index}", "revision": "" if index % 2 else f"{index:040x}",
            "architecture": chance.choice(["llama", "gpt_neox", "t5"]), "model_type": "llama",
            "config_digest": digest("base", index), "hidden_size": 64 * (index + 1), "num_layers": index + 1,
        })  # fmt: skip
    numbers: Counter[int] = Counter()
    for index in range(REVISIONS):
        owner = 1 + min(int(chance.paretovariate(0.7)), 900)
        numbers[owner] += 1
        # Some bytes are known under two names, and some revisions say what they were made from.
        known = numbers[owner] > 1 or index < 50 or chance.random() > 0.02
        name = digest("artifact", index if known else chance.randrange(index))
        at = START + datetime.timedelta(minutes=index)
        if known:
            add_artifact(rows, name, index, at, chance)
        rows["revisions"].append(
            {"id": index + 1, "adapter_id": owner, "number": numbers[owner], "digest": name, "created_at": at}
        )
        rows["audit_log"].append(
            {"id": index + 1, "at": at, "action": "add", "adapter_name": f"adapter-{owner}", "detail": {"digest": name}}
        )
    rows["adapters"] = [
        {"id": owner, "name": f"adapter-{owner}", "created_at": START} for owner in [*numbers, 5000, 5001]
    ]
    newest = {row["adapter_id"]: row["id"] for row in rows["revisions"]}
    rows["aliases"] = [
        {"adapter_id": owner, "name": name, "revision_id": newest[owner]}
        for owner in numbers
        for name in ("production", "候補")[: owner % 3]
    ]
    return rows


def tags_of(database: Database) -> list[dict[str, Any]]:
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM tags ORDER BY revision_id")).mappings()
        return [dict(row) for row in rows]


def row_of_tag(number: int) -> dict[str, Any]:
    return {"revision_id": number, "key": "k", "value": "v", "adapter_name": "a", "number": number}


def add_artifact(rows: Rows, name: str, index: int, at: datetime.datetime, chance: random.Random) -> None:
    rows["artifacts"].append({
        "digest": name, "tensor_digest": digest("tensors", index), "kind": "adapter",
        "media_type": "application/vnd.air.v1", "size_bytes": chance.choice([10**4, 10**7, 5 * 10**9]),
        "base_model_id": 1 + min(int(chance.paretovariate(1)), 39), "method": chance.choice(["lora", "lora", "svd"]),
        "task_type": chance.choice([None, "CAUSAL_LM"]), "domain": chance.choice([None, "medical", "droit français"]),
        "license": chance.choice([None, "MIT", "Apache-2.0"]), "parameter_count": chance.randrange(10**10),
        "added_at": at,
    })  # fmt: skip
    for position in range(min(int(chance.paretovariate(0.9)), 112) if index % 500 else 0):
        rows["entries"].append({
            "artifact_digest": name, "position": position, "stack": chance.choice([None, None, "encoder", "decoder"]),
            "layer": chance.choice([None, position]), "role": chance.choice(["mlp_up", "mlp_gate", "attention_query"]),
            "rank": chance.choice([8, 16, 64]), "in_features": 64, "out_features": 128,
            "scaling": chance.choice([0.5, 1 / 3, 2.0]),
        })  # fmt: skip
    if index and chance.random() < 0.3:
        parent = digest("artifact", chance.randrange(index)) if chance.random() < 0.9 else digest("elsewhere", index)
        rows["lineage_edges"].append({"child_digest": name, "parent_digest": parent, "relation": "projected_from"})


def fill(database: Database, rows: Rows) -> None:
    """Write rows by SQL alone, parents before their children."""
    order = ("base_models", "artifacts", "entries", "lineage_edges", "adapters", "revisions", "aliases", "audit_log")
    tables = tables_of(database).tables
    with database.engine.begin() as connection:
        for name in order:
            connection.execute(insert(tables[name]), rows[name])


def newest_form(old: Rows, *, is_sqlite: bool) -> Rows:
    """Say in Python what the rows of 0001 are after 0008, as another reading of what the migrations do in SQL."""
    new = second_form(old)
    roles = defaultdict(list)
    for row in new["artifact_roles"]:
        roles[row["artifact_id"]].append(row)
    texts = {key: targets_text(rows) for key, rows in roles.items()}
    artifacts = {row["id"]: row for row in new["artifacts"]}
    same = ("base_model_id", "rank_min", "rank_max", "recovered_gain")
    bases = {row["id"]: (row["label"], row["architecture"]) for row in new["base_models"]}
    aliases = defaultdict(list)
    for row in new["aliases"]:
        aliases[row["revision_id"]].append(row["name"])
    for row in new["revisions"]:
        own = artifacts[row["artifact_id"]]
        row["labels"] = [None, sorted(aliases[row["id"]]), {}]
        row["targets"] = texts.get(own["id"])
        row["shown"] = [*(own[name] for name in SHOWN), None, *bases[own["base_model_id"]]]
        row |= {name: own[name] for name in same}
        row |= {f"{name}_folded": own[name] and own[name].lower() for name in ("domain", "license", "method")}
    new["artifacts"] = [row | {"targets": texts.get(row["id"]), "measurements": None} for row in artifacts.values()]
    new["alembic_version"] = [{"version_num": "0008"}]
    return new if is_sqlite else new | {"revision_words": listed_words(new)}


def listed_words(new: Rows) -> list[dict[str, Any]]:
    own = {row["id"]: {"adapter_name": row["adapter_name"], "number": row["number"]} for row in new["revisions"]}
    return [
        {"revision_id": row["revision_id"], "word": word, **own[row["revision_id"]]}
        for row in new["revision_texts"]
        for word in set(row["body"].split())
    ]


def second_form(old: Rows) -> Rows:
    new: Rows = {name: [] for name in Table.metadata.tables}
    entries = defaultdict(list)
    for row in old["entries"]:
        entries[row["artifact_digest"]].append(row)
    ids = {}
    for number, row in enumerate(sorted(old["artifacts"], key=lambda row: (row["added_at"], row["digest"])), start=1):
        ids[row["digest"]] = number
        ranks = [entry["rank"] for entry in entries[row["digest"]]]
        own = {"id": number, "entry_count": len(ranks), "rank_min": min(ranks, default=None)}
        own |= {"rank_max": max(ranks, default=None), "title": None, "description": None, "recovered_gain": None}
        new["artifacts"].append(row | own | {"deleted_at": None})
        blob = {"digest": row["digest"], "size_bytes": row["size_bytes"], "stored_at": row["added_at"]}
        new["blobs"].append(blob | {"verified_at": None})
        new["artifact_roles"] += summary(number, entries[row["digest"]])
    for row in old["entries"]:
        kept = {name: value for name, value in row.items() if name != "artifact_digest"}
        new["entries"].append(kept | {"artifact_id": ids[row["artifact_digest"]], "expert": None})
    unknown = ("weights_digest", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    new["base_models"] = [row | dict.fromkeys((*unknown, "intermediate_size")) for row in old["base_models"]]
    new["lineage_edges"] = old["lineage_edges"]
    new["audit_log"] = [row | {"actor": "", "digest": None} for row in old["audit_log"]]
    return new | named_form(old, ids)


def named_form(old: Rows, ids: dict[str, int]) -> Rows:
    names = {row["id"]: row["name"] for row in old["adapters"]}
    domains = {row["digest"]: row["domain"] or "" for row in old["artifacts"]}
    times = {row["id"]: row["created_at"] for row in old["revisions"]}
    counts = Counter(row["adapter_id"] for row in old["revisions"])
    own = {"owner": None, "description": None}
    return {
        "adapters": [row | own | {"newest": counts[row["id"]]} for row in old["adapters"]],
        "revisions": [
            {
                "id": row["id"], "adapter_id": row["adapter_id"], "adapter_name": names[row["adapter_id"]],
                "number": row["number"], "artifact_id": ids[row["digest"]], "created_at": row["created_at"],
                "yanked_at": None, "yank_reason": None,
            }
            for row in old["revisions"]
        ],
        "revision_texts": [
            {"revision_id": row["id"], "body": " ".join(words(f"{names[row['adapter_id']]} {domains[row['digest']]}"))}
            for row in old["revisions"]
        ],
        "aliases": [
            row | {"is_protected": False, "moved_at": times[row["revision_id"]]} for row in old["aliases"]
        ],
    }  # fmt: skip


def summary(number: int, entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    groups = defaultdict(list)
    for row in entries:
        groups[row["stack"] or "", row["role"], row["rank"]].append(row["layer"])
    for (stack, role, rank), layers in groups.items():
        known = [layer for layer in layers if layer is not None]
        ends = {"layer_min": min(known, default=None), "layer_max": max(known, default=None)}
        own = {"artifact_id": number, "stack": stack, "role": role, "rank": rank, "entry_count": len(layers)}
        yield own | ends


def found_by_word(database: Database, word: str) -> int:
    questions = {
        "sqlite": "SELECT count(*) FROM revision_texts_fts WHERE revision_texts_fts MATCH :word",
        "postgresql": (
            "SELECT count(*) FROM revision_texts WHERE to_tsvector('simple', body) @@ plainto_tsquery('simple', :word)"
        ),
    }
    with database.engine.connect() as connection:
        return connection.execute(text(questions[connection.dialect.name]), {"word": word}).scalar_one()


def test_the_schema_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(resource_folder("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_very_many_revisions_survive_up_and_down_and_up(empty: Database) -> None:
    migrate(empty, command.upgrade, "0001")
    fill(empty, first_form())
    old = rows_of(empty)
    assert len(old["revisions"]) == REVISIONS

    empty.upgrade()
    new = rows_of(empty)
    expected = newest_form(old, is_sqlite=empty.is_sqlite)
    assert {name: len(rows) for name, rows in new.items()} == {name: len(expected[name]) for name in sorted(expected)}
    assert new == {name: in_order(rows) for name, rows in expected.items()}
    assert empty.differences() == ()
    medical = sum("medical" in row["body"] for row in new["revision_texts"])
    assert found_by_word(empty, "medical") == medical > REVISIONS // 10

    migrate(empty, command.downgrade, "0001")
    assert rows_of(empty) == old

    empty.upgrade()
    assert rows_of(empty) == new
    assert empty.differences() == ()

    with empty.session(writes=True) as session:  # the counters go on after the last row
        adapters = Table.metadata.tables["adapters"]
        row = {"name": "new", "newest": 0, "created_at": START}
        assert session.execute(insert(adapters).values(row).returning(adapters.c.id)).scalar_one() == 5002


def test_what_the_first_form_cannot_say_is_lost_on_the_way_down_and_nothing_else(empty: Database) -> None:
    empty.upgrade()
    tables = Table.metadata.tables
    adapter = {"kind": "adapter", "media_type": "air", "size_bytes": 1, "method": "lora", "parameter_count": 1}
    adapter |= {"entry_count": 0, "added_at": START}
    with empty.engine.begin() as connection:
        base = {"id": 1, "label": "b", "revision": "", "architecture": "llama", "model_type": "llama"}
        base |= {"config_digest": digest(0), "hidden_size": 1, "num_layers": 1}
        connection.execute(insert(tables["base_models"]), base)
        for number, deleted, base_id in [(1, None, 1), (2, START, 1), (3, None, None)]:
            own = {"id": number, "digest": digest(number), "tensor_digest": digest(number, "t")}
            connection.execute(
                insert(tables["artifacts"]), adapter | own | {"deleted_at": deleted, "base_model_id": base_id}
            )
        connection.execute(insert(tables["adapters"]), {"id": 1, "name": "a", "newest": 3, "created_at": START})
        for number in (1, 2, 3):
            row = {"id": number, "adapter_id": 1, "adapter_name": "a", "number": number, "artifact_id": number}
            connection.execute(insert(tables["revisions"]), row | {"created_at": START, "yanked_at": START})
            alias = {"adapter_id": 1, "name": f"to-{number}", "revision_id": number}
            connection.execute(insert(tables["aliases"]), alias | {"is_protected": True, "moved_at": START})
            connection.execute(insert(tables["tags"]), row_of_tag(number))
            connection.execute(insert(tables["revision_texts"]), {"revision_id": number, "body": "words"})
        edges = [(1, 2), (2, 3)]
        rows = [{"child_digest": digest(c), "parent_digest": digest(p), "relation": "r"} for c, p in edges]
        connection.execute(insert(tables["lineage_edges"]), rows)

    migrate(empty, command.downgrade, "0007")
    assert tags_of(empty) == [{"revision_id": number, "key": "k", "value": "v"} for number in (1, 2, 3)]
    empty.upgrade()
    assert tags_of(empty) == [row_of_tag(number) for number in (1, 2, 3)]
    assert empty.differences() == ()

    migrate(empty, command.downgrade, "0001")
    found = rows_of(empty)
    assert [row["digest"] for row in found["artifacts"]] == [digest(1)]
    assert [(row["number"], row["digest"]) for row in found["revisions"]] == [(1, digest(1))]
    assert [row["name"] for row in found["aliases"]] == ["to-1"]
    assert [row["parent_digest"] for row in found["lineage_edges"]] == [digest(2)]

    migrate(empty, command.downgrade, "base")
    assert rows_of(empty) == {"alembic_version": []}
    assert empty.current_revision() is None


# The tables that migrations leave


ALL_TABLES = {**Table.metadata.tables, **ServerTable.metadata.tables}
INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
    "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}


def structure(engine: Engine) -> dict[str, Any]:
    """Return the names, columns, constraints and indexes of every table, as a database has them."""
    found: dict[str, Any] = {}
    inspector = inspect(engine)
    tables = Table.metadata.tables if engine.dialect.name == "sqlite" else ALL_TABLES
    for name in tables:
        columns = inspector.get_columns(name)
        found[name] = {
            "columns": [(item["name"], str(item["type"]), item["nullable"], item["default"]) for item in columns],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": sorted(map(repr, inspector.get_foreign_keys(name))),
            "unique": sorted(map(repr, inspector.get_unique_constraints(name))),
            "checks": sorted(map(repr, inspector.get_check_constraints(name))),
        }
    with engine.connect() as connection:
        written = dict(map(tuple, connection.execute(text(INDEXES[engine.dialect.name]))))
    ours = {index.name for table in tables.values() for index in table.indexes}
    return found | {"indexes": {name: " ".join(sql.split()) for name, sql in written.items() if name in ours}}


def test_migrations_make_what_the_models_say(
    database_url: str, engine: str, tmp_path: Any, request: pytest.FixtureRequest
) -> None:
    database = Database(database_url)
    assert database.differences() == ()
    if engine == "sqlite":
        made = create_engine(f"sqlite:///{tmp_path}/models.db")
    else:
        made = Database(request.getfixturevalue("empty_postgresql")).engine
    for metadata in [Table.metadata] if engine == "sqlite" else [Table.metadata, ServerTable.metadata]:
        metadata.create_all(made)
    assert structure(database.engine) == structure(made)
    made.dispose()
    database.engine.dispose()


def test_every_column_and_every_table_is_explained() -> None:
    columns = [column for table in ALL_TABLES.values() for column in table.columns]
    assert [str(column) for column in columns if not (column.comment or "").endswith(".")] == []
    mappers = [*Table.registry.mappers, *ServerTable.registry.mappers]
    assert [mapper.class_.__name__ for mapper in mappers if not mapper.class_.__doc__] == []


def test_every_constraint_of_a_model_has_a_name() -> None:
    constraints = [item for table in Table.metadata.tables.values() for item in table.constraints]
    assert [item for item in constraints if not item.name] == []
    assert all(str(item.name).startswith(("pk_", "fk_", "uq_", "ck_")) for item in constraints)


def test_a_server_keeps_the_explanations_and_the_names(postgresql: Any) -> None:
    with postgresql.ready() as url, psycopg.connect(**parameters(url)) as connection:
        columns = connection.execute(
            "SELECT relname, attname, col_description(attrelid, attnum) FROM pg_attribute "
            "JOIN pg_class ON pg_class.oid = attrelid "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped"
        ).fetchall()
        named = connection.execute(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
        ).fetchall()
    tables = ALL_TABLES
    expected = {(name, column.name, column.comment) for name in tables for column in tables[name].columns}
    assert {row for row in columns if row[0] != "alembic_version"} == expected
    constraints = [item for name in tables for item in tables[name].constraints]
    ours = {str(item.name) for item in constraints if len(item.columns) or item.name}  # type: ignore[attr-defined]
    assert {name for (name,) in named} == ours | {"alembic_version_pkc"}


def test_a_file_keeps_the_names(sqlite_files: Any, tmp_path: Any) -> None:
    sqlite_files.ready(tmp_path / "r.db")
    with sqlite3.connect(tmp_path / "r.db") as connection:
        written = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    connection.close()
    missing = [
        str(item.name)
        for name, table in Table.metadata.tables.items()
        for item in table.constraints
        if f"CONSTRAINT {item.name} " not in written[name]
    ]
    assert missing == []


# What 'ual db check' says


CHANGES = [
    ("DROP INDEX ix_artifacts_domain_folded", "index ix_artifacts_domain_folded of table artifacts is missing"),
    ("DROP INDEX ix_audit_log_digest", "index ix_audit_log_digest of table audit_log is missing"),
    ("CREATE INDEX other ON artifacts (title)", "index other of table artifacts is not of this program"),
    ("CREATE TABLE photos (id INTEGER)", "table photos is not of this program"),
    ("ALTER TABLE adapters DROP COLUMN description", "column adapters.description is missing"),
    ("ALTER TABLE adapters ADD COLUMN colour TEXT", "column adapters.colour is not of this program"),
    ("DROP TABLE attestations", "table attestations is missing"),
]
FILE_CHANGES = [
    ("DROP TRIGGER revision_texts_added", "trigger revision_texts_added is missing"),
]
SERVER_CHANGES = [
    ("COMMENT ON COLUMN adapters.newest IS 'x'", "column adapters.newest: comment is x, expected {comment}"),
    ("COMMENT ON TABLE adapters IS 'x'", "comment of table adapters is not of this program"),
    ("ALTER TABLE adapters ALTER newest SET DEFAULT 3", "column adapters.newest: default is 3, expected none"),
    ("ALTER TABLE adapters ALTER newest DROP NOT NULL", "column adapters.newest: nullable is True, expected False"),
    (
        'ALTER TABLE tags ALTER value TYPE varchar(3) COLLATE "C"',
        'column tags.value: type is VARCHAR(3) COLLATE "C", expected VARCHAR(1024)',
    ),
    (
        'ALTER TABLE tags ALTER key TYPE varchar(128) COLLATE "default"',
        "column tags.key: collation is none, expected C",
    ),
    ("DROP INDEX ix_revision_texts_words", "index ix_revision_texts_words is missing"),
    ("ALTER TABLE revision_texts DISABLE TRIGGER revision_texts_kept", "trigger revision_texts_kept is missing"),
    ("DROP INDEX ix_revision_words_word", "index ix_revision_words_word of table revision_words is missing"),
    ("ALTER TABLE revision_words DROP COLUMN number", "column revision_words.number is missing"),
    (
        "ALTER TABLE tags DROP CONSTRAINT fk_tags_revision_id_revisions",
        "foreign key fk_tags_revision_id_revisions of table tags is missing",
    ),
    (
        "ALTER TABLE revisions DROP CONSTRAINT uq_revisions_adapter_id_number",
        "constraint uq_revisions_adapter_id_number of table revisions is missing",
    ),
    (
        "ALTER TABLE lineage_edges DROP CONSTRAINT ck_lineage_edges_not_itself",
        "check ck_lineage_edges_not_itself of table lineage_edges is missing",
    ),
    ("ALTER TABLE tags DROP CONSTRAINT pk_tags", "primary key of table tags is ()"),
]


def test_a_check_says_every_difference(database_url: str, engine: str) -> None:
    database = Database(database_url)
    changes = CHANGES + (FILE_CHANGES if engine == "sqlite" else SERVER_CHANGES)
    with database.engine.begin() as connection:
        for statement, _ in changes:
            connection.execute(text(statement))
    comment = Table.metadata.tables["adapters"].c.newest.comment
    assert sorted(database.differences()) == sorted(line.format(comment=comment) for _, line in changes)
    database.engine.dispose()
