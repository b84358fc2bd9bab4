"""Files of ual-adapter 0.1: what can be read is read, what was lost is told, the rest is refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.handmade import LLAMA_CONFIG, llama_base
from tests.legacy_files import (
    PAIR_METADATA,
    document,
    matrix,
    pair_tensors,
    record,
    write_document,
    write_pair,
)
from tests.reference.lora import entry_delta, module_delta
from ual_registry.air.codec import encode
from ual_registry.air.model import RowSlice
from ual_registry.air.tensor import Tensor
from ual_registry.air.validate import validate_file
from ual_registry.air.write import write
from ual_registry.binders.base import BaseConfig
from ual_registry.digest import Digest
from ual_registry.errors import ForeignFormatError, StorageError
from ual_registry.interop.from_legacy import from_legacy
from ual_registry.interop.legacy import LegacyForm, legacy_form, legacy_hint, pair_refusal

LOSSES = (
    "tensors that had no role were dropped when the file was made, without a record",
    "the base model was not pinned to a commit",
    "alpha 4 stands in the file alone; nothing ties it to the factors",
    "dropout was not recorded and is written as 0",
    "module paths were not recorded; those of the architecture were taken",
)


def gpt2_base() -> BaseConfig:
    config = {"model_type": "gpt2", "n_embd": 4, "n_layer": 2, "n_head": 2, "vocab_size": 5}
    return BaseConfig(label="tiny", document=config, digest=Digest.of_bytes(b"gpt2"))


def test_a_document_becomes_an_adapter_whose_updates_are_those_of_its_definition(tmp_path: Path) -> None:
    made = document(record(layer=1), record("mlp_down", lora_A=matrix(2, 6), original_shape=[4, 6]), alpha=3)
    path = write_document(tmp_path / "old.air", made)
    found = from_legacy(path, llama_base())
    by_role = {item.role: item for item in found.adapter.entries}
    assert [(item.layer, item.role, item.source, item.scaling) for item in found.adapter.entries] == [
        (0, "mlp_down", "model.layers.0.mlp.down_proj", 1.5),
        (1, "attention_query", "model.layers.1.self_attn.q_proj", 1.5),
    ]
    for item in made["adapters"]:
        expected = 3 / 2 * np.array(item["lora_B"]) @ np.array(item["lora_A"])
        # Every number is a half; float64 holds their products exactly.
        assert (entry_delta(found.adapter, by_role[item["semantic_role"]]) == expected).all()
    write(found.adapter, tmp_path / "new.air")
    report = validate_file(tmp_path / "new.air")
    assert [problem.code for problem in report.problems] == ["unpinned-base"]


def test_what_the_document_says_is_carried_and_what_it_lost_is_told(tmp_path: Path) -> None:
    metadata = {"domain": "law", "description": "d", "source_model": "org/x", "training_config": {"epochs": 3}}
    path = write_document(tmp_path / "old.air", document(created_at="2025-01-15T10:30:00Z", **metadata))
    found = from_legacy(path, llama_base())
    manifest = found.adapter.manifest
    assert found.losses == LOSSES
    assert (manifest.domain, manifest.description, manifest.created_at) == ("law", "d", "2025-01-15T10:30:00Z")
    assert (manifest.base_model.id, manifest.base_model.revision) == ("org/x", None)
    assert manifest.base_model.model_class == "LlamaForCausalLM"
    assert encode(manifest.method) == {
        "type": "lora",
        "rank": 2,
        "alpha": 4.0,
        "scaling_rule": "alpha/rank",
        "dropout": 0.0,
        "bias": "none",
        "dora": False,
    }
    (statement,) = manifest.provenance
    from importlib.metadata import version

    assert json.loads(json.dumps(encode(statement), default=dict)) == {
        "type": "conversion",
        "builder": {"name": "ual-registry", "version": version("ual-registry")},
        "parameters": {
            "from_format": "ual-adapter 0.1",
            "to_format": "air",
            "settings": {"metadata": json.loads(path.read_text())["metadata"]},
        },
        "materials": [
            {"name": "source file", "digest": str(Digest.of_file(path))},
            {"name": "base config", "digest": str(llama_base().digest)},
        ],
        "byproducts": {"lost": list(LOSSES)},
    }


def test_labels_of_the_base_are_those_that_are_given(tmp_path: Path) -> None:
    path = write_document(tmp_path / "old.air", document(source_model="org/x", created_at="2025-01-15T10:30:00"))
    found = from_legacy(path, llama_base(architectures=[]), base_id="org/y", base_revision="c0ffee")
    base = found.adapter.manifest.base_model
    assert (base.id, base.revision, base.model_class) == ("org/y", "c0ffee", "LlamaForCausalLM")
    assert found.losses == (LOSSES[0], *LOSSES[2:])
    assert found.adapter.manifest.created_at is None  # no time zone, so no moment
    lone = write_document(tmp_path / "lone.air", {**document(), "metadata": {"alpha": 4}})
    assert from_legacy(lone, llama_base()).adapter.manifest.base_model.id == "tiny"
    assert from_legacy(lone, llama_base()).adapter.manifest.method.rank == 2


def test_numbers_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    exact = matrix(2, 4)
    exact[0][0] = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    fine, large = matrix(4, 2), matrix(4, 2)
    fine[0][0], large[0][0] = 0.1, 1e300
    items = (record(lora_A=exact, lora_B=fine), record(layer=1, lora_A=exact, lora_B=large))
    found = from_legacy(write_document(tmp_path / "old.air", document(*items)), llama_base())
    dtypes = {name: tensor.dtype for name, tensor in found.adapter.tensors.items()}
    assert dtypes == {
        "layers.0.attention_query.lora_A": "F32",
        "layers.0.attention_query.lora_B": "F64",
        "layers.1.attention_query.lora_A": "F32",
        "layers.1.attention_query.lora_B": "F64",
    }
    first = found.adapter.tensors["layers.0.attention_query.lora_B"].to_bytes()
    assert struct.unpack("<d", first[:8]) == (0.1,)


def test_a_fused_module_under_one_role_is_split_by_the_architecture(tmp_path: Path) -> None:
    whole = record(lora_B=matrix(12, 2), original_shape=[4, 12])  # as Conv1D stores it
    found = from_legacy(write_document(tmp_path / "old.air", document(whole)), gpt2_base())
    path = "transformer.h.0.attn.c_attn"
    assert [(item.role, item.source, item.lora_A) for item in found.adapter.entries] == [
        (role, path, "layers.0.attention_query.lora_A")
        for role in ("attention_key", "attention_query", "attention_value")
    ]
    expected = 2.0 * np.array(whole["lora_B"]) @ np.array(whole["lora_A"])
    assert (module_delta(found.adapter, path, 12) == expected).all()  # halves are exact in float64
    assert found.losses[-1] == f"fused modules stood under one role and were split by the architecture: {path}"


def test_one_role_of_a_fused_module_keeps_its_rows(tmp_path: Path) -> None:
    found = from_legacy(write_document(tmp_path / "old.air", document(record("attention_value"))), gpt2_base())
    (item,) = found.adapter.entries
    assert item.slice == RowSlice(offset=8, block=4, stride=4, count=1)
    assert found.losses == LOSSES


BROKEN: dict[str, tuple[Any, str]] = {
    "a list": ([], "document: expected an object"),
    "no metadata": ({"adapters": [record()]}, "metadata: expected an object"),
    "no alpha": (
        {"metadata": {}, "adapters": [record()]},
        "metadata.alpha: None: expected a number; without it the scaling is unknown",
    ),
    "alpha in words": (
        document(alpha="4"),
        "metadata.alpha: '4': expected a number; without it the scaling is unknown",
    ),
    "rank zero": (document(rank=0), "metadata.rank: 0: expected an integer from 1"),
    "a domain that is a number": (document(domain=3), "metadata.domain: expected a string"),
    "an unknown field": (
        {**document(), "unmapped": []},
        "unmapped: unknown field, which may change what the adapter does",
    ),
    "no entries": ({**document(), "adapters": []}, "adapters: expected a list of entries"),
    "an entry that is none": ({**document(), "adapters": [1]}, "adapters[0]: expected an object"),
    "an unknown field of an entry": (
        document(record(), record(layer=1, use_dora=True)),
        "adapters[1].use_dora: unknown field, which may change what the entry does",
    ),
    "a layer below zero": (document(record(layer=-1)), "adapters[0].layer_index: -1: expected an integer from 0"),
    "a layer that is true": (document(record(layer=True)), "adapters[0].layer_index: True: expected an integer from 0"),
    "no matrix": (document(record(lora_A=None)), "adapters[0].lora_A: expected a list of rows"),
    "an empty row": (document(record(lora_A=[[], []])), "adapters[0].lora_A: expected a list of rows"),
    "rows of two lengths": (document(record(lora_B=[[1], [1, 2]])), "adapters[0].lora_B: expected rows of one length"),
    "words for numbers": (document(record(lora_A=[["1", 2, 3, True]] * 2)), "adapters[0].lora_A: expected numbers"),
    "another rank": (
        document(record(rank=3)),
        "adapters[0]: lora_A (2, 4) and lora_B (4, 2) do not match rank 3",
    ),
    "another shape": (
        document(record(original_shape=[4, 5])),
        "adapters[0].original_shape: [4, 5] does not match the factors, which are of [4, 4]",
    ),
    "an entry twice": (document(record(), record()), "adapters[1]: layers.0.attention_query is held twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_document_is_refused_by_the_place_that_is_wrong(tmp_path: Path, case: str) -> None:
    value, message = BROKEN[case]
    path = write_document(tmp_path / "old.air", value)
    with pytest.raises(ForeignFormatError) as caught:
        from_legacy(path, llama_base())
    assert (caught.value.problem_code, caught.value.message) == ("legacy-document", f"{path}: {message}")


def test_a_nan_is_no_number(tmp_path: Path) -> None:
    path = write_document(tmp_path / "old.air", document(record(lora_A=[[float("nan"), 1, 1, 1]] * 2)))
    with pytest.raises(ForeignFormatError) as caught:
        from_legacy(path, llama_base())
    message = f"{path}: ual-adapter 0.1 file: not JSON in UTF-8: NaN is not a JSON number"
    assert (caught.value.problem_code, caught.value.message) == ("legacy-document", message)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (record(layer=2), "tiny has no attention_query in layer 2"),
        (record(""), "tiny has no role in layer 0"),
        (record("query"), "tiny has no query in layer 0"),
        # What the exporter made of NeoX's second MLP projection.
        (
            record("attention_output", lora_A=matrix(2, 6), original_shape=[4, 6]),
            "update of 4 x 6, the base model has 4 x 4",
        ),
        # All rows of a fused module under the role of its second slot would be a guess.
        (record("mlp_up"), "update of 4 x 4, the base model has 6 x 4"),
    ],
)
def test_an_entry_without_a_place_in_the_base_is_refused(tmp_path: Path, item: dict[str, Any], message: str) -> None:
    path = write_document(tmp_path / "old.air", document(item))
    with pytest.raises(ForeignFormatError) as caught:
        from_legacy(path, llama_base())
    assert (caught.value.problem_code, caught.value.message) == ("legacy-misfit", f"{path}: adapters[0]: {message}")
    assert (caught.value.hint or "").startswith("give the base model that it was trained on; ")


def test_a_fused_module_under_a_later_role_is_refused(tmp_path: Path) -> None:
    item = record("attention_value", lora_B=matrix(12, 2), original_shape=[12, 4])
    with pytest.raises(ForeignFormatError) as caught:
        from_legacy(write_document(tmp_path / "old.air", document(item)), gpt2_base())
    assert caught.value.message.endswith("adapters[0]: update of 12 x 4, the base model has 4 x 4")


OVERWRITTEN = (
    "holds one factor of each module where an update needs two: ual-adapter 0.1 wrote lora_A and lora_B under one "
    "name, and the second replaced the first; it still tells: "
)


def test_a_pair_is_refused_and_says_what_it_still_tells(tmp_path: Path) -> None:
    weights = write_pair(tmp_path, "old", pair_tensors())
    told = "2 tensors in 2 layers (attention_output, attention_query), of org/tiny, rank 2, alpha 4.0"
    for path in (weights, tmp_path / "old.metadata.json"):
        error = pair_refusal(path)
        assert (error.problem_code, error.message) == ("legacy-overwritten", f"{path}: {OVERWRITTEN}{told}")
        assert error.hint == "convert the PEFT folder that it was made from: 'ual convert FOLDER FILE.air --base BASE'"


@pytest.mark.parametrize("metadata", [None, []])
def test_a_pair_without_metadata_tells_what_its_tensors_do(tmp_path: Path, metadata: Any) -> None:
    nan = Tensor.of_bytes("F32", (1,), struct.pack("<f", float("nan")))
    tensors = {"layer_0.mlp_up": nan, "layer_0.mlp_down": Tensor.of_bytes("I8", (1,), b"x"), "strange": nan}
    path = write_pair(tmp_path, "old", tensors, metadata)
    told = "3 tensors in 1 layers (mlp_down, mlp_up), NaN or infinity in layer_0.mlp_up, strange"
    assert pair_refusal(path).message == f"{path}: {OVERWRITTEN}{told}"
    empty = write_pair(tmp_path, "none", {}, metadata)
    assert pair_refusal(empty).message.endswith("it still tells: 0 tensors in 0 layers (no role)")


def test_metadata_without_weights_are_a_storage_error(tmp_path: Path) -> None:
    write_pair(tmp_path, "old", pair_tensors()).unlink()
    with pytest.raises(StorageError):
        pair_refusal(tmp_path / "old.metadata.json")


def test_forms_are_recognised_by_their_own_words(tmp_path: Path) -> None:
    weights = write_pair(tmp_path, "old", pair_tensors())
    metadata = tmp_path / "old.metadata.json"
    form = write_document(tmp_path / "old.air", document())
    assert [legacy_form(path) for path in (weights, metadata, form)] == [
        LegacyForm.PAIR,
        LegacyForm.PAIR,
        LegacyForm.DOCUMENT,
    ]
    assert legacy_hint(form) == (
        f"this is a JSON file of ual-adapter 0.1: 'ual convert {form} FILE.air --base BASE' first"
    )
    assert legacy_hint(weights) == (
        "this is a file of ual-adapter 0.1, which kept one factor of each module; convert the PEFT folder instead"
    )


def test_no_other_file_is_taken_for_one(tmp_path: Path) -> None:
    from tests.handmade import small_adapter

    write(small_adapter(), tmp_path / "small.air")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_CONFIG))
    (tmp_path / "brace.bin").write_bytes(b"{" + bytes(7) + b'"metadata": ' + bytes(200))
    (tmp_path / "other.metadata.json").write_text(
        json.dumps({**PAIR_METADATA, "adapter_rank": None}).replace("_rank", "")
    )
    (tmp_path / "broken.metadata.json").write_text("{")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "list.metadata.json").write_text("[]")
    foreign = write_pair(tmp_path, "foreign", {"weight": Tensor.of_bytes("I8", (1,), b"x")})
    foreign.rename(tmp_path / "foreign.safetensors")
    (tmp_path / "foreign.metadata.json").unlink()
    others = [*sorted(tmp_path.iterdir()), tmp_path, tmp_path / "none"]
    assert [path.name for path in others if legacy_form(path) or legacy_hint(path)] == []
