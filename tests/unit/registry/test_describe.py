"""Every record table holds what the manifest says, and no manifest is too odd for a column."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.handmade import entry, small_adapter
from tests.unit.registry.conftest import Files
from ual_registry.air.model import Lineage, Parent, Statement
from ual_registry.digest import Digest
from ual_registry.registry.describe import describe
from ual_registry.registry.record_tables import DomainRow, EvaluationRow, ProjectionRow, RouterRow, TrainingRow
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import (
    ArtifactRow,
    BaseModelRow,
    EntryRow,
    LineageRow,
    RoleRow,
    Table,
    TagRow,
)

VECTORS = Path(__file__).parents[3] / "spec" / "vectors" / "1.0"
PARENT, DATA, CONFIG = (str(Digest.of_bytes(word)) for word in (b"parent", b"data", b"other config"))
TOOL = {"name": "tool", "version": "1.2"}
WHEN, NO_DAY = "2026-03-04T05:06:07Z", "2026-02-31T00:00:00Z"


def rows(registry: Registry, table: type[Table]) -> list[dict[str, Any]]:
    """Return the rows of a table in the order of its key, without their numbers; times in UTC."""
    found = []
    with registry.database.session() as session:
        for row in session.scalars(select(table).order_by(*table.__table__.primary_key)):
            values = {column.name: getattr(row, column.name) for column in table.__table__.columns}
            found.append({name: _utc(value) for name, value in values.items() if not _is_number_of_a_row(name)})
    return found


def _is_number_of_a_row(name: str) -> bool:
    return name == "id" or name.endswith("_id")


def _utc(value: Any) -> Any:
    if not isinstance(value, datetime.datetime):
        return value
    return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)


@pytest.fixture
def described(registry: Registry, files: Files) -> Registry:
    """A registry with one artifact that says everything."""
    statements = (
        Statement(
            type="training",
            builder=TOOL,
            parameters={"steps": 120, "seed": 7, "settings": {"optimizer": ["adam", {"eps": 1e-8}]}},
            materials=({"name": "training data", "digest": DATA},),
            byproducts={"eval_loss_after": 1.25, "curve": [{"step": 1, "loss": 2}]},
            created_at=WHEN,
        ),
        Statement(
            type="projection",
            builder=TOOL,
            parameters={"method": "svd", "rank": 2, "settings": {"rank_in": 16}},
            materials=(
                {"name": "source adapter", "digest": PARENT},
                {"name": "source base config", "digest": CONFIG},
            ),
            byproducts={"energy_share": 0.75},
        ),
        Statement(
            type="evaluation",
            builder=TOOL,
            byproducts={
                "results": [
                    {"metric": "accuracy", "value": 1, "n": 10, "data_digest": DATA, "arm": "adapter", "low": 0.9},
                    {"metric": "recovered_gain", "value": 0.5, "n": 10, "data_digest": DATA, "arm": "adapter"},
                ]
            },
        ),
    )
    path = files.make(
        name="a title", domain="medical", license="MIT", tags=("clinic", "two words"), provenance=statements,
        parents=((PARENT, "projected_from"), (DATA, "distilled_from")),
    )  # fmt: skip
    registry.add(path, name="medical")
    return registry


def test_an_artifact_has_its_columns(described: Registry) -> None:
    (found,) = rows(described, ArtifactRow)
    kept = (
        "kind", "title", "description", "method", "task_type", "domain", "license", "parameter_count", "entry_count",
        "rank_min", "rank_max", "recovered_gain", "deleted_at",
    )  # fmt: skip
    assert {name: found[name] for name in kept} == {
        "kind": "adapter",
        "title": "a title",
        "description": "number 1",
        "method": "svd",
        "task_type": "CAUSAL_LM",
        "domain": "medical",
        "license": "MIT",
        "parameter_count": 44,
        "entry_count": 3,
        "rank_min": 2,
        "rank_max": 2,
        "recovered_gain": 0.5,
        "deleted_at": None,
    }


def test_a_base_model_has_its_dimensions(described: Registry) -> None:
    assert rows(described, BaseModelRow) == [
        {
            "label": "tiny",
            "revision": "0" * 40,
            "architecture": "gpt_neox",
            "model_type": "gpt_neox",
            "config_digest": str(Digest.of_bytes(b"config")),
            "weights_digest": None,
            "vocab_size": 5,
            "hidden_size": 4,
            "num_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 2,
            "intermediate_size": 6,
        }
    ]


def test_entries_are_kept_in_the_order_of_the_manifest(described: Registry) -> None:
    common = {"stack": None, "layer": 0, "expert": None, "rank": 2, "in_features": 4, "scaling": 2.0}
    assert rows(described, EntryRow) == [
        {"position": 0, "role": "attention_key", "out_features": 4, **common},
        {"position": 1, "role": "attention_query", "out_features": 4, **common},
        {"position": 2, "role": "mlp_up", "out_features": 6, **common},
    ]


def test_every_parent_is_an_edge(described: Registry) -> None:
    found = {(row["parent_digest"], row["relation"]) for row in rows(described, LineageRow)}
    assert found == {(PARENT, "projected_from"), (DATA, "distilled_from")}


def test_a_projection_is_a_record(described: Registry) -> None:
    assert rows(described, ProjectionRow) == [
        {
            "position": 1,
            "method": "svd",
            "source_digest": PARENT,
            "source_base": None,
            "source_config_digest": CONFIG,
            "target_config_digest": str(Digest.of_bytes(b"config")),
            "energy_kept": 0.75,
            "rank_in": 16,
            "rank_out": 2,
            "recovered_gain": 0.5,
            "created_at": None,
            "parameters": {"method": "svd", "rank": 2, "settings": {"rank_in": 16}},
        }
    ]


def test_a_training_is_a_record(described: Registry) -> None:
    assert rows(described, TrainingRow) == [
        {
            "position": 0,
            "builder": "tool 1.2",
            "data_digest": DATA,
            "seed": 7,
            "steps": 120,
            "final_loss": 1.25,
            "created_at": datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC),
            "parameters": {"steps": 120, "seed": 7, "settings": {"optimizer": ["adam", {"eps": 1e-8}]}},
            "byproducts": {"eval_loss_after": 1.25, "curve": [{"step": 1, "loss": 2}]},
        }
    ]


def test_every_measured_number_is_a_row(described: Registry) -> None:
    common = {"high": None, "sample_count": 10, "data_digest": DATA, "arm": "adapter", "created_at": None}
    assert rows(described, EvaluationRow) == [
        {"position": 0, "metric": "accuracy", "value": 1.0, "low": 0.9, **common},
        {"position": 1, "metric": "recovered_gain", "value": 0.5, "low": None, **common},
    ]


def test_tags_of_the_manifest_that_can_be_tags_are_tags_of_the_revision(described: Registry) -> None:
    assert rows(described, TagRow) == [{"key": "clinic", "value": "", "adapter_name": "medical", "number": 1}]


@pytest.mark.parametrize("vector", ["valid-router", "valid-router-with-labels"])
def test_a_router_is_added_with_its_domains(registry: Registry, vector: str) -> None:
    path = VECTORS / vector / "input.air"
    header = path.read_bytes()
    manifest = json.loads(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]["air"])

    result = registry.add(path, name="router", aliases=["live"])

    assert (result.number, result.is_new) == (1, True)
    (artifact,) = rows(registry, ArtifactRow)
    assert (artifact["kind"], artifact["method"], artifact["entry_count"]) == ("router", "router", 0)
    assert rows(registry, RouterRow) == [
        {
            "encoder": manifest["encoder"]["id"],
            "encoder_digest": manifest["encoder"].get("weights_digest"),
            "embedding_size": manifest["encoder"]["dimension"],
        }
    ]
    assert rows(registry, DomainRow) == [
        {
            "position": position,
            "name": domain["name"],
            "adapter": domain.get("adapter"),
            "adapter_digest": domain.get("adapter"),
        }
        for position, domain in enumerate(manifest["domains"])
    ]
    assert rows(registry, BaseModelRow) == []
    assert rows(registry, LineageRow) == [
        {"child_digest": str(result.digest), "parent_digest": adapter, "relation": "dispatches_to"}
        for adapter in sorted({domain["adapter"] for domain in manifest["domains"] if "adapter" in domain})
    ]
    assert str(registry.resolve("router@live")) == result.digest


def test_roles_are_told_in_short_by_stack_role_and_rank() -> None:
    entries = (
        entry("attention_query", 4, 4, stack="decoder", layer=3),
        entry("attention_query", 4, 4, stack="decoder", layer=1),
        entry("attention_query", 4, 4, stack="decoder", layer=2, rank=8),
        entry("embedding", 4, 4, layer=None),
    )
    adapter = small_adapter(entries=entries)
    tensors = dict.fromkeys((n for e in entries for n in e.tensor_names().values()), adapter.tensors.popitem()[1])
    found = describe(adapter.manifest, tensors, digest=PARENT, size_bytes=1)
    assert found.records[RoleRow] == [
        {"stack": "", "role": "embedding", "rank": 2, "entry_count": 1, "layer_min": None, "layer_max": None},
        {"stack": "decoder", "role": "attention_query", "rank": 2, "entry_count": 2, "layer_min": 1, "layer_max": 3},
        {"stack": "decoder", "role": "attention_query", "rank": 8, "entry_count": 1, "layer_min": 2, "layer_max": 2},
    ]
    assert (found.artifact["rank_min"], found.artifact["rank_max"]) == (2, 8)


def test_an_artifact_is_no_parent_of_itself() -> None:
    parents = (Parent(digest=PARENT, relation="merged_from"), Parent(digest=DATA, relation="merged_from"))
    adapter = small_adapter(lineage=Lineage(parents=parents))
    found = describe(adapter.manifest, adapter.tensors, digest=PARENT, size_bytes=1)
    assert found.edges == [{"child_digest": PARENT, "parent_digest": DATA, "relation": "merged_from"}]


SCRIPTS = "".join(chr(0x1F300 + index % 700) for index in range(4096))
"""As many characters as a manifest allows, each of four bytes, that no compression makes small."""


def test_texts_and_numbers_that_no_index_or_column_holds_are_cut_or_left_out(registry: Registry, files: Files) -> None:
    result = {"metric": SCRIPTS, "value": 1, "n": 1, "data_digest": DATA, "arm": SCRIPTS}
    path = files.make(
        name=SCRIPTS, domain=SCRIPTS, license=SCRIPTS, description="a\0b" + SCRIPTS * 15, tags=(SCRIPTS, "ok"),
        provenance=(
            Statement(type="training", builder=TOOL, parameters={"steps": 1, "seed": 7}, created_at=NO_DAY),
            Statement(type="projection", builder=TOOL, parameters={"method": SCRIPTS}),
            Statement(type="evaluation", builder=TOOL, byproducts={"results": [result]}),
        ),
    )  # fmt: skip
    assert registry.add(path, name="odd").number == 1

    (artifact,) = rows(registry, ArtifactRow)
    cut = SCRIPTS[:255] + "…"
    assert (artifact["title"], artifact["domain"], artifact["license"]) == (cut, cut, cut)
    assert artifact["description"].startswith("a\ufffdb")
    assert artifact["method"] == SCRIPTS[:63] + "…"
    (training,) = rows(registry, TrainingRow)
    assert (training["seed"], training["created_at"]) == (7, None)
    assert [(row["metric"], row["value"]) for row in rows(registry, EvaluationRow)] == [(SCRIPTS[:127] + "…", 1.0)]
    assert rows(registry, TagRow) == [{"key": "ok", "value": "", "adapter_name": "odd", "number": 1}]
    assert registry.find("odd").read_bytes() == path.read_bytes()


def test_numbers_that_no_column_holds_are_left_out() -> None:
    result = {"metric": "m", "value": 10**400, "n": 2**63, "data_digest": DATA, "arm": "adapter"}
    adapter = small_adapter(
        provenance=(
            Statement(type="training", builder=TOOL, parameters={"steps": True, "seed": 2**80}),
            Statement(type="evaluation", builder=TOOL, byproducts={"results": [result, {**result, "value": 2}]}),
        )
    )
    found = describe(adapter.manifest, adapter.tensors, digest=PARENT, size_bytes=1)
    (training,) = found.records[TrainingRow]
    assert (training["seed"], training["steps"], training["parameters"]["seed"]) == (None, None, 2**80)
    assert [(row["value"], row["sample_count"]) for row in found.records[EvaluationRow]] == [(2.0, None)]
